//! Drops resource groups, scope groups and metrics without items.
//!
//! They mean nothing to a backend, and each costs more than its two bytes at every step: resource attributes
//! here, a struct in every decoder. The output is never larger than the input and takes one pass.

use bytes::Bytes;

use crate::otlp::schema::METRIC_DATA;
use crate::otlp::wire::{RawField, fields, put_delimited_head};
use crate::signal::Signal;

/// The tag of the groups in a request, and of the items in a metric's data.
const GROUPS: u32 = 1;
const DATA_POINTS: u32 = 1;
/// The tag of the scope groups in a group, and of the items or metrics in those.
const INNER: u32 = 2;

/// Drops the resource groups, scope groups and metrics of a validated request that hold no items.
pub fn drop_empty(signal: Signal, body: &[u8]) -> Bytes {
    let mut out = Vec::new();
    let (mut group, mut scope) = (Vec::new(), Vec::new());
    for field in fields(body) {
        if field.tag != GROUPS {
            out.extend_from_slice(field.raw);
            continue;
        }
        group.clear();
        let mut has_items = false;
        for inner in fields(field.content) {
            if inner.tag == INNER {
                has_items |= put_scope(signal, &mut group, &inner, &mut scope);
            } else {
                group.extend_from_slice(inner.raw);
            }
        }
        if has_items {
            put_message(&mut out, &field, &group);
        }
    }
    // A chunk is counted by its length, so spare capacity must go.
    out.shrink_to_fit();
    Bytes::from(out)
}

/// Writes a scope group if it has items. Returns true if it has. `scope` is a scratch buffer.
fn put_scope(signal: Signal, out: &mut Vec<u8>, field: &RawField<'_>, scope: &mut Vec<u8>) -> bool {
    if signal != Signal::Metrics {
        let has_items = fields(field.content).any(|inner| inner.tag == INNER);
        if has_items {
            out.extend_from_slice(field.raw);
        }
        return has_items;
    }
    scope.clear();
    let mut has_items = false;
    for inner in fields(field.content) {
        let is_metric = inner.tag == INNER;
        if !is_metric || has_points(inner.content) {
            has_items |= is_metric;
            scope.extend_from_slice(inner.raw);
        }
    }
    if has_items {
        put_message(out, field, scope);
    }
    has_items
}

/// Writes a field with this content, or its original bytes if nothing was dropped from it.
fn put_message(out: &mut Vec<u8>, field: &RawField<'_>, content: &[u8]) {
    if content.len() == field.content.len() {
        out.extend_from_slice(field.raw);
    } else {
        put_delimited_head(out, field.tag, content.len());
        out.extend_from_slice(content);
    }
}

/// Returns true if a metric has data points in the last member of its oneof that is set.
fn has_points(metric: &[u8]) -> bool {
    let (mut member, mut has_points) = (None, false);
    for data in fields(metric).filter(|field| METRIC_DATA.contains(&field.tag)) {
        if member != Some(data.tag) {
            (member, has_points) = (Some(data.tag), false);
        }
        has_points = has_points || fields(data.content).any(|field| field.tag == DATA_POINTS);
    }
    has_points
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::otlp::arbitrary::{Request, request};
    use crate::otlp::{Contents, inspect};

    /// One group with one item, with `count` empty groups at each level.
    fn mostly_empty(signal: Signal, count: usize) -> Vec<u8> {
        let item: &[u8] = match signal {
            // A metric with a gauge of one point.
            Signal::Metrics => &[0x12, 0x04, 0x2a, 0x02, 0x0a, 0x00],
            Signal::Logs | Signal::Traces => &[0x12, 0x00],
        };
        let mut group = Vec::new();
        put_delimited_head(&mut group, INNER, item.len());
        group.extend(item);
        group.extend([0x12, 0x00].repeat(count));
        let mut body = [0x0a, 0x00].repeat(count);
        put_delimited_head(&mut body, GROUPS, group.len());
        body.extend(group);
        body
    }

    #[test]
    fn empty_groups_are_dropped() {
        for signal in Signal::ALL {
            let body = mostly_empty(signal, 100_000);
            let before = inspect(signal, &body).unwrap();
            assert_eq!(before, Contents { items: 1, groups: 1, has_empty: true });
            let out = drop_empty(signal, &body);
            assert!(out.len() < 16, "{} bytes", out.len());
            assert_eq!(inspect(signal, &out).unwrap(), Contents { items: 1, groups: 1, has_empty: false });
        }
    }

    #[test]
    fn metrics_without_points_are_dropped() {
        let metric = |content: &[u8]| [&[0x12, u8::try_from(content.len()).unwrap()], content].concat();
        let point = [0x2a, 0x02, 0x0a, 0x00];
        // A sum without points replaces the gauge.
        let replaced = [&point[..], &[0x3a, 0x00]].concat();
        let scope = [metric(&[]), metric(&point), metric(&replaced), metric(&[0x2a, 0x00])].concat();
        let group = metric(&scope);
        let body = [vec![0x0a, u8::try_from(group.len()).unwrap()], group].concat();
        let out = drop_empty(Signal::Metrics, &body);
        assert_eq!(out, [&[0x0a, 0x08, 0x12, 0x06, 0x12, 0x04], &point[..]].concat());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn every_item_stays(request in request()) {
            let (signal, body) = (request.signal(), request.encode());
            let contents = inspect(signal, &body).unwrap();
            let out = drop_empty(signal, &body);
            prop_assert_eq!(Request::decode(signal, &out).unwrap().flatten(), request.flatten());
            prop_assert_eq!(inspect(signal, &out).unwrap(), Contents { has_empty: false, ..contents });
            prop_assert_eq!(out.len() < body.len(), contents.has_empty);
        }

        #[test]
        fn random_bytes_do_not_panic(signal in select(&Signal::ALL), bytes: Vec<u8>) {
            prop_assert!(drop_empty(signal, &bytes).len() <= bytes.len());
        }
    }
}

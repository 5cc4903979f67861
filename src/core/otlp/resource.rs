//! Edits the resources of an encoded request.
//!
//! Only the resources are decoded. Scopes and items are copied as they are; if nothing changes, nothing
//! is copied. In a large resource only the attributes that an edit affects are decoded: an attribute of two bytes takes eighty
//! bytes once decoded.

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::{DecodeError, Message as _};

use crate::otlp::wire::{RawField, delimited_len, fields, put_delimited_head};
use crate::signal::Signal;

/// The tag of `resource_logs`, `resource_metrics` and `resource_spans` in their requests.
const RESOURCE_GROUPS: u32 = 1;
/// The tag of `resource` in each of those.
const RESOURCE: u32 = 1;
/// The tags that [`Resource`] decodes: attributes, dropped attributes count, entity refs.
const KNOWN_TAGS: std::ops::RangeInclusive<u32> = 1..=3;

/// A longer encoded resource, in bytes, is not remembered beyond its request.
const MAX_REMEMBERED_BYTES: usize = 4096;

/// A longer encoded resource, in bytes, is not decoded whole.
const MAX_DECODED_BYTES: usize = 64 << 10;
/// The tag of `attributes` in a resource, and of `key` in each of those.
const ATTRIBUTES: u32 = 1;
const KEY: u32 = 1;

/// The result of the last edit. An SDK sends the same resource with every request, and decoding and editing it
/// takes an allocation per key and value. Start with a new one whenever the edit function changes.
#[derive(Clone, Debug, Default)]
pub struct LastEdit(Option<Edit>);

#[derive(Clone, Debug)]
struct Edit {
    /// The resource as received, with all its fragments.
    before: Vec<u8>,
    /// The encoding after the edit, if the edit changed it.
    after: Option<Vec<u8>>,
}

/// Passes every resource of a validated request to `edit`, which returns whether it changed it, and replaces
/// the changed ones. A group without a resource counts as one with an empty resource. A resource equal to the
/// last one is not passed again.
///
/// All else stays byte for byte, including unknown fields of a resource. If nothing changes, returns the
/// request itself, not a copy.
pub fn edit_resources(
    // Resources have the same tags in all three requests, but callers need not know that.
    _signal: Signal,
    body: &Bytes,
    last: &mut LastEdit,
    mut edit: impl FnMut(&mut Resource) -> bool,
) -> Bytes {
    // Nothing is copied before the first change; then everything skipped so far is.
    let mut edited: Option<Vec<u8>> = None;
    let mut skipped = 0;
    for field in fields(body) {
        let changed = if field.tag == RESOURCE_GROUPS { last.of(field.content, &mut edit) } else { None };
        if let Some(resource) = changed {
            let out = edited.get_or_insert_with(|| {
                let mut out = Vec::with_capacity(body.len() + resource.len());
                out.extend(body.iter().take(skipped));
                out
            });
            put_with_resource(out, field.content, resource);
        } else if let Some(out) = &mut edited {
            out.extend_from_slice(field.raw);
        }
        skipped += field.raw.len();
    }
    last.0.take_if(|edit| edit.before.len() > MAX_REMEMBERED_BYTES);
    match edited {
        // A chunk is counted by its length, so it must not have spare capacity.
        Some(out) => Bytes::from(out.into_boxed_slice()),
        None => body.clone(),
    }
}

impl LastEdit {
    /// The encoding of the group's resource after the edit, if the edit changed it.
    fn of(&mut self, group: &[u8], edit: impl FnMut(&mut Resource) -> bool) -> Option<&[u8]> {
        let last = match self.0.take().filter(|last| last.applies_to(group)) {
            Some(last) => last,
            None => Edit::new(group, edit)?,
        };
        self.0.insert(last).after.as_deref()
    }
}

impl Edit {
    fn new(group: &[u8], edit: impl FnMut(&mut Resource) -> bool) -> Option<Self> {
        let mut before = Vec::new();
        for field in resource_fields(group) {
            before.extend_from_slice(field.raw);
        }
        let after = if before.len() > MAX_DECODED_BYTES {
            edit_large(group, edit)
        } else {
            edit_small(group, edit).ok()?
        };
        Some(Self { before, after })
    }

    /// Returns true if this is the edit of the group's resource.
    fn applies_to(&self, group: &[u8]) -> bool {
        let mut pieces = resource_fields(group);
        let rest = pieces.try_fold(self.before.as_slice(), |rest, piece| rest.strip_prefix(piece.raw));
        rest.is_some_and(<[u8]>::is_empty)
    }
}

/// Decodes and edits the group's resource. Returns its encoding if the edit changed it.
fn edit_small(
    group: &[u8],
    mut edit: impl FnMut(&mut Resource) -> bool,
) -> Result<Option<Vec<u8>>, DecodeError> {
    let mut resource = Resource::default();
    for field in resource_fields(group) {
        // Fragments of a message merge.
        resource.merge(field.content)?;
    }
    if !edit(&mut resource) {
        return Ok(None);
    }
    let mut after = resource.encode_to_vec();
    for piece in resource_fields(group) {
        for field in fields(piece.content).filter(|field| !KNOWN_TAGS.contains(&field.tag)) {
            after.extend_from_slice(field.raw);
        }
    }
    Ok(Some(after))
}

/// Edits a resource without decoding it whole. The edit gets the first attribute of each key that it would add
/// to an empty resource; all others stay as they are.
fn edit_large(group: &[u8], mut edit: impl FnMut(&mut Resource) -> bool) -> Option<Vec<u8>> {
    let mut added = Resource::default();
    edit(&mut added);
    let mut pending: Vec<_> = added.attributes.into_iter().map(|attribute| attribute.key).collect();
    let (mut shown, mut kept) = (Resource::default(), Vec::new());
    for field in resource_fields(group).flat_map(|piece| fields(piece.content)) {
        let is_decoded = field.tag == ATTRIBUTES && field.content.len() <= MAX_DECODED_BYTES;
        let index = if is_decoded { key_index(&pending, field.content) } else { None };
        match index.and_then(|index| Some((index, KeyValue::decode(field.content).ok()?))) {
            Some((index, attribute)) => {
                pending.swap_remove(index);
                shown.attributes.push(attribute);
            }
            _ => kept.extend_from_slice(field.raw),
        }
    }
    edit(&mut shown).then(|| [kept, shown.encode_to_vec()].concat())
}

/// The index of the attribute's key among the keys.
fn key_index(keys: &[String], attribute: &[u8]) -> Option<usize> {
    let key = fields(attribute).filter(|field| field.tag == KEY).last()?.content;
    keys.iter().position(|pending| pending.as_bytes() == key)
}

/// Writes a group with this resource at the position of its first one, or at the start if it had none.
fn put_with_resource(out: &mut Vec<u8>, group: &[u8], resource: &[u8]) {
    let old: usize = resource_fields(group).map(|field| field.raw.len()).sum();
    put_delimited_head(out, RESOURCE_GROUPS, group.len() - old + delimited_len(RESOURCE, resource.len()));
    let mut is_pending = true;
    let mut put_resource = |out: &mut Vec<u8>| {
        if std::mem::take(&mut is_pending) {
            put_delimited_head(out, RESOURCE, resource.len());
            out.extend_from_slice(resource);
        }
    };
    if old == 0 {
        put_resource(out);
    }
    for field in fields(group) {
        if field.tag == RESOURCE {
            put_resource(out);
        } else {
            out.extend_from_slice(field.raw);
        }
    }
}

fn resource_fields(group: &[u8]) -> impl Iterator<Item = RawField<'_>> {
    fields(group).filter(|field| field.tag == RESOURCE)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::otlp::arbitrary::{Request, request};

    fn add(resource: &mut Resource, key: &str) {
        resource.attributes.push(KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(any_value::Value::StringValue("ours".to_owned())) }),
            key_strindex: 0,
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn edit_equals_decode_edit_encode(request in request(), which in [any::<bool>(); 3]) {
            let body = request.encode();
            let edit = |resource: &mut Resource| {
                let change = which[resource.attributes.len() % 3];
                if change {
                    add(resource, "cloud.provider");
                }
                change
            };
            let mut last = LastEdit::default();
            let edited = edit_resources(request.signal(), &body, &mut last, edit);
            let mut reference = request;
            for resource in reference.resources() {
                let mut copy = resource.clone().unwrap_or_default();
                if edit(&mut copy) {
                    *resource = Some(copy);
                }
            }
            prop_assert_eq!(&edited, &reference.encode());
            prop_assert_eq!(Request::decode(reference.signal(), &edited).unwrap(), reference);
        }

        #[test]
        fn earlier_edits_make_no_difference(first in request(), second in request()) {
            let edit = |resource: &mut Resource| {
                add(resource, "cloud.provider");
                true
            };
            let (mut last, second) = (LastEdit::default(), (second.signal(), second.encode()));
            for (signal, body) in [(first.signal(), first.encode()), second.clone(), second] {
                let anew = edit_resources(signal, &body, &mut LastEdit::default(), edit);
                prop_assert_eq!(edit_resources(signal, &body, &mut last, edit), anew);
            }
        }

        #[test]
        fn unchanged_request_is_not_copied(request in request()) {
            let body = request.encode();
            let same = edit_resources(request.signal(), &body, &mut LastEdit::default(), |_| false);
            prop_assert_eq!(same.as_ptr(), body.as_ptr());
            prop_assert_eq!(same.len(), body.len());
        }

        #[test]
        fn random_bytes_do_not_panic(signal in select(&Signal::ALL), bytes: Vec<u8>) {
            edit_resources(signal, &Bytes::from(bytes), &mut LastEdit::default(), |resource| {
                add(resource, "cloud.provider");
                true
            });
        }
    }

    #[test]
    fn repeated_resource_is_edited_once_unless_large() {
        let body = |size: usize| {
            let mut resource = Resource::default();
            add(&mut resource, &"k".repeat(size));
            let mut group = Vec::new();
            put_delimited_head(&mut group, RESOURCE, resource.encoded_len());
            group.extend(resource.encode_to_vec());
            let mut body = Vec::new();
            put_delimited_head(&mut body, RESOURCE_GROUPS, group.len());
            Bytes::from([body, group].concat())
        };
        let mut last = LastEdit::default();
        for (size, shown) in
            [(1, 1), (1, 0), (2, 1), (1, 1), (MAX_REMEMBERED_BYTES, 1), (MAX_REMEMBERED_BYTES, 1)]
        {
            let mut count = 0;
            edit_resources(Signal::Traces, &body(size), &mut last, |_| {
                count += 1;
                false
            });
            assert_eq!(count, shown, "{size}");
        }
    }

    #[test]
    fn large_resources_are_edited_in_part() {
        let mut resource = Resource::default();
        add(&mut resource, "faas.name");
        for nth in 0..40_000 {
            add(&mut resource, &format!("key {nth}"));
        }
        let mut group = Vec::new();
        put_delimited_head(&mut group, RESOURCE, resource.encoded_len());
        group.extend(resource.encode_to_vec());
        let mut body = Vec::new();
        put_delimited_head(&mut body, RESOURCE_GROUPS, group.len());
        let body = Bytes::from([body, group].concat());
        let mut seen = Vec::new();
        let edit = |resource: &mut Resource| {
            seen.push(resource.attributes.len());
            for key in ["faas.name", "cloud.provider"] {
                resource.attributes.retain(|attribute| attribute.key != key);
                add(resource, key);
            }
            true
        };
        let edited = edit_resources(Signal::Traces, &body, &mut LastEdit::default(), edit);
        assert_eq!(seen, [0, 1]);
        let Request::Traces(mut request) = Request::decode(Signal::Traces, &edited).unwrap() else {
            unreachable!()
        };
        let mut keys: Vec<_> = request.resource_spans.remove(0).resource.unwrap().attributes;
        assert_eq!(keys.len(), 40_002);
        let last: Vec<_> = keys.split_off(40_000).into_iter().map(|attribute| attribute.key).collect();
        assert_eq!(last, ["faas.name", "cloud.provider"]);

        let same = edit_resources(Signal::Traces, &body, &mut LastEdit::default(), |_| false);
        assert_eq!(same.as_ptr(), body.as_ptr());
    }

    #[test]
    fn fragmented_resource_merges_and_keeps_unknown_fields() {
        // Tag 15, a number: of the request, of the group and of both pieces of the resource.
        let unknown = [0x78, 0x07];
        let mut pieces = [Resource::default(), Resource::default()];
        add(&mut pieces[0], "first");
        add(&mut pieces[1], "second");
        let mut group = unknown.to_vec();
        for piece in &pieces {
            let content = [piece.encode_to_vec(), unknown.to_vec()].concat();
            put_delimited_head(&mut group, RESOURCE, content.len());
            group.extend(content);
        }
        group.extend([0x1a, 0x01, b's']);
        let mut body = unknown.to_vec();
        put_delimited_head(&mut body, RESOURCE_GROUPS, group.len());
        body.extend(group);

        let mut seen = Vec::new();
        let edited = edit_resources(Signal::Logs, &Bytes::from(body), &mut LastEdit::default(), |resource| {
            seen.extend(resource.attributes.iter().map(|attribute| attribute.key.clone()));
            add(resource, "third");
            true
        });
        assert_eq!(seen, ["first", "second"]);

        let mut whole = Resource::default();
        for key in ["first", "second", "third"] {
            add(&mut whole, key);
        }
        let content = [&whole.encode_to_vec()[..], &unknown, &unknown].concat();
        let mut group = unknown.to_vec();
        put_delimited_head(&mut group, RESOURCE, content.len());
        group.extend(content);
        group.extend([0x1a, 0x01, b's']);
        let mut expected = unknown.to_vec();
        put_delimited_head(&mut expected, RESOURCE_GROUPS, group.len());
        expected.extend(group);
        assert_eq!(edited, expected);
    }
}

//! The replacing of resources in an encoded request.
//!
//! Only the resources are decoded; scopes and items are copied as they are, and not even that if nothing changes. Of a
//! large resource only the attributes are decoded that an edit is about: decoded, an attribute of two bytes takes eighty.

use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::{DecodeError, Message as _};

use crate::otlp::wire::{Field, delimited_len, fields, put_delimited_head};
use crate::signal::Signal;

/// The tag of `resource_logs`, `resource_metrics` and `resource_spans` in their requests.
const RESOURCE_ITEMS: u32 = 1;
/// The tag of `resource` in each of those.
const RESOURCE: u32 = 1;
/// The tags that [`Resource`] knows: attributes, dropped attributes count, entity refs.
const KNOWN: std::ops::RangeInclusive<u32> = 1..=3;

/// Bytes; a resource that came in more is not remembered beyond its request.
const REMEMBERED_MOST: usize = 4096;

/// Bytes; a resource that came in more is not decoded whole.
const DECODED_MOST: usize = 64 << 10;
/// The tag of `attributes` in a resource, and of `key` in each of those.
const ATTRIBUTES: u32 = 1;
const KEY: u32 = 1;

/// What became of a resource: an SDK sends the same one with every request, and to decode and edit it takes an allocation for
/// each of its keys and values. Whoever changes what an edit does starts with a new one.
#[derive(Clone, Debug, Default)]
pub struct LastEdit(Option<Edit>);

#[derive(Clone, Debug)]
struct Edit {
    /// As it came, in all its pieces.
    before: Vec<u8>,
    /// The encoding after the edit, if the edit has changed it.
    after: Option<Vec<u8>>,
}

/// Shows every resource of a validated request to `edit`, which says whether it has changed it, and puts the changed
/// ones in place of the old. A group of items without a resource counts as one with an empty resource. One like the last
/// is not shown again.
///
/// All else stays byte for byte, fields of a resource that we do not know among it. If nothing is changed, the answer is
/// the request itself, not copied.
pub fn edit_resources(
    // The three requests hold their resources alike, but that is for this module to know.
    _signal: Signal,
    body: &Bytes,
    last: &mut LastEdit,
    mut edit: impl FnMut(&mut Resource) -> bool,
) -> Bytes {
    // Nothing is copied before the first change, and then all that was passed over.
    let mut edited: Option<Vec<u8>> = None;
    let mut passed = 0;
    for field in fields(body) {
        let changed = if field.tag == RESOURCE_ITEMS { last.of(field.content, &mut edit) } else { None };
        if let Some(resource) = changed {
            let out = edited.get_or_insert_with(|| {
                let mut out = Vec::with_capacity(body.len() + resource.len());
                out.extend(body.iter().take(passed));
                out
            });
            put_with_resource(out, field.content, resource);
        } else if let Some(out) = &mut edited {
            out.extend_from_slice(field.raw);
        }
        passed += field.raw.len();
    }
    last.0.take_if(|edit| edit.before.len() > REMEMBERED_MOST);
    match edited {
        // A chunk is accounted for by its length, so it is to hold no more than that.
        Some(out) => Bytes::from(out.into_boxed_slice()),
        None => body.clone(),
    }
}

impl LastEdit {
    /// The encoding of the group's resource after the edit, if the edit has changed it.
    fn of(&mut self, group: &[u8], edit: impl FnMut(&mut Resource) -> bool) -> Option<&[u8]> {
        let last = match self.0.take().filter(|last| last.is_of(group)) {
            Some(last) => last,
            None => Edit::make(group, edit)?,
        };
        self.0.insert(last).after.as_deref()
    }
}

impl Edit {
    fn make(group: &[u8], edit: impl FnMut(&mut Resource) -> bool) -> Option<Self> {
        let mut before = Vec::new();
        for field in resource_fields(group) {
            before.extend_from_slice(field.raw);
        }
        let after = if before.len() > DECODED_MOST {
            edit_large(group, edit)
        } else {
            edit_small(group, edit).ok()?
        };
        Some(Self { before, after })
    }

    /// Whether it is the edit of the group's resource.
    fn is_of(&self, group: &[u8]) -> bool {
        let mut pieces = resource_fields(group);
        let rest = pieces.try_fold(self.before.as_slice(), |rest, piece| rest.strip_prefix(piece.raw));
        rest.is_some_and(<[u8]>::is_empty)
    }
}

/// The encoding of the group's resource after the edit, if that has changed it.
fn edit_small(
    group: &[u8],
    mut edit: impl FnMut(&mut Resource) -> bool,
) -> Result<Option<Vec<u8>>, DecodeError> {
    let mut resource = Resource::default();
    for field in resource_fields(group) {
        // A message that comes in several pieces is their merger.
        resource.merge(field.content)?;
    }
    if !edit(&mut resource) {
        return Ok(None);
    }
    let mut after = resource.encode_to_vec();
    for piece in resource_fields(group) {
        for field in fields(piece.content).filter(|field| !KNOWN.contains(&field.tag)) {
            after.extend_from_slice(field.raw);
        }
    }
    Ok(Some(after))
}

/// The same of a resource that is not to be decoded whole. The edit is shown the attributes that it would give to an empty
/// resource, the first of each key; all others stay as they are.
fn edit_large(group: &[u8], mut edit: impl FnMut(&mut Resource) -> bool) -> Option<Vec<u8>> {
    let mut given = Resource::default();
    edit(&mut given);
    let mut pending: Vec<_> = given.attributes.into_iter().map(|attribute| attribute.key).collect();
    let (mut shown, mut kept) = (Resource::default(), Vec::new());
    for field in resource_fields(group).flat_map(|piece| fields(piece.content)) {
        let is_decoded = field.tag == ATTRIBUTES && field.content.len() <= DECODED_MOST;
        let place = if is_decoded { place_of_key(&pending, field.content) } else { None };
        match place.and_then(|place| Some((place, KeyValue::decode(field.content).ok()?))) {
            Some((place, attribute)) => {
                pending.swap_remove(place);
                shown.attributes.push(attribute);
            }
            _ => kept.extend_from_slice(field.raw),
        }
    }
    edit(&mut shown).then(|| [kept, shown.encode_to_vec()].concat())
}

/// Which of the keys the attribute has.
fn place_of_key(keys: &[String], attribute: &[u8]) -> Option<usize> {
    let key = fields(attribute).filter(|field| field.tag == KEY).last()?.content;
    keys.iter().position(|pending| pending.as_bytes() == key)
}

/// Writes a group of items with this resource at the place of its first one; at the start, if it had none.
fn put_with_resource(out: &mut Vec<u8>, group: &[u8], resource: &[u8]) {
    let old: usize = resource_fields(group).map(|field| field.raw.len()).sum();
    put_delimited_head(out, RESOURCE_ITEMS, group.len() - old + delimited_len(RESOURCE, resource.len()));
    let mut due = true;
    let mut put_resource = |out: &mut Vec<u8>| {
        if std::mem::take(&mut due) {
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

fn resource_fields(group: &[u8]) -> impl Iterator<Item = Field<'_>> {
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
        fn an_edit_does_what_decoding_editing_and_encoding_does(request in request(), which in [any::<bool>(); 3]) {
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
        fn what_was_edited_before_makes_no_difference(first in request(), second in request()) {
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
        fn no_change_costs_no_copy(request in request()) {
            let body = request.encode();
            let same = edit_resources(request.signal(), &body, &mut LastEdit::default(), |_| false);
            prop_assert_eq!(same.as_ptr(), body.as_ptr());
            prop_assert_eq!(same.len(), body.len());
        }

        #[test]
        fn random_bytes_do_no_harm(signal in select(&Signal::ALL), bytes: Vec<u8>) {
            edit_resources(signal, &Bytes::from(bytes), &mut LastEdit::default(), |resource| {
                add(resource, "cloud.provider");
                true
            });
        }
    }

    #[test]
    fn one_like_the_last_is_not_shown_again_unless_it_is_large() {
        let body = |size: usize| {
            let mut resource = Resource::default();
            add(&mut resource, &"k".repeat(size));
            let mut group = Vec::new();
            put_delimited_head(&mut group, RESOURCE, resource.encoded_len());
            group.extend(resource.encode_to_vec());
            let mut body = Vec::new();
            put_delimited_head(&mut body, RESOURCE_ITEMS, group.len());
            Bytes::from([body, group].concat())
        };
        let mut last = LastEdit::default();
        for (size, shown) in [(1, 1), (1, 0), (2, 1), (1, 1), (REMEMBERED_MOST, 1), (REMEMBERED_MOST, 1)] {
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
        put_delimited_head(&mut body, RESOURCE_ITEMS, group.len());
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
    fn a_resource_in_pieces_is_one_and_unknown_fields_stay() {
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
        put_delimited_head(&mut body, RESOURCE_ITEMS, group.len());
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
        put_delimited_head(&mut expected, RESOURCE_ITEMS, group.len());
        expected.extend(group);
        assert_eq!(edited, expected);
    }
}

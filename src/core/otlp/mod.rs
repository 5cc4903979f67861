//! OTLP's wire format, worked on without decoding it whole.
//!
//! A request of an SDK is kept as the bytes that came ([`crate::chunk`]). What we must know of it, and the little
//! that we change in it, is done on those bytes: [`validate()`] checks them at the door and counts them,
//! [`edit_resources`] replaces only the resources, [`split()`] cuts what is too large for one export,
//! [`invocation_spans`] finds the spans that stand for an invocation and [`stamp()`] names one in log records.
//! OTLP/JSON is turned into the same bytes by [`json_to_protobuf`] and then treated alike. [`drop_empty`] drops groups
//! without items, and [`replace_invalid_utf8`] fixes texts that are not UTF-8.
//!
//! All but [`validate()`], [`json_to_protobuf`] and [`replace_invalid_utf8`] take bytes that have been validated. Given others
//! they do not panic, and what they answer is of no use.
//!
//! Bounds: each takes one or two passes. Out of [`json_to_protobuf`] and [`split()`] come at most four times the bytes that
//! go in and [`GROWTH_SLACK`], out of [`replace_invalid_utf8`] three times, out of [`drop_empty`] never more. An edit adds to
//! each group what its closure adds: the receiver refuses requests with too many groups for their size.

#[cfg(test)]
pub(crate) mod arbitrary;
pub mod attribute;
pub mod canary;
mod empty;
pub mod google_rpc;
mod json;
pub mod request;
mod resource;
mod schema;
mod spans;
mod split;
mod stamp;
mod utf8;
mod validate;
pub(crate) mod wire;

pub use empty::drop_empty;
pub use json::{JsonError, json_to_protobuf};
pub use resource::{LastEdit, edit_resources};
pub use spans::{InvocationSpan, invocation_spans};
pub use split::{GROWTH_SLACK, Limits, Part, most_repeated, split};
pub use stamp::{STAMP_MAX, names_a_trace, stamp};
pub use utf8::replace_invalid_utf8;
pub use validate::{Contents, Inspection, Malformed, inspect, validate};
pub use wire::Fault;

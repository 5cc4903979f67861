//! Operations on encoded OTLP requests that avoid decoding them whole.
//!
//! An SDK's request is kept as the bytes that were received ([`crate::chunk`]). Everything that we need to know
//! or change is done on those bytes: [`validate()`] checks and counts them on receipt, [`edit_resources`]
//! replaces only the resources, [`split()`] splits a request that is too large for one export,
//! [`invocation_spans`] finds the spans that represent an invocation, and [`stamp()`] writes a trace context
//! into log records. [`json_to_protobuf`] converts OTLP/JSON to the same bytes, which are then treated alike.
//! [`decoded_size()`] estimates the memory of a decoded request. [`drop_empty`] drops groups without items,
//! and [`replace_invalid_utf8`] repairs texts that are not UTF-8.
//!
//! All functions but [`validate()`], [`json_to_protobuf`] and [`replace_invalid_utf8`] expect validated bytes.
//! Given others, they do not panic, but their result is meaningless.
//!
//! Bounds: each function takes one or two passes. [`json_to_protobuf`] and [`split()`] return at most four
//! times their input plus [`GROWTH_SLACK`], [`replace_invalid_utf8`] at most three times its input, and
//! [`drop_empty`] never more than its input. An edit adds to each group what its closure adds: the receiver
//! refuses requests with too many groups for their size.

#[cfg(test)]
pub(crate) mod arbitrary;
pub mod attribute;
pub mod canary;
mod decoded_size;
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

pub use decoded_size::decoded_size;
pub use empty::drop_empty;
pub use json::{JsonError, json_to_protobuf};
pub use resource::{LastEdit, edit_resources};
pub use spans::{InvocationSpan, invocation_spans};
pub use split::{GROWTH_SLACK, Limits, RequestPart, max_repeated_bytes, split};
pub use stamp::{MAX_STAMP_LEN, has_trace_ids, stamp};
pub use utf8::replace_invalid_utf8;
pub use validate::{Contents, Inspection, MalformedRequest, inspect, validate};
pub use wire::WireError;

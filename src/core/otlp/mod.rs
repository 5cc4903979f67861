//! OTLP's wire format, worked on without decoding it whole.
//!
//! A request of an SDK is kept as the bytes that came ([`crate::chunk`]). What we must know of it, and the little
//! that we change in it, is done on those bytes: [`validate()`] checks them at the door and counts them,
//! [`edit_resources`] replaces only the resources, [`split()`] cuts what is too large for one export,
//! [`invocation_spans`] finds the spans that stand for an invocation and [`stamp()`] names one in log records.
//! OTLP/JSON is turned into the same bytes by [`json_to_protobuf`] and then treated alike.
//!
//! All but [`validate()`] and [`json_to_protobuf`] take bytes that have been validated. Given others they do not panic,
//! and what they answer is of no use.

#[cfg(test)]
pub(crate) mod arbitrary;
mod json;
mod resource;
mod schema;
mod spans;
mod split;
mod stamp;
mod validate;
pub(crate) mod wire;

pub use json::json_to_protobuf;
pub use resource::{LastEdit, edit_resources};
pub use spans::{InvocationSpan, invocation_spans};
pub use split::{Limits, Part, split};
pub use stamp::{STAMP_MOST, names_a_trace, stamp};
pub use validate::{Malformed, validate};
pub use wire::Fault;

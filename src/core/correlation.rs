//! Which span stands for which invocation.

pub use crate::core::trace_context::TraceContext;

//! The Lambda platform: its lifecycle, its Telemetry API, and what both say about invocations.

pub mod correlation;
mod invocation_span;
pub mod lifecycle;
pub mod platform;
pub mod telemetry_api;
pub mod xray;

pub use self::invocation_span::invocation_span;

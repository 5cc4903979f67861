//! The Lambda platform: the lifecycle, the Telemetry API, and the telemetry derived from both.

pub mod correlation;
mod invocation_span;
pub mod lifecycle;
pub mod platform;
pub mod telemetry_api;
pub mod xray;

pub use self::invocation_span::invocation_span;

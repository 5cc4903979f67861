//! An emulated Lambda execution environment.

pub use collector::Collector;
pub use error::Error;

mod address;
mod board;
mod clock;
pub mod collector;
mod error;
mod id;
pub mod otlp;

//! The top floor: wires core and edge together and owns the tasks.

mod backends;
pub mod check;
pub mod driver;
#[cfg(feature = "failpoints")]
mod failpoints;
pub mod intake;
pub mod pipeline;
mod reported_errors;
pub mod sdk;
pub mod settings;
pub mod startup;
pub mod tasks;

//! The top floor: wires core and edge together and owns the tasks.

mod backends;
pub mod check;
pub mod driver;
mod faults;
pub mod intake;
pub mod pipeline;
pub mod sdk;
pub mod settings;
pub mod startup;
pub mod tasks;

//! `rotel-extension`.

pub mod core;
pub mod edge;

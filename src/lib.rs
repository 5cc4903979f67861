//! `rotel-extension`.

pub mod core;

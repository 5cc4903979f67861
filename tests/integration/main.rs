//! The extension's tests on the emulated environment: one binary, which links once, with a module for each subject.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and shows figures"
)]

mod backend_answers;
mod check;
mod collector_yaml;
mod config_errors;
mod credential_leaks;
mod delivery;
mod e2e_runner;
mod execution_environments;
mod export;
mod exporter_options;
mod flush_before_next;
mod flush_strategies;
mod fuzz_corpora;
mod hostile_input;
mod layer_publish;
mod log_correlation;
mod log_feedback;
mod log_formats;
mod multiple_exporters;
mod outages;
mod own_metrics;
mod platform_events;
mod platform_faults;
mod process;
mod proxies;
mod secrets;
mod settings;
mod task_failures;
mod telemetry_api;

//! `--check`, against collectors and other servers that have what people meet wrong with them.

mod account;
mod collector_yaml;
mod configuration;
mod credentials;
mod harness;
mod network;
mod protocol;
mod refusals;
mod secrets;
mod server;
mod tls;

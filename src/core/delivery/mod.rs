//! Delivery to the backends: what is kept, when it is sent, and what becomes of it.

pub mod breaker;
pub mod budget;
pub mod buffer;
pub mod health;
pub mod probe_budget;
pub mod tally;
pub mod verdict;

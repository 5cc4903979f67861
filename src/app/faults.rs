//! Faults, each told once.

use crate::core::echo;

/// Those that are known.
#[derive(Clone, Default)]
pub(super) struct Faults(Vec<String>);

impl Faults {
    /// Takes these in; answers with those that are new.
    pub(super) fn take_in<F: ToString>(&mut self, faults: impl IntoIterator<Item = F>) -> Vec<String> {
        let known = self.0.len();
        for fault in faults {
            // Whoever wrote a part of it, it is one line of the log.
            let fault = echo::one_line(&fault.to_string());
            if !self.0.contains(&fault) {
                self.0.push(fault);
            }
        }
        self.0.get(known..).unwrap_or_default().to_vec()
    }

    /// Writes a line of the log for each that is new.
    pub(super) fn tell<F: ToString>(&mut self, faults: impl IntoIterator<Item = F>) {
        for fault in self.take_in(faults) {
            tracing::error!("{fault}");
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them in one line; none where there are none.
    pub(super) fn all(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join("; "))
    }
}

//! The accepted figures, in a committed file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::toolchain::Toolchain;

/// The maximum growth of a figure, in percent.
pub(super) const MAY_GROW: u64 = 3;

/// The figures by name, with the toolchain they were measured with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Baseline {
    pub(super) toolchain: Toolchain,
    pub(super) figures: BTreeMap<String, u64>,
}

/// Why there is no baseline.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaselineError {
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{path}: {source}", path = path.display())]
    Form { path: PathBuf, source: serde_json::Error },
}

/// The result of comparing a figure with the accepted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has not grown by more than the limit.
    Holds,
    /// It has shrunk by more than the limit, which is worth keeping.
    Better,
    /// It has grown by more than the limit.
    Grown,
    /// There is no accepted figure yet.
    New,
}

impl Baseline {
    /// Reads the file; a missing file is an empty baseline.
    pub(super) fn read(path: &Path) -> Result<Self, BaselineError> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { toolchain: Toolchain::default(), figures: BTreeMap::new() });
            }
            Err(source) => return Err(BaselineError::File { path: path.to_owned(), source }),
        };
        serde_json::from_slice(&text).map_err(|source| BaselineError::Form { path: path.to_owned(), source })
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), BaselineError> {
        let form = |source| BaselineError::Form { path: path.to_owned(), source };
        let text = serde_json::to_string_pretty(self).map_err(form)?;
        let file = |source| BaselineError::File { path: path.to_owned(), source };
        std::fs::write(path, text + "\n").map_err(file)
    }

    /// Compares a figure with the accepted one; returns the verdict and the accepted figure.
    pub(super) fn judge(&self, name: &str, figure: u64) -> (Verdict, Option<u64>) {
        let Some(accepted) = self.figures.get(name).copied() else { return (Verdict::New, None) };
        let verdict = if figure * 100 > accepted * (100 + MAY_GROW) {
            Verdict::Grown
        } else if figure * 100 < accepted * (100 - MAY_GROW) {
            Verdict::Better
        } else {
            Verdict::Holds
        };
        (verdict, Some(accepted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline() -> Baseline {
        let figures = [("x".to_owned(), 1_000)].into();
        Baseline { toolchain: Toolchain::default(), figures }
    }

    #[test]
    fn growth_beyond_three_percent_fails() {
        let judge = |figure| baseline().judge("x", figure).0;
        assert_eq!((judge(1_030), judge(1_031)), (Verdict::Holds, Verdict::Grown));
        assert_eq!((judge(970), judge(969)), (Verdict::Holds, Verdict::Better));
        assert_eq!(baseline().judge("y", 1), (Verdict::New, None));
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("baseline.json");
        assert!(Baseline::read(&path).unwrap().figures.is_empty());
        baseline().write(&path).unwrap();
        assert_eq!(Baseline::read(&path).unwrap(), baseline());
        std::fs::write(&path, "{}").unwrap();
        assert!(Baseline::read(&path).is_err());
    }
}

//! The things a count depends on besides the code: compiler, valgrind, C library, and the CPU as valgrind shows it.

use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::valgrind::{self, CountError};

/// The toolchain that a baseline was measured with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Toolchain {
    rustc: String,
    valgrind: String,
    libc: String,
    cpu: String,
}

impl Toolchain {
    /// Detects the current toolchain.
    pub(super) async fn current() -> Result<Self, CountError> {
        Ok(Self {
            rustc: first_line("rustc", "--version").await,
            valgrind: valgrind::version().await?,
            libc: first_line("ldd", "--version").await,
            cpu: format!("{}{}", std::env::consts::ARCH, features()),
        })
    }

    /// The differences from the baseline, one line each.
    pub(super) fn differences(&self, baseline: &Self) -> Vec<String> {
        let pairs = [
            (&baseline.rustc, &self.rustc),
            (&baseline.valgrind, &self.valgrind),
            (&baseline.libc, &self.libc),
            (&baseline.cpu, &self.cpu),
        ];
        let differing = pairs.into_iter().filter(|(then, now)| then != now);
        differing
            .map(|(then, now)| format!("the baseline was taken with {then:?}, this is {now:?}"))
            .collect()
    }
}

/// Code that checks for wide vectors takes another path if there are none; valgrind shows the machine's up to AVX2.
fn features() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        return " with AVX2";
    }
    ""
}

async fn first_line(program: &str, argument: &str) -> String {
    let ran = Command::new(program).arg(argument).output().await;
    let text = ran.map(|ran| String::from_utf8_lossy(&ran.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("none").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differences_are_named() {
        let then = Toolchain { rustc: "rustc 1".into(), libc: "ldd 2".into(), ..Toolchain::default() };
        assert!(then.differences(&then).is_empty());
        let now = Toolchain { rustc: "rustc 2".into(), ..then.clone() };
        let text = r#"the baseline was taken with "rustc 1", this is "rustc 2""#;
        assert_eq!(now.differences(&then), [text]);
    }
}

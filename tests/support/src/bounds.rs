//! The bounds on what hostile input may cost (`tests/integration/hostile_input`). `make abuse` gathers the figures in a table.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use lambda_sandbox::Extension;

const MIB: u64 = 1024 * 1024;

/// The memory of the smallest function, which the extension shares with it.
const CGROUP_BYTES: u64 = 128 * MIB;

/// The table, which `make abuse` clears and prints.
const TABLE: &str = "target/abuse.txt";

/// Returns true if the tests run the release binary, for which no case is too long.
pub fn is_release() -> bool {
    cfg!(feature = "bounds")
}

/// Asserts that a case took less memory than `bound`, both in bytes.
#[track_caller]
pub fn assert_memory(case: impl Display, measured: u64, bound: u64) {
    let mib = |bytes: u64| format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB);
    assert_bound(&format!("{case}: memory"), &mib(measured), &mib(bound), measured < bound);
}

/// Asserts that a case took less time than `bound`.
#[track_caller]
pub fn assert_time(case: impl Display, measured: Duration, bound: Duration) {
    let millis = |time: Duration| format!("{} ms", time.as_millis());
    assert_bound(&format!("{case}: time"), &millis(measured), &millis(bound), measured < bound);
}

/// Asserts that a case produced at most `bound` of something, such as bytes or log lines.
#[track_caller]
pub fn assert_count(case: impl Display, measured: usize, bound: usize) {
    assert_bound(&case.to_string(), &measured.to_string(), &bound.to_string(), measured <= bound);
}

#[track_caller]
fn assert_bound(case: &str, measured: &str, bound: &str, holds: bool) {
    if cfg!(feature = "bounds") {
        let verdict = if holds { "ok" } else { "MISS" };
        let table = OpenOptions::new().append(true).create(true).open(root().join(TABLE));
        // One write a row: tests run in parallel.
        let row = format!("{verdict:4} | {case:90} | {measured:>12} | {bound:>12}\n");
        table.and_then(|mut table| table.write_all(row.as_bytes())).expect("the table can be written");
    }
    assert!(holds, "{case}: {measured}, and the bound is {bound}");
}

/// The extension in a memory cgroup of 128 MiB, where the machine allows one.
pub(crate) fn in_cgroup(extension: Extension) -> Extension {
    extension.under(root().join("tests/support/in_cgroup"), [CGROUP_BYTES.to_string()])
}

/// The release binary.
pub(crate) fn binary() -> String {
    root().join("target/release/rotel-extension").to_str().expect("a path").to_owned()
}

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

//! `tests/e2e/run` with a `PATH` of nothing but stand-ins: the parts that it runs, and those that it reports as skipped.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Output};

use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The tools that the script itself uses.
const SHELL: [&str; 7] = ["bash", "env", "dirname", "awk", "sort", "head", "realpath"];
/// The tools that the parts need.
const TOOLS: [&str; 7] = ["python3", "unshare", "node", "npm", "javac", "mvn", "go"];

/// Runs the script with these tools, a Go of this version among them, and tests with this result.
fn run(tools: &[&str], go: &str, tests: &str, variables: &[(&str, &str)]) -> Output {
    let folder = TempDir::new().expect("a folder");
    for tool in SHELL {
        let found = ["/usr/bin", "/bin"].map(|place| format!("{place}/{tool}"));
        let found = found.into_iter().find(|path| fs::exists(path).expect("a path")).expect("a usual tool");
        symlink(found, folder.path().join(tool)).expect("a link");
    }
    let stand_in = |name: &str, script: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/bash\n{script}\n")).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    };
    for tool in tools {
        stand_in(tool, "true");
    }
    if tools.contains(&"go") {
        stand_in("go", &format!("echo go{go}"));
    }
    stand_in("make", "echo make: \"$@\"");
    stand_in("cargo", &format!("echo cargo: \"$@\"; {tests}"));
    Command::new(format!("{ROOT}/tests/e2e/run"))
        .env_clear()
        .env("PATH", folder.path())
        .envs(variables.iter().copied())
        .output()
        .expect("the script")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The modules that are run, as the cargo command line names them.
fn modules(output: &Output) -> BTreeSet<String> {
    let text = stdout(output);
    let line = text.lines().find_map(|line| line.strip_prefix("cargo: ")).unwrap_or_default();
    let filters = line.split_once(" -- ").map_or("", |(_, filters)| filters);
    filters.split(' ').map(|filter| filter.trim_end_matches("::").to_owned()).collect()
}

#[test]
fn with_all_tools_every_module_runs() {
    let output = run(&TOOLS, "1.26.8", "true", &[("E2E_ALL", "1")]);
    assert!(output.status.success(), "{output:?}");
    assert!(!stdout(&output).contains("not run"), "{output:?}");
    let main = fs::read_to_string(format!("{ROOT}/tests/e2e/main.rs")).expect("the tests");
    let declared = main.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    // What the others share, and what is built for `make soak` alone.
    let shared = ["moto", "otelcol", "samples", "soak"];
    let wanted: BTreeSet<_> = declared.filter(|name| !shared.contains(name)).map(str::to_owned).collect();
    assert_eq!(modules(&output), wanted);
}

#[test]
fn parts_without_tools_are_named_last() {
    let output = run(&["python3", "node", "npm", "go"], "1.25.1", "true", &[]);
    assert!(output.status.success(), "{output:?}");
    let text = stdout(&output);
    let lines: Vec<_> = text.lines().skip_while(|line| !line.starts_with("not run")).collect();
    insta::assert_snapshot!(lines.join("\n"), @"
    not run: AWS's Runtime Interface Emulator (no unshare)
    not run: OpenTelemetry's Java agent (no javac)
    not run: OpenTelemetry Collector with ClickStack's settings (Go 1.25.1 is older than 1.26.0)
    ");
    assert_eq!(Vec::from_iter(modules(&output)), ["attach", "clickhouse", "node", "python", "secrets"]);
}

#[test]
fn without_tools_nothing_is_built() {
    let output = run(&[], "", "true", &[]);
    assert!(output.status.success(), "{output:?}");
    let text = stdout(&output);
    assert!(text.lines().all(|line| line.starts_with("not run: ")), "{text}");
    assert_eq!(text.lines().count(), 7, "{text}");
}

#[test]
fn missing_required_part_fails() {
    let output = run(&TOOLS[..6], "", "true", &[("E2E_ALL", "1")]);
    assert!(!output.status.success(), "{output:?}");
    assert!(stdout(&output).ends_with("ClickStack's settings (no go)\n"), "{output:?}");
}

#[test]
fn given_collector_needs_no_go() {
    let output = run(&["python3"], "", "true", &[("OTELCOL", "/bin/sh")]);
    assert!(modules(&output).contains("collector"), "{output:?}");
}

#[test]
fn failed_tests_fail_the_run() {
    let output = run(&["python3"], "", "exit 101", &[]);
    assert_eq!(output.status.code(), Some(101));
    assert!(stdout(&output).contains("not run: the instrumentation of Node.js (no node)"), "{output:?}");
}

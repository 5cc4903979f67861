//! The command, as people type it.

#![expect(clippy::expect_used, reason = "helpers of tests may fail as tests do")]

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lambda-sandbox")).args(arguments).output().expect("the command runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

const FLOOR: &str = env!("CARGO_BIN_EXE_floor-extension");
const RUNTIME: &str = env!("CARGO_BIN_EXE_floor-runtime");

#[test]
fn help_explains_and_errors_name_the_cause() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    assert!(text(&help).contains("usage:"));
    let mistake = run(&["run", "--speed", "3"]);
    assert_eq!(mistake.status.code(), Some(2));
    assert!(text(&mistake).contains(r#""--speed": no such option"#));
    let nowhere = run(&["demo", "--extension", "/nowhere/extension"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(text(&nowhere).contains("/nowhere/extension: cannot start"));
}

#[test]
fn demo_fails_if_nothing_is_sent() {
    let demo = run(&["demo", "--extension", FLOOR, "--freeze", "0"]);
    assert_eq!(demo.status.code(), Some(1), "{}", text(&demo));
    assert!(text(&demo).contains("FAILED  missing: item-"), "{}", text(&demo));
}

#[test]
fn run_passes_with_function_that_emits_nothing() {
    let run = run(&["run", "--extension", FLOOR, "--function", RUNTIME, "--invocations", "2", "--json"]);
    assert!(run.status.success(), "{}", text(&run));
    assert!(text(&run).contains("the function wrote 4 log lines"), "{}", text(&run));
    assert!(text(&run).contains("PASSED  no errors"), "{}", text(&run));
}

#[test]
fn killed_extension_fails_the_run() {
    let killed = run(&[
        "run",
        "--extension",
        FLOOR,
        "--function",
        RUNTIME,
        "--invocations",
        "1",
        "--env",
        "STUB_MODE=ignore-shutdown",
    ]);
    assert_eq!(killed.status.code(), Some(1), "{}", text(&killed));
    assert!(text(&killed).contains("FAILED  floor-extension was still running"), "{}", text(&killed));
}

#[test]
fn startup_bench_needs_fetched_secrets() {
    let bench = run(&["bench", "startup", "--extension", FLOOR, "--runs", "1"]);
    assert_eq!(bench.status.code(), Some(1), "{}", text(&bench));
    assert!(text(&bench).contains("did not fetch its secrets"), "{}", text(&bench));
}

#[test]
fn bench_fails_if_nothing_arrives() {
    let bench = run(&["bench", "--extension", FLOOR, "--runs", "1"]);
    assert_eq!(bench.status.code(), Some(1));
    assert!(text(&bench).contains("nothing arrived at the endpoint"), "{}", text(&bench));
}

#[test]
fn gates_name_the_missing_program() {
    let gates =
        run(&["gates", "--extension", FLOOR, "--paths", "/nowhere/paths", "--baseline", "/nowhere/baseline"]);
    assert_eq!(gates.status.code(), Some(1));
    // Which of the two it is depends on the machine.
    let said = text(&gates);
    assert!(said.contains("/nowhere/paths") || said.contains("valgrind: cannot start"), "{said}");
}

//! README says what is so: its reference is the table of variables, what it names exists, what it shows is taken.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

use rotel_lambda_extension::core::config;

const BEGIN: &str =
    "<!-- begin of the configuration reference: UPDATE_README=1 cargo test --test readme writes it -->\n";
const END: &str = "<!-- end of the configuration reference -->\n";

#[test]
fn the_configuration_reference_is_the_table_of_variables() {
    let readme = readme();
    let (before, rest) = readme.split_once(BEGIN).expect("README.md marks where the reference begins");
    let (reference, after) = rest.split_once(END).expect("README.md marks where the reference ends");
    let wanted = format!("\n{}\n", config::reference());
    #[expect(clippy::disallowed_methods, reason = "a switch of this test, not a variable of the extension")]
    let update = std::env::var_os("UPDATE_README").is_some();
    if update {
        fs::write("README.md", [before, BEGIN, &wanted, END, after].concat())
            .expect("README.md can be written");
        return;
    }
    assert!(
        reference == wanted,
        "README.md and the table of variables differ; UPDATE_README=1 cargo test --test readme writes this:\n{wanted}"
    );
}

#[test]
fn every_link_within_the_repository_leads_somewhere() {
    let readme = readme();
    let anchors: Vec<_> = readme
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|rest| anchor(rest.trim_start_matches('#').trim()))
        .collect();
    let within: Vec<_> = links(&readme).filter(|target| !target.contains("://")).collect();
    assert!(within.len() > 10, "{within:?}");
    for target in within {
        match target.strip_prefix('#') {
            Some(to) => assert!(anchors.iter().any(|anchor| anchor == to), "no heading for #{to}"),
            None => assert!(Path::new(target).exists(), "{target} does not exist"),
        }
    }
}

#[test]
fn every_variable_that_is_named_exists() {
    let readme = readme();
    let reference = config::reference();
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "_{}".contains(c);
    let named = readme.split(|c| !is_part(c)).filter(|word| word.starts_with("ROTEL_") && *word != "ROTEL_");
    let known = |name: &str| {
        let signals = ["TRACES", "METRICS", "LOGS"];
        let general = signals.iter().fold(name.to_owned(), |name, signal| name.replace(signal, "{SIGNAL}"));
        // `ROTEL_…_TLS_CA_…` names a family.
        let end = if name.ends_with('_') { "" } else { "`" };
        let is_in_table = |name: &str| reference.contains(&format!("`{name}{end}"));
        // Of an exporter with a name all that one alone has.
        let named = general.strip_prefix("ROTEL_EXPORTER_").is_some_and(|rest| {
            rest.match_indices('_')
                .filter_map(|(at, _)| rest.get(at + 1..))
                .any(|setting| is_in_table(&format!("ROTEL_OTLP_EXPORTER_{setting}")))
        });
        is_in_table(name) || is_in_table(&general) || named
    };
    let unknown: Vec<_> = named.filter(|name| !known(name)).collect();
    assert_eq!(unknown, Vec::<&str>::new());
}

#[test]
fn the_settings_shown_are_taken_without_a_word() {
    let readme = readme();
    let settings: Vec<_> = blocks(&readme, "sh")
        .into_iter()
        .filter(|block| block.lines().all(|line| line.starts_with("ROTEL_") || line.starts_with('#')))
        .collect();
    assert!(settings.len() >= 3, "{settings:?}");
    for block in settings {
        for line in block.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.split_once('=').expect("a setting");
            let mut variables = vec![(name, value)];
            if name != "ROTEL_OTLP_EXPORTER_ENDPOINT" {
                variables.push(("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://clickstack.example.com:4317"));
            }
            let variables =
                variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let read = config::read(&variables);
            assert_eq!((read.faults, read.warnings), (Vec::new(), Vec::new()), "{line}");
        }
    }
}

/// Operations of the AWS CLI and the options that each may have, those that it must have first.
const OPERATIONS: [(&str, &[&str], &[&str]); 5] = [
    ("lambda update-function-configuration", &["function-name"], &["layers", "environment"]),
    ("lambda invoke", &["function-name"], &["payload", "cli-binary-format"]),
    ("logs tail", &[], &["since", "filter-pattern", "follow"]),
    ("logs describe-log-streams", &["log-group-name"], &["order-by", "descending", "max-items"]),
    ("iam put-role-policy", &["role-name", "policy-name", "policy-document"], &[]),
];

#[test]
fn every_command_of_the_aws_cli_is_one_that_it_takes() {
    let readme = readme();
    let folder = tempfile::TempDir::new().expect("a folder");
    let calls = folder.path().join("calls");
    let aws = folder.path().join("aws");
    // One argument a line; a line feed within one would be two.
    fs::write(&aws, "#!/bin/sh\nfor argument; do printf '%s' \"$argument\" | tr '\\n' ' '; echo; done >>\"$CALLS\"\necho >>\"$CALLS\"\n")
        .expect("a stand-in");
    fs::set_permissions(&aws, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it can be run");
    let of_aws = blocks(&readme, "sh").into_iter().filter(|block| block.starts_with("aws "));
    let of_aws: Vec<_> = of_aws.collect();
    for block in &of_aws {
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let ran = Command::new("bash").args(["-euc", block]).env("PATH", path).env("CALLS", &calls).status();
        assert!(ran.expect("bash").success(), "{block}");
    }
    let calls = fs::read_to_string(calls).expect("calls");
    let calls: Vec<Vec<&str>> = calls.split_terminator("\n\n").map(|call| call.lines().collect()).collect();
    assert!(calls.len() >= of_aws.len() && calls.len() >= 5, "{calls:?}");
    for call in calls {
        let (operation, arguments) = call.split_at(2);
        let operation = operation.join(" ");
        let known = OPERATIONS.iter().find(|(name, ..)| *name == operation);
        let (_, required, optional) = known.unwrap_or_else(|| panic!("{operation} is not known here"));
        let given: Vec<_> = arguments.iter().filter_map(|argument| argument.strip_prefix("--")).collect();
        assert!(required.iter().all(|option| given.contains(option)), "{call:?}");
        assert!(
            given.iter().all(|option| required.contains(option) || optional.contains(option)),
            "{call:?}"
        );
        for value in arguments.iter().filter(|argument| argument.starts_with('{')) {
            serde_json::from_str::<serde_json::Value>(value).expect("JSON");
        }
    }
}

fn readme() -> String {
    fs::read_to_string("README.md").expect("README.md")
}

/// The blocks of a language, without their indentation.
fn blocks(readme: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().strip_prefix("```") == Some(language) {
            let block = lines.by_ref().take_while(|line| line.trim() != "```");
            blocks.push(
                block.map(|line| line.get(indent..).unwrap_or_default()).collect::<Vec<_>>().join("\n"),
            );
        }
    }
    blocks
}

/// The targets of its links.
fn links(readme: &str) -> impl Iterator<Item = &str> {
    readme.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || " -".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

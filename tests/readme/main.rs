//! README says what is so: its reference is the table of variables, what it names exists, what it shows is taken, and its
//! commands do what they say.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod commands;
mod page;

use std::fs;
use std::path::Path;

use rotel_lambda_extension::core::config;

use crate::page::{anchors, block, links, readme};

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
    let anchors = anchors(&readme);
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
fn the_diagram_is_that_of_the_source() {
    let source = fs::read_to_string("src/lib.rs").expect("src/lib.rs");
    let head = source.lines().map_while(|line| line.strip_prefix("//!"));
    let diagram = head.skip_while(|line| *line != " ```text").skip(1).take_while(|line| *line != " ```");
    let diagram: Vec<_> = diagram.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    assert!(diagram.len() > 5, "{diagram:?}");
    assert_eq!(block(&readme(), "text", "function's SDK"), diagram.join("\n"));
}

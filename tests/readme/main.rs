//! README and the documents are true: the reference is the table of variables, everything they name exists, the settings they
//! show are valid, and their commands work.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod commands;
mod page;
mod pictures;

use std::fs;

use rotel_core::config;

use crate::page::{Page, anchors, links, pages};

const REFERENCE: &str = "docs/configuration.md";
const BEGIN: &str =
    "<!-- begin of the configuration reference: UPDATE_DOCS=1 cargo test --test readme writes it -->\n";
const END: &str = "<!-- end of the configuration reference -->\n";

#[test]
fn reference_matches_the_table_of_variables() {
    let page = Page::open(REFERENCE);
    let (before, rest) = page.text.split_once(BEGIN).expect("the mark where the reference begins");
    let (reference, after) = rest.split_once(END).expect("the mark where the reference ends");
    let wanted = format!("\n{}\n", config::reference());
    #[expect(clippy::disallowed_methods, reason = "a switch of this test, not a variable of the extension")]
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    if update {
        fs::write(REFERENCE, [before, BEGIN, &wanted, END, after].concat())
            .expect("the document can be written");
        return;
    }
    assert!(
        reference == wanted,
        "{REFERENCE} and the table of variables differ; UPDATE_DOCS=1 cargo test --test readme writes this:\n{wanted}"
    );
}

#[test]
fn every_relative_link_has_a_target() {
    let pages = pages();
    let mut count = 0;
    for page in &pages {
        for link in links(page).filter(|target| !target.contains("://")) {
            count += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let path = page.resolve(file);
            let shown = page.path.display();
            assert!(path.exists(), "{shown}: {link} does not exist");
            if !heading.is_empty() {
                let has_heading = anchors(&Page::open(path)).iter().any(|anchor| anchor == heading);
                assert!(has_heading, "{shown}: no heading for {link}");
            }
        }
    }
    assert!(count > 30, "{count}");
}

#[test]
fn every_document_is_linked_from_readme() {
    let readme = Page::open("README.md");
    let targets: Vec<_> = links(&readme).map(|link| readme.resolve(link)).collect();
    for page in pages().iter().filter(|page| page.path != readme.path) {
        assert!(targets.contains(&page.path), "README.md does not link to {}", page.path.display());
    }
}

#[test]
fn readme_and_contributing_stay_short() {
    for (path, most) in [("README.md", 220), ("CONTRIBUTING.md", 120)] {
        let lines = Page::open(path).text.lines().count();
        assert!(lines <= most, "{path} has {lines} lines; move details to docs, {most} is the limit");
    }
}

#[test]
fn every_variable_named_exists() {
    let reference = config::reference();
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "_{}".contains(c);
    let known = |name: &str| {
        let signals = ["TRACES", "METRICS", "LOGS"];
        let general = signals.iter().fold(name.to_owned(), |name, signal| name.replace(signal, "{SIGNAL}"));
        // `ROTEL_…_TLS_CA_…` names a family.
        let end = if name.ends_with('_') { "" } else { "`" };
        let is_in_table = |name: &str| reference.contains(&format!("`{name}{end}"));
        // A named exporter has every setting of the only one.
        let named = general.strip_prefix("ROTEL_EXPORTER_").is_some_and(|rest| {
            rest.match_indices('_')
                .filter_map(|(at, _)| rest.get(at + 1..))
                .any(|setting| is_in_table(&format!("ROTEL_OTLP_EXPORTER_{setting}")))
        });
        is_in_table(name) || is_in_table(&general) || named
    };
    for page in pages() {
        let words = page.text.split(|c| !is_part(c));
        let named = words.filter(|word| word.starts_with("ROTEL_") && *word != "ROTEL_");
        let unknown: Vec<_> = named.filter(|name| !known(name)).collect();
        assert_eq!(unknown, Vec::<&str>::new(), "{}", page.path.display());
    }
}

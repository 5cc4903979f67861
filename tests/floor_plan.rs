//! The floors hold: imports go only downward, `app → edge → core`, and what a floor must not know it does not name.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Shared pieces of the edge, which its other files may import.
const SHARED_EDGE: [&str; 5] = ["http", "http_client", "tls", "clock", "files"];

#[test]
fn core_knows_neither_the_floors_above_nor_the_world() {
    let forbidden = [
        "crate::edge",
        "crate::app",
        "tokio",
        "hyper",
        "reqwest",
        "tonic::transport",
        "std::net",
        "std::fs",
        "std::env",
        "std::io",
        "std::process",
        "std::thread",
        "std::time::SystemTime",
        "tracing",
    ];
    let mut breaches = Vec::new();
    for file in sources("src/core") {
        for path in imported(&file) {
            if forbidden.iter().any(|name| is_within(&path, name)) {
                breaches.push(format!("{}: {path}", file.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "core imports what it must not know:\n{}", breaches.join("\n"));
}

#[test]
fn what_is_fast_does_not_know_the_settings() {
    let settings = Path::new("src/core/config");
    let mut breaches = Vec::new();
    for file in sources("src/core").iter().filter(|file| !file.starts_with(settings)) {
        let imported = imported(file).into_iter().filter(|path| is_within(path, "rotel_config"));
        breaches.extend(imported.map(|path| format!("{}: {path}", file.display())));
    }
    assert!(breaches.is_empty(), "rotel-core imports what lies above it:\n{}", breaches.join("\n"));
}

#[test]
fn edge_does_not_know_app_and_its_files_not_each_other() {
    let mut breaches = Vec::new();
    for file in sources("src/edge") {
        let neighbour = first_folder_or_file(&file, "src/edge");
        for path in imported(&file) {
            let other = path.strip_prefix("crate::edge::").and_then(|rest| rest.split("::").next());
            let foreign = other.is_some_and(|other| other != neighbour && !SHARED_EDGE.contains(&other));
            if is_within(&path, "crate::app") || foreign {
                breaches.push(format!("{}: {path}", file.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "edge imports sideways or upward:\n{}", breaches.join("\n"));
}

#[test]
fn the_crate_head_tells_of_every_floor_there_is() {
    let head = fs::read_to_string("src/lib.rs").expect("src/lib.rs");
    let mut floors: Vec<_> = fs::read_dir("src")
        .expect("src")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned())
        .collect();
    floors.sort();
    assert_eq!(floors, ["app", "core", "edge"]);
    for floor in floors {
        assert!(head.contains(&format!("**[`{floor}`]**")), "the crate head does not explain {floor}");
    }
}

#[test]
fn the_reader_of_imports_sees_groups_and_paths_in_code() {
    let source = "use std::{fs, io::{self, Read}};\nuse tokio::net;\nfn f() { crate::app::run(); }\n#[cfg(test)]\nmod tests { use std::env; }\n";
    let paths = imported_of(source);
    for expected in ["std::fs", "std::io::self", "std::io::Read", "tokio::net", "crate::app::run"] {
        assert!(paths.iter().any(|path| path == expected), "{expected} is not among {paths:?}");
    }
    assert!(!paths.iter().any(|path| path.contains("env")), "tests may import what they like: {paths:?}");
}

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            let test_only = path.file_stem().is_some_and(|stem| stem == "tests" || stem == "arbitrary");
            if test_only {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

/// `exporter` of `src/edge/exporter/grpc.rs`, `clock` of `src/edge/clock.rs`.
fn first_folder_or_file(file: &Path, root: &str) -> String {
    let inner = file.strip_prefix(root).expect("a file of the floor");
    let first = inner.components().next().expect("a component").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

fn is_within(path: &str, module: &str) -> bool {
    path == module || path.strip_prefix(module).is_some_and(|rest| rest.starts_with("::"))
}

fn imported(file: &Path) -> Vec<String> {
    imported_of(&fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display())))
}

/// Every path that a source imports, groups laid out, and every `crate::` path in its code; without its tests, which
/// stand last.
fn imported_of(source: &str) -> Vec<String> {
    let code: String = source
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut paths = Vec::new();
    for statement in code.split(';') {
        let trimmed = statement.trim_start();
        let import = trimmed.lines().find_map(|line| {
            let line = line.trim_start();
            line.strip_prefix("use ").or_else(|| line.strip_prefix("pub use ")).map(|_| trimmed)
        });
        if let Some(import) = import {
            let start = import.find("use ").map_or(0, |at| at + 4);
            lay_out("", import.get(start..).unwrap_or_default(), &mut paths);
        }
    }
    for (at, _) in code.match_indices("crate::") {
        let path: String = code
            .get(at..)
            .unwrap_or_default()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':')
            .collect();
        paths.push(path);
    }
    paths
}

/// `a::{b, c::{d}}` → `a::b`, `a::c::d`.
fn lay_out(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        if !path.is_empty() {
            paths.push(format!("{prefix}{path}"));
        }
        return;
    };
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let prefix = format!("{prefix}{}", head.trim());
    let mut depth = 0;
    let mut from = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                lay_out(&prefix, group.get(from..at).unwrap_or_default(), paths);
                from = at + 1;
            }
            _ => {}
        }
    }
    lay_out(&prefix, group.get(from..).unwrap_or_default(), paths);
}

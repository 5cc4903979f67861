//! The floor plan: imports go only downward, `app → edge → core`, and form no cycle.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Shared pieces of the edge, which its other files may import.
const SHARED_EDGE: [&str; 6] = ["body", "http", "http_client", "tls", "clock", "files"];

#[test]
fn core_imports_no_floor_above_and_no_io() {
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

/// The manifest of core names none of the dependencies that would let it do I/O.
#[test]
fn core_manifest_names_no_io() {
    let manifest = fs::read_to_string("src/core/Cargo.toml").expect("src/core/Cargo.toml");
    let (_, dependencies) = manifest.split_once("[dependencies]").expect("dependencies");
    let (dependencies, _) = dependencies.split_once("\n[").expect("another section");
    let names = dependencies.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    let forbidden = ["tokio", "hyper", "reqwest", "mio", "socket2", "libc", "tracing"];
    let found: Vec<_> = names.filter(|name| forbidden.contains(name)).collect();
    assert!(found.is_empty(), "src/core/Cargo.toml depends on {found:?}");
}

/// Nothing of the command for people is in the layer.
#[test]
fn extension_and_cli_do_not_depend_on_each_other() {
    let names = |path: &str, name: &str| fs::read_to_string(path).expect("a manifest").contains(name);
    assert!(!names("Cargo.toml", "\nrotel-lambda ="));
    assert!(!names("src/cli/Cargo.toml", "rotel-lambda-extension ="));
}

/// The settings are read once; what all bytes pass through does not depend on them.
#[test]
fn core_outside_config_does_not_import_it() {
    let config = Path::new("src/core/config");
    let mut breaches = Vec::new();
    for file in sources("src/core").iter().filter(|file| !file.starts_with(config)) {
        let imported = imported(file).into_iter().filter(|path| is_within(path, "crate::config"));
        breaches.extend(imported.map(|path| format!("{}: {path}", file.display())));
    }
    assert!(breaches.is_empty(), "core imports the settings:\n{}", breaches.join("\n"));
}

#[test]
fn imports_form_no_cycle() {
    let files: BTreeMap<Module, PathBuf> =
        sources("src").into_iter().map(|file| (Module::of(&file), file)).collect();
    let imports: BTreeMap<&Module, BTreeSet<&Module>> = files
        .iter()
        .map(|(module, file)| {
            let paths = imported(file);
            let others = paths.iter().filter_map(|path| module.resolve(path, &files));
            // A module and those inside it are one thing.
            (module, others.filter(|other| !module.is_related_to(other)).collect())
        })
        .collect();
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 300, "imports were not resolved");
    let circular: Vec<_> =
        imports.keys().filter(|module| reached(&imports, module).contains(*module)).collect();
    assert!(circular.is_empty(), "these import each other in a cycle: {circular:#?}");
}

/// All modules that a module imports, directly or through others.
fn reached<'a>(imports: &BTreeMap<&'a Module, BTreeSet<&'a Module>>, from: &Module) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(module) = open.pop() {
        for other in imports.get(module).into_iter().flatten() {
            if reached.insert(*other) {
                open.push(other);
            }
        }
    }
    reached
}

/// A module by its path under `src`: `core::delivery::sender`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Module(Vec<String>);

impl Module {
    fn of(file: &Path) -> Self {
        let path = file.strip_prefix("src").expect("a source").with_extension("");
        let mut names: Vec<_> =
            path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        if names.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
            names.pop();
        }
        Self(names)
    }

    /// The module of a path that stands in this one, if it is one of `files`.
    fn resolve<'a>(&self, path: &str, files: &'a BTreeMap<Self, PathBuf>) -> Option<&'a Self> {
        let mut names = path.split("::").peekable();
        let mut at = Self(match *names.peek()? {
            "crate" if self.0.first().is_some_and(|first| first == "core") => vec!["core".to_owned()],
            "crate" => Vec::new(),
            "rotel_core" => vec!["core".to_owned()],
            "super" | "self" => self.0.clone(),
            _ => return None,
        });
        if ["crate", "rotel_core", "self"].contains(names.peek()?) {
            names.next();
        }
        while names.next_if_eq(&"super").is_some() {
            at.0.pop();
        }
        for name in names {
            let inner = Self([at.0.clone(), vec![name.to_owned()]].concat());
            if !files.contains_key(&inner) {
                break;
            }
            at = inner;
        }
        files.get_key_value(&at).map(|(module, _)| module)
    }

    fn is_related_to(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }
}

#[test]
fn edge_imports_no_app_and_no_neighbour() {
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
fn crate_head_explains_every_floor() {
    let head = fs::read_to_string("src/lib.rs").expect("src/lib.rs");
    let mut floors: Vec<_> = fs::read_dir("src")
        .expect("src")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned())
        .collect();
    floors.sort();
    // `cli` is another program.
    assert_eq!(floors, ["app", "cli", "core", "edge"]);
    for floor in floors.into_iter().filter(|floor| floor != "cli") {
        assert!(head.contains(&format!("**[`{floor}`]")), "the crate head does not explain {floor}");
    }
}

#[test]
fn imports_in_groups_and_code_are_found() {
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

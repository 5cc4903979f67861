//! The fuzz targets' corpora hold inputs that once failed under a fuzzer and inputs that users write. Each file passes
//! through its target on stable, without a fuzzer.

use std::fs;

#[expect(unreachable_pub, reason = "there it is a crate of its own")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

#[test]
fn every_corpus_file_passes_its_target() {
    let mut folders: Vec<_> = fs::read_dir("tests/fuzz/corpus")
        .expect("the corpora")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a target's name"))
        .collect();
    folders.sort();
    let mut manifest = Vec::new();
    for (name, target) in TARGETS {
        manifest.push(*name);
        let mut files = 0;
        for file in fs::read_dir(format!("tests/fuzz/corpus/{name}")).expect("a corpus") {
            let bytes = fs::read(file.expect("an entry").path()).expect("a file");
            match target {
                Target::Bytes(target) => target(&bytes),
                // The fuzzer passes only what is UTF-8 on as well.
                Target::Text(target) => {
                    if let Ok(text) = std::str::from_utf8(&bytes) {
                        target(text);
                    }
                }
            }
            files += 1;
        }
        assert!(files > 0, "{name} has an empty corpus");
    }
    assert_eq!(folders, manifest, "a corpus without a target, or a target without a corpus");
}

/// The input type of a target.
enum Target {
    Text(fn(&str)),
    Bytes(fn(&[u8])),
}

const TARGETS: &[(&str, Target)] = &[
    ("collector_yaml", Target::Text(targets::collector_yaml)),
    ("env_file", Target::Text(targets::env_file)),
    ("header_list", Target::Text(targets::header_list)),
    ("lifecycle", Target::Bytes(targets::lifecycle)),
    ("log_record", Target::Text(targets::log_record)),
    ("otlp_http_body", Target::Bytes(targets::otlp_http_body)),
    ("resource_attributes", Target::Text(targets::resource_attributes)),
    ("secret_references", Target::Text(targets::secret_references)),
    ("telemetry_body", Target::Bytes(targets::telemetry_body)),
    ("wire_splicing", Target::Bytes(targets::wire_splicing)),
];

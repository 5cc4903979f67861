//! The fuzz targets' corpora hold what a fuzzer once broke and what people write. On stable, without a fuzzer, each file
//! still goes the way that it goes there.

use std::fs;

#[expect(unreachable_pub, reason = "there it is a crate of its own")]
#[path = "fuzz/src/lib.rs"]
mod targets;

#[test]
fn every_file_of_the_corpora_is_taken_by_its_target() {
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
            let text = fs::read(file.expect("an entry").path()).expect("a file");
            // The fuzzer passes only what is UTF-8 on as well.
            if let Ok(text) = std::str::from_utf8(&text) {
                target(text);
            }
            files += 1;
        }
        assert!(files > 0, "{name} has an empty corpus");
    }
    assert_eq!(folders, manifest, "a corpus without a target, or a target without a corpus");
}

type Target = fn(&str);

const TARGETS: &[(&str, Target)] = &[
    ("env_file", targets::env_file),
    ("header_list", targets::header_list),
    ("log_record", targets::log_record),
    ("resource_attributes", targets::resource_attributes),
    ("secret_references", targets::secret_references),
];

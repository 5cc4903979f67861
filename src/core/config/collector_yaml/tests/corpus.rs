//! The files of `tests/collector_yaml`, of the kinds that people post, with the outcome of each.

use std::fs;
use std::path::Path;

use super::*;

/// The variables that the files use.
const GIVEN: [(&str, &str); 16] = [
    ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
    ("AWS_LAMBDA_FUNCTION_NAME", "orders"),
    ("AXIOM_TOKEN", "hunter2"),
    ("CX_KEY", "hunter2"),
    ("DASH0_TOKEN", "hunter2"),
    ("DD_API_KEY", "hunter2"),
    ("ELASTIC_APM_ENDPOINT", "https://apm.example.com:443"),
    ("ELASTIC_APM_SECRET_TOKEN", "hunter2"),
    ("GRAFANA_TOKEN", "hunter2"),
    ("GRAFANA_USER", "123"),
    ("HONEYCOMB_API_KEY", "hunter2"),
    ("INGESTION_KEY", "hunter2"),
    ("LS_ACCESS_TOKEN", "hunter2"),
    ("NEW_RELIC_LICENSE_KEY", "hunter2"),
    ("SIGNOZ_KEY", "hunter2"),
    ("TOKEN", "hunter2"),
];

#[test]
fn posted_files_have_the_expected_outcome() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/collector_yaml");
    let mut paths: Vec<_> =
        fs::read_dir(&folder).expect("the files").map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    assert!(paths.len() >= 60, "{} files", paths.len());
    let outcomes = paths.iter().map(|path| {
        let text = fs::read_to_string(path).expect("a file");
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        let about = text.lines().next().expect("a comment").trim_start_matches("# ");
        let (yaml, _) = outcome(&text, &GIVEN);
        let processed: Vec<_> = Signal::ALL
            .into_iter()
            .filter(|signal| !yaml.processors.is_empty(*signal))
            .map(Signal::as_str)
            .collect();
        let processed = if processed.is_empty() {
            String::new()
        } else {
            format!("processed: {}\n", processed.join(", "))
        };
        format!("{name}: {about}\n{}\n{processed}", report_with(&text, &GIVEN))
    });
    let outcomes = outcomes.collect::<Vec<_>>().join("\n");
    assert!(!outcomes.contains("hunter2"));
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(&folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("outcomes", outcomes));
}

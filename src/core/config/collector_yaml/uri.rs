//! The URIs of `OPENTELEMETRY_COLLECTOR_CONFIG_URI`: where the texts of the configuration are.

use super::node::shown;

/// Where a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigUri<'a> {
    /// In the file at this path.
    File(&'a str),
    /// In the variable of this name.
    Variable(&'a str),
    /// The URI itself is the text.
    Yaml(&'a str),
}

/// The maximum number of URIs.
const COUNT_LIMIT: usize = 8;
/// The schemes with which a further URI begins.
const SCHEMES: [&str; 6] = ["env:", "file:", "http:", "https:", "s3:", "yaml:"];

/// Parses a list of URIs, separated by commas; a path alone is a file's. An error names the scheme that is not supported.
pub fn parse(uris: &str) -> Result<Vec<ConfigUri<'_>>, String> {
    let mut parsed = Vec::new();
    let mut rest = uris.trim();
    while !rest.is_empty() {
        if parsed.len() == COUNT_LIMIT {
            return Err(format!("has more than {COUNT_LIMIT} URIs; reduce them"));
        }
        let (uri, after) = first(rest);
        parsed.push(single(uri.trim())?);
        rest = after.trim_start();
    }
    Ok(parsed)
}

/// The first URI of a list, and the rest. A comma separates only if another URI follows: YAML may contain commas.
fn first(list: &str) -> (&str, &str) {
    let separators = list.match_indices(',');
    let begins_uri = |rest: &str| {
        let rest = rest.trim_start();
        rest.starts_with('/') || SCHEMES.iter().any(|scheme| rest.starts_with(scheme))
    };
    let mut splits =
        separators.filter_map(|(at, comma)| Some((list.get(..at)?, list.get(at + comma.len()..)?)));
    splits.find(|(_, rest)| begins_uri(rest)).unwrap_or((list, ""))
}

fn single(uri: &str) -> Result<ConfigUri<'_>, String> {
    let path = |path: &'static str| uri.strip_prefix(path);
    if let Some(path) = path("file://").or_else(|| path("file:")) {
        return Ok(ConfigUri::File(path));
    }
    match uri.split_once(':') {
        Some(("env", name)) => Ok(ConfigUri::Variable(name.trim())),
        Some(("yaml", text)) => Ok(ConfigUri::Yaml(text.trim())),
        Some((scheme, _)) if scheme.len() > 1 && scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
            let scheme = shown(scheme);
            Err(format!(
                "{scheme}: URIs are not supported, because nothing is fetched before the function's init; add the file to the \
                 deployment package, and set its path, such as /var/task/collector.yaml"
            ))
        }
        _ => Ok(ConfigUri::File(uri)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_files_variables_or_yaml() {
        use ConfigUri::{File, Variable, Yaml};
        for (uris, expected) in [
            ("/var/task/collector.yaml", vec![File("/var/task/collector.yaml")]),
            ("file:/a", vec![File("/a")]),
            ("file:///a,env:CONFIG", vec![File("/a"), Variable("CONFIG")]),
            (
                "/a.yaml, yaml:exporters::otlphttp::headers: {a: b, c: d}",
                vec![File("/a.yaml"), Yaml("exporters::otlphttp::headers: {a: b, c: d}")],
            ),
            ("C:\\collector.yaml", vec![File("C:\\collector.yaml")]),
            ("a,b.yaml", vec![File("a,b.yaml")]),
            ("", vec![]),
        ] {
            assert_eq!(parse(uris).as_deref(), Ok(&expected[..]), "{uris}");
        }
        for (uris, scheme) in
            [("s3://b/c.yaml", "s3"), ("/a,https://b/c.yaml", "https"), ("vault:x", "vault")]
        {
            assert!(
                parse(uris).expect_err("not supported").starts_with(&format!("{scheme}: URIs")),
                "{uris}"
            );
        }
    }
}

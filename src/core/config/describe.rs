//! The table of variables as people read it: effective values with their sources (`--check`), `--help`, and the reference in
//! `docs/configuration.md`.

use std::fmt;

use super::exporters;
use super::variables::{Disclosure, EACH, NAMED, NONE, SECTIONS, Section, Variable, all};
use super::{Variables, value};
use crate::config::secret_ref;
use crate::echo;

/// The effective value of one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveValue {
    pub variable: String,
    /// Its value, with credentials redacted.
    pub value: String,
    pub source: ValueSource,
}

/// The origin of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueSource {
    /// The process environment.
    Environment,
    /// The file named by `ROTEL_ENV_FILE`.
    EnvFile,
    /// The `collector.yaml`.
    CollectorYaml,
    /// The variable is not set.
    Default,
}

impl EffectiveValue {
    /// Returns true if the variable is not set and has no default.
    pub fn has_no_value(&self) -> bool {
        self.source == ValueSource::Default && self.value == NONE
    }
}

impl fmt::Display for ValueSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Environment => "environment",
            Self::EnvFile => "file",
            Self::CollectorYaml => "collector",
            Self::Default => "default",
        })
    }
}

const REDACTED: &str = "[redacted]";

const HELP_FOOT: &str = "{SIGNAL} is TRACES, METRICS or LOGS; {NAME} is a name from ROTEL_EXPORTERS. Write durations as 250ms, 5s, 1m and booleans as true or false.\n";

const REFERENCE_HEAD: &str = "\
`{SIGNAL}` is `TRACES`, `METRICS` or `LOGS`; `{NAME}` is a name from `ROTEL_EXPORTERS`. Write durations as `250ms`, `5s`, `1m`,
and booleans as `true`, `false`, `1` or `0`. An empty value counts as unset. Quotes around a whole value are ignored.

These values may contain [references to secrets](#secrets): every `ROTEL_…` variable under *Export* and *Export of a single
signal* (also for named exporters), and `ROTEL_OTEL_RESOURCE_ATTRIBUTES`.
";

/// The effective value of each variable, in the table's order. Variables of single signals and of named exporters are
/// listed only if they are set.
pub fn describe(environment: &Variables, file: &Variables, collector: &Variables) -> Vec<EffectiveValue> {
    let lookup = |name: &str| lookup(name, [file, environment, collector]);
    let (several, _) = lookup("ROTEL_EXPORTERS");
    let prefixes = several.map(|text| exporters::prefixes(&text)).unwrap_or_default();
    let mut rows: Vec<EffectiveValue> = Vec::new();
    for variable in all() {
        for name in variable.names() {
            let (text, source) = lookup(&name);
            let value = match text {
                Some(text) => redacted(variable, &text),
                None if variable.name.contains(EACH) => continue,
                None => variable.default.replace('`', ""),
            };
            rows.push(EffectiveValue { variable: name, value, source });
        }
        if variable.name.contains(NAMED) {
            for prefix in &prefixes {
                let named = all().flat_map(|variable| {
                    variable.names_with_prefix(prefix).into_iter().map(move |name| (variable, name))
                });
                rows.extend(named.filter_map(|(variable, name)| {
                    let (text, source) = lookup(&name);
                    Some(EffectiveValue { value: redacted(variable, &text?), variable: name, source })
                }));
            }
        }
    }
    // A default that is another variable is that one's value.
    let values: Vec<_> = rows.iter().map(|row| (row.variable.clone(), row.value.clone())).collect();
    for row in rows.iter_mut().filter(|row| row.source == ValueSource::Default) {
        if let Some((_, value)) = values.iter().find(|(name, _)| *name == row.value) {
            row.value.clone_from(value);
        }
    }
    rows
}

/// The value of a variable and its source.
fn lookup(name: &str, [file, environment, collector]: [&Variables; 3]) -> (Option<String>, ValueSource) {
    let lower = name.to_ascii_lowercase();
    // Proxy variables are also read in lower case.
    let names = [Some(name), name.ends_with("_PROXY").then_some(&*lower)];
    let set = |source: &Variables| {
        let mut texts = names.into_iter().flatten().filter_map(|name| source.get(name));
        texts.find_map(|text| value::non_empty(text).map(str::to_owned))
    };
    // An empty value in the file unsets the environment's, as in `overlay`.
    let is_of_file = names.into_iter().flatten().any(|name| file.contains_key(name));
    match (is_of_file, set(file), set(environment), set(collector)) {
        (true, Some(text), ..) => (Some(text), ValueSource::EnvFile),
        (false, _, Some(text), _) => (Some(text), ValueSource::Environment),
        (.., Some(text)) => (Some(text), ValueSource::CollectorYaml),
        _ => (None, ValueSource::Default),
    }
}

/// A value as `--check` may print it. A secret reference is printed: it holds no secret, and people check what it names.
fn redacted(variable: &Variable, text: &str) -> String {
    if secret_ref::is_single_reference(text) {
        return text.to_owned();
    }
    let text = text.replace(value::LIST_SEPARATOR, ",");
    let text = text.trim_start_matches(',');
    match variable.disclosure {
        Disclosure::Names => pairs(text, |_, value| match value::percent_decoded(value) {
            Some(_) => format!("{REDACTED} (percent-decoded)"),
            None => REDACTED.to_owned(),
        }),
        Disclosure::Attributes => pairs(text, |name, value| {
            if names_a_credential(name) { REDACTED.to_owned() } else { echo::value(value).or_redacted() }
        }),
        Disclosure::Url => echo::endpoint(text).or_redacted(),
        Disclosure::Exporters if exporters::are_well_formed(text) => text.to_owned(),
        Disclosure::Nothing | Disclosure::Exporters => REDACTED.to_owned(),
        Disclosure::Hosts => echo::hosts(text).or_redacted(),
        Disclosure::Path => echo::path(text).or_redacted(),
        Disclosure::UrlPath => echo::url_path(text),
        Disclosure::Words => echo::list(text).or_redacted(),
    }
}

/// The names in a list, each with its value as printed by `display`.
fn pairs(text: &str, display: impl Fn(&str, &str) -> String) -> String {
    let part = |part: &str| match part.split_once('=') {
        Some((name, value)) if !echo::is_name(name.trim()) || value.trim_matches('=').is_empty() => {
            // Base64 ends with "=": the text before it is then the credential itself.
            REDACTED.to_owned()
        }
        Some((name, value)) if secret_ref::is_single_reference(value) => {
            format!("{}={}", name.trim(), value.trim())
        }
        Some((name, value)) => format!("{}={}", name.trim(), display(name, value.trim())),
        None => REDACTED.to_owned(),
    };
    value::parts(text).map(part).collect::<Vec<_>>().join(",")
}

fn names_a_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["auth", "credential", "key", "passw", "secret", "token"].iter().any(|part| name.contains(part))
}

/// The part of `--help` about variables.
pub fn help() -> String {
    let entry = |Variable { name, default, about, .. }: &Variable| {
        let default = if *default == NONE { String::new() } else { format!(" [{default}]") };
        format!("  {name}{default}\n      {about}\n").replace('`', "")
    };
    let section = |Section { title, variables }: &Section| {
        let entries: String = variables.iter().map(entry).collect();
        format!("{title}:\n{entries}\n")
    };
    let sections: String = SECTIONS.iter().map(section).collect();
    format!("{sections}{HELP_FOOT}")
}

/// The reference in `docs/configuration.md`.
pub fn reference() -> String {
    let row =
        |Variable { name, default, about, .. }: &Variable| format!("| `{name}` | {default} | {about} |\n");
    let section = |Section { title, variables }: &Section| {
        let rows: String = variables.iter().map(row).collect();
        format!("\n### {title}\n\n| variable | default | |\n|---|---|---|\n{rows}")
    };
    let sections: String = SECTIONS.iter().map(section).collect();
    format!("{REFERENCE_HEAD}{sections}")
}

#[cfg(test)]
mod tests {
    use super::super::tests::variables;
    use super::*;

    #[test]
    fn values_have_sources_and_no_credentials() {
        let environment = variables(&[
            ("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://environment:4317"),
            ("ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD", "hunter2"),
            ("ROTEL_OTLP_EXPORTER_TRACES_ENDPOINT", "http://me:hunter2@host"),
            ("ROTEL_FLUSH_TIMEOUT", "2s"),
            ("ROTEL_OTLP_EXPORTER_TLS_KEY_PEM", "${arn:aws:ssm:us-east-1:123456789012:parameter/key,hunter2"),
            ("ROTEL_EXPORTER", ""),
            ("HTTPS_PROXY", "http://me:hunter2@proxy:3128"),
            ("http_proxy", "me:hunter2@proxy:3128"),
            ("NO_PROXY", "example.com"),
        ]);
        let file = variables(&[
            ("ROTEL_OTLP_EXPORTER_ENDPOINT", "\"https://file:4317\""),
            (
                "ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS",
                "Authorization=${arn:aws:ssm:us-east-1:123456789012:parameter/key},X-Key=hunter2,hunter2,hunter2==",
            ),
            ("ROTEL_FLUSH_TIMEOUT", ""),
        ]);
        let rows = describe(&environment, &file, &Variables::new());
        let shown: Vec<_> = rows
            .iter()
            .filter(|row| {
                row.source != ValueSource::Default
                    || ["ROTEL_EXPORTER", "ROTEL_FLUSH_TIMEOUT"].contains(&&*row.variable)
            })
            .map(|row| format!("{} = {} ({:?})", row.variable, row.value, row.source))
            .collect();
        assert!(!shown.join("\n").contains("hunter2"));
        insta::assert_snapshot!(shown.join("\n"), @"
        ROTEL_EXPORTER = otlp (Default)
        ROTEL_OTLP_EXPORTER_ENDPOINT = https://file:4317 (EnvFile)
        ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS = Authorization=${arn:aws:ssm:us-east-1:123456789012:parameter/key},X-Key=[redacted],[redacted],[redacted] (EnvFile)
        ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD = [redacted] (Environment)
        ROTEL_OTLP_EXPORTER_TLS_KEY_PEM = [redacted] (Environment)
        HTTPS_PROXY = [redacted] (Environment)
        HTTP_PROXY = [redacted] (Environment)
        NO_PROXY = example.com (Environment)
        ROTEL_OTLP_EXPORTER_TRACES_ENDPOINT = [redacted] (Environment)
        ROTEL_FLUSH_TIMEOUT = 1s (Default)
        ");
    }

    #[test]
    fn help_names_every_variable() {
        let help = help();
        for variable in all() {
            assert!(help.contains(variable.name) && reference().contains(variable.name), "{}", variable.name);
        }
        assert!(!help.contains('`'));
    }
}

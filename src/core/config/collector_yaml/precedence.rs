//! The precedence between variables set outside the file and those of the file.
//!
//! A variable outside the file also overrides differently named variables of the file: more specific ones, and those that set
//! the same in another form.

use crate::config::variables::{SECTIONS, UNNAMED_EXPORTER};
use crate::config::{Variables, value};
use crate::signal::Signal;

/// Returns true if the variable is set and not empty.
pub(super) fn is_set(variables: &Variables, name: &str) -> bool {
    variables.get(name).and_then(|text| value::non_empty(text)).is_some()
}

/// Returns true if a variable of the file is overridden by one of the `given` variables outside it.
pub(super) fn is_overridden(name: &str, given: &Variables) -> bool {
    overriding_variables(name).iter().any(|overriding| is_set(given, overriding))
}

/// The variables that override one, including itself.
fn overriding_variables(name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    names.extend(common_variable(name));
    let other_forms: Vec<_> = names.iter().filter_map(|name| other_form(name)).collect();
    let headers: Vec<_> = names.iter().filter_map(|name| headers_variable(name)).collect();
    names.extend(other_forms);
    names.extend(headers);
    if let Some((_, setting)) = name.split_once("_RETRY_") {
        names.push(format!("ROTEL_EXPORTER_RETRY_{setting}"));
    }
    if name == "ROTEL_LOG_LEVEL" {
        names.push("RUST_LOG".to_owned());
    }
    names
}

/// The variable for all signals, given one for a single signal.
fn common_variable(name: &str) -> Option<String> {
    let is_known = |name: &str| {
        SECTIONS.iter().flat_map(|section| section.variables).any(|variable| variable.name == name)
    };
    Signal::ALL.into_iter().find_map(|signal| {
        let (start, setting) = name.rsplit_once(&format!("_{}_", signal.in_variable_names()))?;
        let common = format!("{start}_{setting}");
        let is_exporters = is_known(&format!("{UNNAMED_EXPORTER}{setting}"));
        (is_known(&common) || is_exporters).then_some(common)
    })
}

/// The `_PEM` variable for a `_FILE` variable, and vice versa.
fn other_form(name: &str) -> Option<String> {
    let (start, setting) = name.split_once("_TLS_")?;
    let other = match setting.rsplit_once('_')? {
        (of, "FILE") => format!("{of}_PEM"),
        (of, "PEM") => format!("{of}_FILE"),
        _ => return None,
    };
    Some(format!("{start}_TLS_{other}"))
}

/// The headers variable that overrides an authenticator, because it may contain the same header.
fn headers_variable(name: &str) -> Option<String> {
    let settings = ["AUTHENTICATOR", "BASIC_AUTH_USERNAME", "BASIC_AUTH_PASSWORD"];
    let start = settings.into_iter().find_map(|setting| name.strip_suffix(setting))?;
    Some(format!("{start}CUSTOM_HEADERS"))
}

//! Which variables beside the file win over one of the file's, though they bear another name: what is set beside it counts
//! also where the file says something more special, or the same in another form.

use crate::config::variables::{ONLY_EXPORTER, SECTIONS};
use crate::config::{Variables, value};
use crate::signal::Signal;

/// Whether people have set this variable.
pub(super) fn is_set(variables: &Variables, name: &str) -> bool {
    variables.get(name).and_then(|text| value::non_empty(text)).is_some()
}

/// Whether a variable of the file gives way to one that is set beside it.
pub(super) fn win_over(name: &str, beside: &Variables) -> bool {
    of(name).iter().any(|rival| is_set(beside, rival))
}

/// The variables to which one gives way, itself among them.
fn of(name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    names.extend(common(name));
    let twins: Vec<_> = names.iter().filter_map(|name| twin(name)).collect();
    let headers: Vec<_> = names.iter().filter_map(|name| headers(name)).collect();
    names.extend(twins);
    names.extend(headers);
    if let Some((_, setting)) = name.split_once("_RETRY_") {
        names.push(format!("ROTEL_EXPORTER_RETRY_{setting}"));
    }
    if name == "ROTEL_LOG_LEVEL" {
        names.push("RUST_LOG".to_owned());
    }
    names
}

/// The variable for all signals of one for a single signal.
fn common(name: &str) -> Option<String> {
    let is_known = |name: &str| {
        SECTIONS.iter().flat_map(|section| section.variables).any(|variable| variable.name == name)
    };
    Signal::ALL.into_iter().find_map(|signal| {
        let (start, setting) = name.rsplit_once(&format!("_{}_", signal.in_variable_names()))?;
        let common = format!("{start}_{setting}");
        let is_exporters = is_known(&format!("{ONLY_EXPORTER}{setting}"));
        (is_known(&common) || is_exporters).then_some(common)
    })
}

/// The same as a file or as text.
fn twin(name: &str) -> Option<String> {
    let (start, setting) = name.split_once("_TLS_")?;
    let other = match setting.rsplit_once('_')? {
        (of, "FILE") => format!("{of}_PEM"),
        (of, "PEM") => format!("{of}_FILE"),
        _ => return None,
    };
    Some(format!("{start}_TLS_{other}"))
}

/// The headers that may hold what a user name and a password would become.
fn headers(name: &str) -> Option<String> {
    let settings = ["AUTHENTICATOR", "BASIC_AUTH_USERNAME", "BASIC_AUTH_PASSWORD"];
    let start = settings.into_iter().find_map(|setting| name.strip_suffix(setting))?;
    Some(format!("{start}CUSTOM_HEADERS"))
}

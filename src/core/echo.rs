//! The parts of untrusted text that may appear in messages: values that users set, and text from other
//! programs.
//!
//! Every message that repeats such text gets it from here, so a credential in the wrong place is not printed
//! and no one else can forge a line of our log. A value is shown if it is a word or a number. An endpoint is
//! shown as scheme, host and port. A path is shown if no part of it looks like a key. Any other value is
//! described by its length. Text from other programs is escaped and truncated. A password that is a plain word
//! is not recognized.

use std::fmt;

/// The longest word shown.
const WORD_LIMIT: usize = 24;
/// The longest run of letters in a word. App passwords have 16.
const LETTERS_LIMIT: usize = 13;
/// The longest run of letters in a name such as `cumulativetodelta`.
const LETTERS_OF_NAME_LIMIT: usize = 20;
const DIGITS_LIMIT: usize = 10;
/// The longest run that mixes letters and digits, such as `http2`.
const MIXED_LIMIT: usize = 5;
/// The longest host name, path or list.
const LONG_LIMIT: usize = 128;
/// The most characters of another program's text in a message.
pub const UNTRUSTED_LIMIT: usize = 200;
const REDACTED: &str = "[redacted]";

/// A value as a message may repeat it: quoted, or described by its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Echo {
    /// A harmless value.
    Text(String),
    /// A possible credential; only its length in characters is kept.
    Hidden(usize),
}

impl Echo {
    fn of(text: &str, is_harmless: bool) -> Self {
        if is_harmless { Self::Text(text.to_owned()) } else { Self::Hidden(text.chars().count()) }
    }

    /// Returns the value if it is harmless.
    pub fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Hidden(_) => None,
        }
    }

    /// Returns the value without quotes, or `[redacted]`.
    pub fn or_redacted(self) -> String {
        self.text().unwrap_or_else(|| REDACTED.to_owned())
    }
}

impl fmt::Display for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Hidden(1) => f.write_str("a value of 1 character"),
            Self::Hidden(characters) => write!(f, "a value of {characters} characters"),
        }
    }
}

/// A value that should be a word or a number.
pub fn value(text: &str) -> Echo {
    Echo::of(text, is_word(text))
}

/// A value that should be a list of words, each optionally with a value of its own: `info,hyper=warn`.
pub fn list(text: &str) -> Echo {
    let is_part = |part: &str| match part.split_once('=') {
        Some((name, word)) => is_name(name) && is_word(word),
        None => part.is_empty() || is_word(part.trim_matches(' ')),
    };
    Echo::of(text, text.chars().count() <= LONG_LIMIT && text.split(',').all(is_part))
}

/// A value that should be an endpoint, shown as scheme, host and port. An ellipsis stands for the rest.
pub fn endpoint(text: &str) -> Echo {
    let hidden = Echo::of(text, false);
    if text.len() > LONG_LIMIT || text.contains(['@', '?', '#', '%', '\\']) || text.contains(is_escaped) {
        return hidden;
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    if scheme.is_some_and(|scheme| scheme.len() > 10 || !is_word(scheme)) {
        return hidden;
    }
    let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len())).unwrap_or((rest, ""));
    let is_shown = authority.is_empty() && scheme.is_some() || is_authority(authority, scheme.is_some());
    let path = if matches!(path, "" | "/") { path } else { "/…" };
    let scheme = scheme.map_or_else(String::new, |scheme| format!("{scheme}://"));
    if is_shown { Echo::Text(format!("{scheme}{authority}{path}")) } else { hidden }
}

/// A host name or address.
pub fn host(text: &str) -> Echo {
    Echo::of(text, is_host(text))
}

/// A comma-separated list of hosts, domains and networks.
pub fn hosts(text: &str) -> Echo {
    let is_one = |part: &str| {
        let part = part.trim_matches(' ').trim_start_matches(['*', '.']);
        let (host, bits) = part.split_once('/').unwrap_or((part, ""));
        bits.len() <= 3
            && bits.chars().all(|c| c.is_ascii_digit())
            && (host.is_empty() || is_authority(host, false))
    };
    Echo::of(text, text.len() <= LONG_LIMIT && text.split(',').all(is_one))
}

/// The name of the file at a path. Someone may have set a key in place of it.
pub fn file_name(text: &str) -> Echo {
    let name = text.rsplit('/').next().unwrap_or(text);
    Echo::of(name, path(&format!("./{name}")).text().is_some())
}

/// A file path.
pub fn path(text: &str) -> Echo {
    let file = text.rsplit('/').next().unwrap_or(text);
    let has_extension = file
        .rsplit_once('.')
        .is_some_and(|(_, end)| (1..=5).contains(&end.len()) && end.chars().all(|c| c.is_ascii_alphabetic()));
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "/._- +".contains(c);
    let is_path = text.starts_with(['/', '.']) || has_extension;
    let is_short = text.len() <= LONG_LIMIT;
    Echo::of(
        text,
        is_path && is_short && text.chars().all(is_allowed) && !text.split(['/', '.']).any(looks_like_key),
    )
}

/// A URL path. Only common segments are shown; an ellipsis stands for each other one.
pub fn url_path(text: &str) -> String {
    const USUAL: [&str; 12] = [
        "",
        "api",
        "collector",
        "http",
        "ingest",
        "logs",
        "metrics",
        "opentelemetry",
        "otel",
        "otlp",
        "traces",
        "v1",
    ];
    let shown = |part: &str| if USUAL.contains(&part) { part.to_owned() } else { "…".to_owned() };
    text.split('/').map(shown).collect::<Vec<_>>().join("/")
}

/// The name of a variable or setting, without quotes.
pub fn name(text: &str) -> String {
    if is_name(text) {
        return text.to_owned();
    }
    let kept = ["ROTEL_", "OTEL_"].into_iter().find(|start| text.starts_with(start)).unwrap_or_default();
    format!("{kept}… (a name of {} characters)", text.chars().count())
}

/// Returns true if a name may be shown.
pub fn is_name(text: &str) -> bool {
    let parts = text.split(['_', '-', '.', '/']);
    !text.is_empty()
        && text.chars().count() <= LONG_LIMIT
        && parts.clone().all(|part| part.is_empty() || is_run(part, LETTERS_OF_NAME_LIMIT))
        && parts.filter(|part| is_mixed(part)).count() <= 2
}

/// Text from another program, escaped onto one line and truncated to `limit` characters.
pub fn untrusted(text: &str, limit: usize) -> String {
    let mut cut: String = text.chars().take(limit).collect();
    if text.chars().nth(limit).is_some() {
        cut.push('…');
    }
    one_line(&cut)
}

/// Escapes everything that would end the line, move a terminal's cursor or reverse the order of letters.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_escaped(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// Text from a backend with all `secrets` redacted, escaped onto one line and truncated.
pub fn redacted<'s>(text: &str, secrets: impl IntoIterator<Item = &'s str>) -> String {
    let mut secrets: Vec<&str> =
        secrets.into_iter().map(str::trim).filter(|secret| !secret.is_empty()).collect();
    // Longest first: of two secrets with a common start, the longer one must be redacted whole.
    secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
    let mut shown = String::new();
    let mut rest = text;
    let mut before = None;
    while let Some(first) = rest.chars().next() {
        let found = secrets.iter().find_map(|secret| {
            let after = rest.strip_prefix(secret)?;
            // A short secret, such as a team's name, is part of many words.
            let is_whole =
                !before.is_some_and(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric);
            (secret.len() >= 6 || is_whole).then_some((*secret, after))
        });
        if let Some((secret, after)) = found {
            shown.push_str(REDACTED);
            before = secret.chars().next_back();
            rest = after;
        } else {
            shown.push(first);
            before = Some(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    untrusted(&shown, UNTRUSTED_LIMIT)
}

fn is_escaped(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// At most four short runs, of which at most one mixes letters and digits.
fn is_word(text: &str) -> bool {
    let runs = text.split(['-', '_', '.', '/', ',']);
    !text.is_empty()
        && text.chars().count() <= WORD_LIMIT
        && runs.clone().count() <= 4
        && runs.clone().all(|run| run.is_empty() || is_run(run, LETTERS_LIMIT))
        && runs.filter(|run| is_mixed(run)).count() <= 1
}

/// Letters, digits or a number with its unit; if short, any mix of letters and digits.
fn is_run(run: &str, letters_limit: usize) -> bool {
    if !run.chars().all(|c| c.is_ascii_alphanumeric()) {
        return false;
    }
    if run.len() <= MIXED_LIMIT {
        return true;
    }
    let unit = run.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = run.len() - unit.len();
    if digits > 0 {
        return digits <= DIGITS_LIMIT && unit.len() <= 3 && unit.chars().all(|c| c.is_ascii_alphabetic());
    }
    run.len() <= letters_limit && run.chars().all(|c| c.is_ascii_alphabetic()) && is_cased_like_a_word(run)
}

fn is_mixed(run: &str) -> bool {
    let unit = run.trim_start_matches(|c: char| c.is_ascii_digit());
    let has_digit = |text: &str| text.contains(|c: char| c.is_ascii_digit());
    has_digit(unit) || unit.len() > 3 && unit.len() < run.len()
}

/// All in one case, or with capitals at least three letters apart.
fn is_cased_like_a_word(letters: &str) -> bool {
    let is_upper = |c: char| c.is_ascii_uppercase();
    if letters.chars().all(is_upper) || !letters.contains(is_upper) {
        return true;
    }
    let mut humps = letters.split(is_upper);
    let first = humps.next().unwrap_or_default();
    (first.is_empty() || first.len() > 2) && humps.all(|hump| hump.len() >= 2)
}

/// Returns true if a name is more likely a key than a name.
pub fn looks_like_key(name: &str) -> bool {
    is_random(name) || name.chars().filter(char::is_ascii_digit).count() > DIGITS_LIMIT
}

/// As long as a key, and not a word.
fn is_random(part: &str) -> bool {
    part.split(['-', '_', ' ', '+']).any(|run| run.len() >= 16 && !is_run(run, 2 * LETTERS_OF_NAME_LIMIT))
}

/// A host with or without a port. Only after a scheme may the host be empty.
fn is_authority(text: &str, has_scheme: bool) -> bool {
    let is_port = |port: &str| (1..=6).contains(&port.len()) && port.chars().all(|c| c.is_ascii_digit());
    match text.rsplit_once(':') {
        Some((host, port)) if is_port(port) && !host.ends_with(':') => {
            host.is_empty() && has_scheme || is_host(host)
        }
        _ => is_host(text),
    }
}

fn is_host(text: &str) -> bool {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<core::net::IpAddr>().is_ok() {
        return true;
    }
    let labels: Vec<&str> = text.split('.').collect();
    match labels.as_slice() {
        [label] => is_word(label),
        [others @ .., last] => {
            let is_domain = (2..=18).contains(&last.len()) && last.chars().all(|c| c.is_ascii_alphabetic());
            is_domain && is_cased_like_a_word(last) && others.iter().all(|label| is_label(label))
        }
        [] => false,
    }
}

/// A domain label. Cloud providers use lower-case identifiers of 17 hexadecimal digits there.
fn is_label(label: &str) -> bool {
    let is_lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_part =
        |run: &str| run.len() <= 20 && run.chars().all(is_lower) || is_run(run, LETTERS_OF_NAME_LIMIT);
    !label.is_empty() && label.len() <= 63 && label.split('-').all(is_part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: [&str; 12] = [
        "hunter2",
        "hunter2-ingestion-key",
        "550e8400-e29b-41d4-a716-446655440000",
        "9f86d081884c7d659a2feaa0c55ad015",
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.SflKxwRJSMeKKF2QT4fwpM",
        "Bearer abcdef",
        "me:swordfish",
        "ab12c-de34f-gh56i-jk78l",
        "abcdefghijklmnop",
        "-----BEGIN PRIVATE KEY-----",
    ];

    #[test]
    fn words_and_numbers_are_shown() {
        for word in [
            "tcp",
            "carrier-pigeon",
            "http/json",
            "http2",
            "none,logs",
            "5",
            "250ms",
            "4MiB",
            "268435456",
            "1.5s",
            "orderService",
        ] {
            assert_eq!(value(word).to_string(), format!("{word:?}"));
        }
        assert_eq!(value("x1y2z3").to_string(), "a value of 6 characters");
    }

    #[test]
    fn keys_are_never_shown() {
        for key in KEYS {
            let shown = [value(key), list(key), endpoint(key), host(key), hosts(key), path(key)];
            assert!(shown.iter().all(|echo| matches!(echo, Echo::Hidden(_))), "{key}: {shown:?}");
            assert!(!name(key).contains(key) || is_name(key), "{key}");
            let inside = [
                format!("https://host/{key}"),
                format!("https://me:{key}@host"),
                format!("https://host?t={key}"),
            ];
            assert!(inside.iter().all(|text| !endpoint(text).to_string().contains(key)), "{key}");
            assert!(!url_path(&format!("/v1/{key}/logs")).contains(key), "{key}");
        }
    }

    #[test]
    fn endpoint_is_shown_up_to_its_port() {
        for whole in [
            "https://clickstack.example.com:4317",
            "https://in-otel.hyperdx.io",
            "https://otel.example.de/",
            "clickstack.example.com:4317",
            "tcp://clickstack.example.com",
            "https://:4317",
            "https://",
            "http://[::1]:4317",
            "http://10.0.0.5:4317/",
            "https://abc123xyz0.eu-central-1.aws.clickhouse.cloud:8443",
            "https://vpce-0123456789abcdef0-abcdefgh.vpce-svc-0a.eu-west-1.vpce.amazonaws.com",
            "collector:4317",
        ] {
            assert_eq!(endpoint(whole), Echo::Text(whole.to_owned()));
        }
        assert_eq!(endpoint("https://host/secret/v1").to_string(), "\"https://host/…\"");
        assert_eq!(endpoint("https://me%40host").to_string(), "a value of 17 characters");
        assert_eq!(url_path("/t0k3n/v1/logs"), "/…/v1/logs");
    }

    #[test]
    fn path_is_shown_unless_it_looks_like_a_key() {
        for whole in
            ["/var/task/ca.pem", "/tmp/.tmpAb3dE9/absent.env", "./rotel.env", "client.key", "/nowhere"]
        {
            assert_eq!(path(whole), Echo::Text(whole.to_owned()));
        }
        for hidden in ["MIIEvQIBADANBgkqhkiG9w0", "/MIIEvQIBADANBgkqhkiG9w0", "/a\nb", "/a?b"] {
            assert!(matches!(path(hidden), Echo::Hidden(_)), "{hidden}");
        }
    }

    #[test]
    fn variable_names_are_shown_and_keys_are_not() {
        for whole in [
            "ROTEL_OTLP_GRPC_MAX_RECV_MSG_SIZE_MIB",
            "otlphttp/second",
            "cumulativetodelta",
            "k8sattributes.x",
        ] {
            assert_eq!(name(whole) == whole, is_name(whole));
        }
        assert_eq!(name("ROTEL_OTLP_EXPORTER_ENPDOINT"), "ROTEL_OTLP_EXPORTER_ENPDOINT");
        assert_eq!(name("ROTEL_9f86d081884c7d65"), "ROTEL_… (a name of 22 characters)");
    }

    #[test]
    fn untrusted_text_stays_on_one_line() {
        let words = "a\nERROR b\r\u{1b}[31m\u{2028}\u{202e}é\t";
        assert_eq!(untrusted(words, 100), r"a\nERROR b\r\u{1b}[31m\u{2028}\u{202e}é\t");
        assert_eq!(untrusted("abcdef", 3), "abc…");
    }

    #[test]
    fn secrets_are_redacted_in_backend_text() {
        let secrets = ["hunter2-key", "hunter2", "ab"];
        assert_eq!(
            redacted("key hunter2-key, xhunter2x of ab, table\n", secrets),
            r"key [redacted], x[redacted]x of [redacted], table\n"
        );
        let long = redacted(&"x".repeat(300), []);
        assert_eq!(long.chars().count(), UNTRUSTED_LIMIT + 1);
    }

    proptest! {
        #[test]
        fn untrusted_text_cannot_end_a_line(text in "\\PC{0,20}[\\x00-\\x1f\u{85}\u{2028}]\\PC{0,20}") {
            prop_assert!(!untrusted(&text, 100).chars().any(is_escaped));
            for shown in [value(&text), list(&text), endpoint(&text), host(&text), hosts(&text), path(&text)] {
                prop_assert!(matches!(shown, Echo::Hidden(_)));
            }
        }

        #[test]
        fn random_keys_are_hidden(key in "[A-Za-z0-9]{20,60}") {
            prop_assume!(key.chars().any(|c| c.is_ascii_digit()));
            for shown in [value(&key), list(&key), endpoint(&key), host(&key), path(&key)] {
                prop_assert!(matches!(shown, Echo::Hidden(_)), "{}", shown);
            }
        }
    }
}

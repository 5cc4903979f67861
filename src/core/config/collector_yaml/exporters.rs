//! Translates the settings of `otlp` and `otlphttp` exporters.

use std::time::Duration;

use super::node::{YamlValue, shown};
use super::translation::{Location, Translation, list};

/// The collector exporters that are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CollectorExporterKind {
    Grpc,
    Http,
    /// Counts items.
    Debug,
    /// Drops everything.
    Nop,
}

/// The type of a component: the part of its id before the `/`.
pub(super) fn component_type(id: &str) -> &str {
    id.split_once('/').map_or(id, |(kind, _)| kind)
}

impl CollectorExporterKind {
    pub(super) fn of(id: &str) -> Option<Self> {
        Some(match component_type(id) {
            "otlp" | "otlp_grpc" => Self::Grpc,
            "otlphttp" | "otlp_http" => Self::Http,
            "debug" | "logging" => Self::Debug,
            "nop" => Self::Nop,
            _ => return None,
        })
    }
}

/// Returns true for the name of an exporter's setting, which stands in place of an exporter if its indentation is wrong.
pub(super) fn is_setting(key: &str) -> bool {
    const SETTINGS: [&str; 8] =
        ["auth", "compression", "endpoint", "headers", "retry_on_failure", "sending_queue", "timeout", "tls"];
    SETTINGS.contains(&key)
}

/// Returns true for an extension that exporters name as their authenticator.
pub(super) fn is_authenticator(id: &str) -> bool {
    let kind = component_type(id);
    ["basicauth", "headers_setter", "oauth2client", "sigv4auth"].contains(&kind)
        || kind.ends_with("tokenauth")
}

/// A setting: the end of its variable's name, its text, and its location.
pub(super) type ExporterSetting<'n> = (&'static str, String, Location<'n>);

/// Settings that have no effect and are not needed, each with the reason.
const NO_EFFECT: &[(&str, &str)] = &[
    ("balancer_name", "there is a single connection"),
    ("batcher", "ROTEL_BATCH_MAX_SIZE limits batches"),
    ("compression_params", "the fastest level is used"),
    ("cookies", "cookies are not stored"),
    ("disable_keep_alives", "connections are always kept alive"),
    ("force_attempt_http2", "TLS offers both HTTP versions"),
    ("http2_ping_timeout", "idle connections are not probed"),
    ("http2_read_idle_timeout", "idle connections are not probed"),
    ("idle_conn_timeout", "idle connections are replaced after 20 seconds"),
    ("keepalive", "idle connections are replaced after 20 seconds"),
    ("max_conns_per_host", "there is a single connection"),
    ("max_idle_conns", "there is a single connection"),
    ("max_idle_conns_per_host", "there is a single connection"),
    ("middlewares", "middlewares are not supported"),
    ("profiles_endpoint", "profiles are not supported"),
    ("read_buffer_size", "the buffer size is fixed"),
    ("sending_queue", "ROTEL_BUFFER_MAX_BYTES limits the buffer"),
    ("wait_for_ready", "telemetry that cannot be sent is buffered"),
    ("write_buffer_size", "the buffer size is fixed"),
];

const NO_EFFECT_IN_TLS: &[&str] = &[
    "cipher_suites",
    "curve_preferences",
    "include_system_ca_certs_pool",
    "max_version",
    "min_version",
    "reload_interval",
];

/// The state of translating one exporter.
struct ExporterTranslator<'a, 'g, 'n> {
    translation: &'a mut Translation<'g>,
    extensions: &'a [Location<'n>],
    /// A variable outside the file sets its endpoint.
    has_outside_endpoint: bool,
    kind: CollectorExporterKind,
    settings: Vec<ExporterSetting<'n>>,
    /// The headers, and the location of the first.
    headers: Vec<(String, String)>,
    headers_location: Option<Location<'n>>,
}

/// Translates an exporter's settings. `extensions` may contain its authenticator. With an endpoint outside the file, its own may
/// be empty.
pub(super) fn translate<'n>(
    translation: &mut Translation<'_>,
    exporter: &Location<'n>,
    kind: CollectorExporterKind,
    extensions: &[Location<'n>],
    has_outside_endpoint: bool,
) -> Vec<ExporterSetting<'n>> {
    let mut translator = ExporterTranslator {
        translation,
        extensions,
        has_outside_endpoint,
        kind,
        settings: Vec::new(),
        headers: Vec::new(),
        headers_location: None,
    };
    let entries = translator.translation.entries(exporter);
    let tls = entries.iter().find(|entry| entry.key == "tls").cloned();
    let is_insecure = tls.is_some_and(|tls| translator.is_insecure(&tls));
    let protocol = if kind == CollectorExporterKind::Grpc { "grpc" } else { "http" };
    translator.settings.push(("PROTOCOL", protocol.to_owned(), exporter.clone()));
    for entry in entries {
        match (entry.key, kind) {
            ("endpoint", _) => translator.endpoint(&entry, is_insecure),
            ("traces_endpoint", CollectorExporterKind::Http) => translator.text("TRACES_ENDPOINT", &entry),
            ("metrics_endpoint", CollectorExporterKind::Http) => translator.text("METRICS_ENDPOINT", &entry),
            ("logs_endpoint", CollectorExporterKind::Http) => translator.text("LOGS_ENDPOINT", &entry),
            ("headers", _) => translator.headers(&entry),
            ("compression", _) => translator.compression(&entry),
            ("timeout", _) => translator.duration("REQUEST_TIMEOUT", &entry),
            ("retry_on_failure", _) => translator.retry(&entry),
            ("tls", _) => translator.tls(&entry),
            ("auth", _) => translator.auth(&entry),
            ("encoding", CollectorExporterKind::Http) => translator.encoding(&entry),
            ("proxy_url", _) => {
                translator
                    .translation
                    .error(&entry, "not supported; set HTTPS_PROXY or HTTP_PROXY instead, and remove this");
            }
            _ => translator.other_setting(&entry),
        }
    }
    if let Some(location) = translator.headers_location.take().filter(|_| !translator.headers.is_empty()) {
        let headers = list(&translator.headers);
        translator.set("CUSTOM_HEADERS", headers, &location);
    }
    translator.settings
}

impl<'n> ExporterTranslator<'_, '_, 'n> {
    fn set(&mut self, variable: &'static str, text: impl Into<String>, location: &Location<'n>) {
        self.settings.push((variable, text.into(), location.clone()));
    }

    fn text(&mut self, variable: &'static str, location: &Location<'n>) {
        if let Some(text) = self.translation.text(location) {
            self.set(variable, text, location);
        }
    }

    /// Adds a scheme to a gRPC endpoint without one, because the collector has a separate setting for TLS.
    fn endpoint(&mut self, location: &Location<'n>, is_insecure: bool) {
        let text = if self.has_outside_endpoint {
            self.translation.text(location)
        } else {
            self.translation
                .required(location, "has no value, so nothing is sent; set it, such as https://host:4318")
        };
        let Some(text) = text else { return };
        let is_reference = ["${arn:", "$<arn:", "${secretsmanager:", "secret://"]
            .iter()
            .any(|start| text.starts_with(start));
        if self.kind == CollectorExporterKind::Http || text.is_empty() || is_reference {
            return self.set("ENDPOINT", text, location);
        }
        let name = text.strip_prefix("dns:").map_or(&*text, |name| name.trim_start_matches('/'));
        let text = match (name.contains("://"), is_insecure) {
            (true, _) => name.to_owned(),
            (false, true) => format!("http://{name}"),
            (false, false) => format!("https://{name}"),
        };
        self.set("ENDPOINT", text, location);
    }

    /// Translates headers: a mapping, or a list of `name` and `value` as in newer collectors.
    fn headers(&mut self, location: &Location<'n>) {
        let mut pairs = Vec::new();
        self.headers_location.get_or_insert_with(|| location.clone());
        if matches!(location.node.structure(), YamlValue::List(_)) {
            for element in self.translation.elements(location) {
                let (mut name, mut value) = (None, None);
                for entry in self.translation.entries(&element) {
                    match entry.key {
                        "name" => name = self.translation.text(&entry),
                        "value" => value = self.translation.text(&entry),
                        _ => self.unknown(&entry),
                    }
                }
                pairs.push((name.unwrap_or_default(), value.unwrap_or_default()));
            }
        } else {
            for entry in self.translation.entries(location) {
                let missing = "the header has no value; set it, or remove the header";
                if let Some(value) = self.translation.required(&entry, missing) {
                    pairs.push((entry.key.to_owned(), value));
                }
            }
        }
        self.headers.append(&mut pairs);
    }

    fn compression(&mut self, location: &Location<'n>) {
        const OTHERS: [&str; 6] = ["deflate", "lz4", "snappy", "snappy-framed", "x-snappy-framed", "zlib"];
        let Some(text) = self.translation.text(location) else { return };
        if OTHERS.contains(&&*text) {
            self.translation.warning(
                location,
                format!("{text} is not supported, so gzip is used; set gzip, zstd or none"),
            );
        } else {
            self.set("COMPRESSION", if text.is_empty() { "none" } else { &text }, location);
        }
    }

    /// Translates a backoff, in which 0 means no delay, not no limit.
    fn backoff(&mut self, variable: &'static str, location: &Location<'n>) {
        let Some(text) = self.translation.text(location) else { return };
        match duration(&text) {
            Some(duration) => self.set(variable, format!("{}ms", duration.as_millis().max(1)), location),
            None => self.set(variable, text, location),
        }
    }

    fn duration(&mut self, variable: &'static str, location: &Location<'n>) {
        const NO_LIMIT: &str = "15m";
        let Some(text) = self.translation.text(location) else { return };
        let text = match duration(&text) {
            Some(Duration::ZERO) => {
                self.translation.warning(
                    location,
                    format!("0 means no limit, but the maximum of {NO_LIMIT} is used; set a duration"),
                );
                NO_LIMIT.to_owned()
            }
            Some(duration) => format!("{}ms", duration.as_millis().max(1)),
            // The variable's parser reports the error.
            None => text,
        };
        self.set(variable, text, location);
    }

    fn retry(&mut self, location: &Location<'n>) {
        for entry in self.translation.entries(location) {
            match entry.key {
                "enabled" => {
                    if self.translation.text(&entry).as_deref() == Some("false") {
                        self.translation.warning(
                            &entry,
                            "has no effect; telemetry that could not be sent is always kept and retried; remove it",
                        );
                    }
                }
                "initial_interval" => self.backoff("RETRY_INITIAL_BACKOFF", &entry),
                "max_interval" => self.backoff("RETRY_MAX_BACKOFF", &entry),
                "max_elapsed_time" => self.duration("RETRY_MAX_ELAPSED_TIME", &entry),
                "multiplier" | "randomization_factor" => {
                    self.translation.warning(
                        &entry,
                        "has no effect; delays double, with a random reduction of up to half; remove it",
                    );
                }
                _ => self.unknown(&entry),
            }
        }
    }

    fn is_insecure(&mut self, tls: &Location<'n>) -> bool {
        let YamlValue::Map(_) = tls.node.structure() else { return false };
        let insecure = self.translation.entries(tls).into_iter().find(|entry| entry.key == "insecure");
        insecure.is_some_and(|entry| self.translation.boolean(&entry))
    }

    fn tls(&mut self, location: &Location<'n>) {
        for entry in self.translation.entries(location) {
            match entry.key {
                "insecure" => {}
                "insecure_skip_verify" => self.text("TLS_SKIP_VERIFY", &entry),
                "ca_file" => self.text("TLS_CA_FILE", &entry),
                "ca_pem" => self.text("TLS_CA_PEM", &entry),
                "cert_file" => self.text("TLS_CERT_FILE", &entry),
                "cert_pem" => self.text("TLS_CERT_PEM", &entry),
                "key_file" => self.text("TLS_KEY_FILE", &entry),
                "key_pem" => self.text("TLS_KEY_PEM", &entry),
                "server_name_override" => {
                    self.translation.error(&entry, "not supported, because the certificate is verified for the endpoint's host name; use the certificate's name in the endpoint");
                }
                key if NO_EFFECT_IN_TLS.contains(&key) => {
                    self.translation.warning(
                        &entry,
                        "has no effect; TLS 1.2 and 1.3 are used with the defaults of rustls; remove it",
                    );
                }
                _ => self.unknown(&entry),
            }
        }
    }

    fn auth(&mut self, location: &Location<'n>) {
        for entry in self.translation.entries(location) {
            if entry.key != "authenticator" {
                self.unknown(&entry);
                continue;
            }
            let Some(id) = self.translation.text(&entry) else { continue };
            let extension = self.extensions.iter().find(|extension| extension.key == id).cloned();
            match (component_type(&id), extension) {
                ("basicauth", Some(extension)) => self.basic(&entry, &extension),
                ("bearertokenauth", Some(extension)) => self.bearer(&entry, &extension),
                ("basicauth" | "bearertokenauth", None) => {
                    self.translation
                        .error(&entry, format!("{} is not defined under extensions; define it", shown(&id)));
                }
                (kind, _) => self.translation.error(
                    &entry,
                    format!(
                        "{} is not supported; set the header itself under headers, or use basicauth or bearertokenauth",
                        shown(kind)
                    ),
                ),
            }
        }
    }

    fn basic(&mut self, auth: &Location<'n>, extension: &Location<'n>) {
        self.set("AUTHENTICATOR", "basic", auth);
        for entry in self.translation.entries(extension) {
            if entry.key != "client_auth" {
                self.translation.warning(&entry, "not supported, only client_auth is; remove it");
                continue;
            }
            for entry in self.translation.entries(&entry) {
                match entry.key {
                    "username" => self.text("BASIC_AUTH_USERNAME", &entry),
                    "password" => self.text("BASIC_AUTH_PASSWORD", &entry),
                    _ => self.translation.error(&entry, "not supported; set username and password"),
                }
            }
        }
    }

    /// Translates a bearer token to the header that it stands for.
    fn bearer(&mut self, auth: &Location<'n>, extension: &Location<'n>) {
        let (mut scheme, mut header) = ("Bearer".to_owned(), "Authorization".to_owned());
        let mut token = None;
        for entry in self.translation.entries(extension) {
            match entry.key {
                "scheme" => scheme = self.translation.text(&entry).unwrap_or_default(),
                "header" => header = self.translation.text(&entry).unwrap_or(header),
                "token" => token = self.translation.required(&entry, "has no value; set the token"),
                _ => self.translation.error(&entry, "not supported; set token"),
            }
        }
        if let Some(token) = token {
            self.headers.push((header, format!("{scheme} {token}").trim().to_owned()));
            self.headers_location.get_or_insert_with(|| auth.clone());
        }
    }

    fn encoding(&mut self, location: &Location<'n>) {
        if let Some(text) = self.translation.text(location)
            && text != "proto"
        {
            self.translation.warning(
                location,
                "has no effect; requests are sent as protobuf, which every OTLP endpoint accepts; set proto, or remove it",
            );
        }
    }

    fn other_setting(&mut self, location: &Location<'n>) {
        match NO_EFFECT.iter().find(|(key, _)| *key == location.key) {
            Some((_, reason)) => {
                self.translation.warning(location, format!("has no effect, because {reason}; remove it"));
            }
            None => self.unknown(location),
        }
    }

    fn unknown(&mut self, location: &Location<'n>) {
        warn_of_unknown(self.translation, location);
    }
}

/// Warns about an unknown setting.
pub(super) fn warn_of_unknown(translation: &mut Translation<'_>, location: &Location<'_>) {
    translation.warning(location, "unknown setting, so it has no effect; correct its name, or remove it");
}

/// Parses a duration in Go's syntax, such as `1m30s` or `1.5s`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = rest.split_at_checked(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?)?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_gos_syntax() {
        for (text, millis) in
            [("5s", 5000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("250ms", 250), ("0", 0), ("0s", 0)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for wrong in ["", "5", "s", "5 s", "5d", "-1s", "1..5s", "9999999999999999999999h"] {
            assert_eq!(duration(wrong), None, "{wrong:?}");
        }
    }
}

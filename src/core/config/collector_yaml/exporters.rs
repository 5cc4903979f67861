//! The settings of `otlp` and `otlphttp` exporters, as the variables of an exporter have them.

use std::time::Duration;

use super::node::{YamlValue, shown};
use super::translation::{Location, Translation, list};

/// What an exporter of the collector is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CollectorExporterKind {
    Grpc,
    Http,
    /// Counts what passes.
    Debug,
    /// Drops.
    Nop,
}

/// The kind of a component: what stands before the `/`.
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

/// A setting: how the name of its variable ends, its text, and where it stands.
pub(super) type ExporterSetting<'n> = (&'static str, String, Location<'n>);

/// What has no effect here and does no harm by that.
const IDLE: &[(&str, &str)] = &[
    ("balancer_name", "there is one connection"),
    ("batcher", "batches are cut by ROTEL_BATCH_MAX_SIZE"),
    ("compression_params", "it compresses at the fastest level"),
    ("cookies", "none are kept"),
    ("disable_keep_alives", "connections are kept"),
    ("force_attempt_http2", "over TLS both are offered"),
    ("http2_ping_timeout", "connections are tested by what is sent"),
    ("http2_read_idle_timeout", "connections are tested by what is sent"),
    ("idle_conn_timeout", "idle connections are renewed after 20 seconds"),
    ("keepalive", "idle connections are renewed after 20 seconds"),
    ("max_conns_per_host", "there is one connection"),
    ("max_idle_conns", "there is one connection"),
    ("max_idle_conns_per_host", "there is one connection"),
    ("middlewares", "there are none"),
    ("profiles_endpoint", "there are no profiles"),
    ("read_buffer_size", "it has its own"),
    ("sending_queue", "what waits is bounded by ROTEL_BUFFER_MAX_BYTES"),
    ("wait_for_ready", "what cannot be sent is kept"),
    ("write_buffer_size", "it has its own"),
];

const IDLE_OF_TLS: &[&str] = &[
    "cipher_suites",
    "curve_preferences",
    "include_system_ca_certs_pool",
    "max_version",
    "min_version",
    "reload_interval",
];

/// A walk through one exporter.
struct ExporterTranslator<'a, 'g, 'n> {
    translation: &'a mut Translation<'g>,
    extensions: &'a [Location<'n>],
    kind: CollectorExporterKind,
    settings: Vec<ExporterSetting<'n>>,
}

/// Reads an exporter's settings. `extensions` are those that may authenticate it.
pub(super) fn read<'n>(
    translation: &mut Translation<'_>,
    exporter: &Location<'n>,
    kind: CollectorExporterKind,
    extensions: &[Location<'n>],
) -> Vec<ExporterSetting<'n>> {
    let mut walk = ExporterTranslator { translation, extensions, kind, settings: Vec::new() };
    let entries = walk.translation.entries(exporter);
    let tls = entries.iter().find(|entry| entry.key == "tls").cloned();
    let is_insecure = tls.is_some_and(|tls| walk.is_insecure(&tls));
    let protocol = if kind == CollectorExporterKind::Grpc { "grpc" } else { "http" };
    walk.settings.push(("PROTOCOL", protocol.to_owned(), exporter.clone()));
    for entry in entries {
        match (entry.key, kind) {
            ("endpoint", _) => walk.endpoint(&entry, is_insecure),
            ("traces_endpoint", CollectorExporterKind::Http) => walk.text("TRACES_ENDPOINT", &entry),
            ("metrics_endpoint", CollectorExporterKind::Http) => walk.text("METRICS_ENDPOINT", &entry),
            ("logs_endpoint", CollectorExporterKind::Http) => walk.text("LOGS_ENDPOINT", &entry),
            ("headers", _) => walk.headers(&entry),
            ("compression", _) => walk.compression(&entry),
            ("timeout", _) => walk.duration("REQUEST_TIMEOUT", &entry),
            ("retry_on_failure", _) => walk.retry(&entry),
            ("tls", _) => walk.tls(&entry),
            ("auth", _) => walk.auth(&entry),
            ("encoding", CollectorExporterKind::Http) => walk.encoding(&entry),
            ("proxy_url", _) => {
                walk.translation.error(
                    &entry,
                    "the proxy is taken from HTTPS_PROXY or HTTP_PROXY; set that, and remove this",
                );
            }
            _ => walk.idle(&entry),
        }
    }
    walk.settings
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

    /// gRPC's needs no scheme there: whether TLS is display_name is a setting of its own.
    fn endpoint(&mut self, location: &Location<'n>, is_insecure: bool) {
        let Some(text) = self.translation.text(location) else { return };
        let is_reference = ["${arn:", "$<arn:", "secret://"].iter().any(|start| text.starts_with(start));
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

    /// A mapping, or as newer collectors have it a list of `name` and `value`.
    fn headers(&mut self, location: &Location<'n>) {
        let mut pairs = Vec::new();
        if matches!(location.node.value, YamlValue::List(_)) {
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
                let value = self.translation.text(&entry).unwrap_or_default();
                if value.is_empty() {
                    self.translation.error(&entry, "the header has no value; write it, or remove the header");
                }
                pairs.push((entry.key.to_owned(), value));
            }
        }
        if !pairs.is_empty() {
            self.set("CUSTOM_HEADERS", list(&pairs), location);
        }
    }

    fn compression(&mut self, location: &Location<'n>) {
        const OTHERS: [&str; 6] = ["deflate", "lz4", "snappy", "snappy-framed", "x-snappy-framed", "zlib"];
        let Some(text) = self.translation.text(location) else { return };
        if OTHERS.contains(&&*text) {
            self.translation.warning(
                location,
                format!("{text} is not in this extension, so it sends with gzip; write gzip, zstd or none"),
            );
        } else {
            self.set("COMPRESSION", if text.is_empty() { "none" } else { &text }, location);
        }
    }

    /// No pause is one, and not a limit.
    fn pause(&mut self, variable: &'static str, location: &Location<'n>) {
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
                self.translation.warning(location, format!("0 is no limit, and here it is {NO_LIMIT}"));
                NO_LIMIT.to_owned()
            }
            Some(duration) => format!("{}ms", duration.as_millis().max(1)),
            // What is wrong with it is said where it is read.
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
                            "what fails is kept and sent again all the same, so nothing is lost",
                        );
                    }
                }
                "initial_interval" => self.pause("RETRY_INITIAL_BACKOFF", &entry),
                "max_interval" => self.pause("RETRY_MAX_BACKOFF", &entry),
                "max_elapsed_time" => self.duration("RETRY_MAX_ELAPSED_TIME", &entry),
                "multiplier" | "randomization_factor" => {
                    self.translation.warning(
                        &entry,
                        "it has no effect here: pauses double, less up to half of them by chance",
                    );
                }
                _ => self.unknown(&entry),
            }
        }
    }

    fn is_insecure(&mut self, tls: &Location<'n>) -> bool {
        let YamlValue::Map(_) = tls.node.value else { return false };
        let insecure = self.translation.entries(tls).into_iter().find(|entry| entry.key == "insecure");
        insecure.is_some_and(|entry| self.translation.flag(&entry))
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
                    self.translation.error(&entry, "the certificate is checked for the endpoint's own name; write that name in the endpoint");
                }
                key if IDLE_OF_TLS.contains(&key) => {
                    self.translation.warning(
                        &entry,
                        "it has no effect here: TLS 1.2 and 1.3 are display_name as rustls has them; remove it",
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
                ("basicauth", None) => {
                    self.translation.error(
                        &entry,
                        format!("there is no {} among the extensions; write it there", shown(&id)),
                    );
                }
                (kind, _) => self.translation.error(
                    &entry,
                    format!(
                        "{} is not in this extension; write the header itself under headers, or basicauth",
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
                self.translation
                    .warning(&entry, "it has no effect here, where only client_auth counts; remove it");
                continue;
            }
            for entry in self.translation.entries(&entry) {
                match entry.key {
                    "username" => self.text("BASIC_AUTH_USERNAME", &entry),
                    "password" => self.text("BASIC_AUTH_PASSWORD", &entry),
                    _ => self
                        .translation
                        .error(&entry, "only username and password are known here; write them"),
                }
            }
        }
    }

    fn encoding(&mut self, location: &Location<'n>) {
        if let Some(text) = self.translation.text(location)
            && text != "proto"
        {
            self.translation.warning(
                location,
                "requests are sent as protobuf, which every OTLP endpoint takes; write proto, or remove it",
            );
        }
    }

    fn idle(&mut self, location: &Location<'n>) {
        match IDLE.iter().find(|(key, _)| *key == location.key) {
            Some((_, instead)) => {
                self.translation
                    .warning(location, format!("it has no effect here, where {instead}; remove it"));
            }
            None => self.unknown(location),
        }
    }

    fn unknown(&mut self, location: &Location<'n>) {
        unknown(self.translation, location);
    }
}

/// Tells of a setting that is not known here.
pub(super) fn unknown(translation: &mut Translation<'_>, location: &Location<'_>) {
    translation.warning(
        location,
        "there is no such setting here, so it has no effect; correct its name, or remove it",
    );
}

/// A duration as Go has it: numbers and their units, such as `1m30s` or `1.5s`. `None` for what is none.
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
    fn durations_are_read_as_go_has_them() {
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

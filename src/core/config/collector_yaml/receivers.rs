//! Translates the receivers of pipelines.

use super::exporters::{component_type, warn_of_unknown};
use super::node::shown;
use super::translation::{Location, Translation};

/// Translates a receiver. `used` is the location where a pipeline names it.
pub(super) fn translate(
    translation: &mut Translation<'_>,
    id: &str,
    used: &Location<'_>,
    defined: &[Location<'_>],
) {
    let Some(location) = defined.iter().find(|location| location.key == id) else {
        return translation.error(
            used,
            format!("{} is not defined under receivers; define it, or remove it here", shown(id)),
        );
    };
    match component_type(id) {
        "otlp" => otlp(translation, location),
        "telemetryapi" => telemetry_api(translation, location),
        "nop" => {}
        kind => translation.error(
            location,
            format!(
                "{} is not supported, so telemetry sent to it is lost; send OTLP instead, and remove it",
                shown(kind)
            ),
        ),
    }
}

fn otlp(translation: &mut Translation<'_>, location: &Location<'_>) {
    for entry in translation.entries(location) {
        if entry.key != "protocols" {
            warn_of_unknown(translation, &entry);
            continue;
        }
        for protocol in translation.entries(&entry) {
            match protocol.key {
                "grpc" => server(translation, &protocol, "ROTEL_OTLP_GRPC_ENDPOINT"),
                "http" => server(translation, &protocol, "ROTEL_OTLP_HTTP_ENDPOINT"),
                _ => warn_of_unknown(translation, &protocol),
            }
        }
    }
}

fn server(translation: &mut Translation<'_>, location: &Location<'_>, endpoint: &str) {
    for entry in translation.entries(location) {
        match (entry.key, location.key) {
            ("endpoint", _) => translation.set_text(endpoint, &entry),
            ("max_recv_msg_size_mib", "grpc") => {
                translation.set_text("ROTEL_OTLP_GRPC_MAX_RECV_MSG_SIZE_MIB", &entry);
            }
            ("traces_url_path", "http") => translation.set_text("ROTEL_OTLP_RECEIVER_TRACES_HTTP_PATH", &entry),
            ("metrics_url_path", "http") => translation.set_text("ROTEL_OTLP_RECEIVER_METRICS_HTTP_PATH", &entry),
            ("logs_url_path", "http") => translation.set_text("ROTEL_OTLP_RECEIVER_LOGS_HTTP_PATH", &entry),
            ("tls", _) => translation.error(
                &entry,
                "not supported, because this connection stays within the function's environment; send to http://, and remove it",
            ),
            (
                "auth" | "compression_algorithms" | "cors" | "idle_timeout" | "include_metadata" | "keep_alives_enabled"
                | "keepalive" | "max_concurrent_streams" | "max_request_body_size" | "middlewares" | "read_buffer_size"
                | "read_header_timeout" | "read_timeout" | "response_headers" | "transport" | "write_buffer_size"
                | "write_timeout",
                _,
            ) => translation.warning(&entry, "has no effect; remove it"),
            _ => warn_of_unknown(translation, &entry),
        }
    }
}

fn telemetry_api(translation: &mut Translation<'_>, location: &Location<'_>) {
    for entry in translation.entries(location) {
        match entry.key {
            "types" => {
                let types: Vec<_> = translation.texts(&entry).into_iter().map(|(text, _)| text).collect();
                // An empty list still includes the platform events.
                let types = if types.is_empty() { "platform".to_owned() } else { types.join(",") };
                translation.set("ROTEL_LAMBDA_TELEMETRY_TYPES", types, &entry);
            }
            "port" => {
                if let Some(port) = translation.text(&entry) {
                    translation.set("ROTEL_TELEMETRY_ENDPOINT", format!("0.0.0.0:{port}"), &entry);
                }
            }
            "max_items" | "max_bytes" | "timeout_ms" | "maxItems" | "maxBytes" | "timeoutMs" => translation.warning(
                &entry,
                "has no effect, because the Telemetry API always delivers as early as possible; remove it",
            ),
            _ => warn_of_unknown(translation, &entry),
        }
    }
}

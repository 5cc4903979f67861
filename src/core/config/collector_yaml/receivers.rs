//! The receivers of pipelines.

use super::account::{Account, Place};
use super::exporters::{kind_of, unknown};
use super::node::shown;

/// Reads a receiver that a pipeline names. `used` is where.
pub(super) fn read(account: &mut Account<'_>, id: &str, used: &Place<'_>, defined: &[Place<'_>]) {
    let Some(place) = defined.iter().find(|place| place.key == id) else {
        return account.fault(
            used,
            format!("there is no {} among the receivers; write it there, or remove it here", shown(id)),
        );
    };
    match kind_of(id) {
        "otlp" => otlp(account, place),
        "telemetryapi" => telemetry_api(account, place),
        "nop" => {}
        kind => account.fault(
            place,
            format!(
                "{} is not in this extension, so what is sent to it goes nowhere; send OTLP, and remove it",
                shown(kind)
            ),
        ),
    }
}

fn otlp(account: &mut Account<'_>, place: &Place<'_>) {
    for entry in account.entries(place) {
        if entry.key != "protocols" {
            unknown(account, &entry);
            continue;
        }
        for protocol in account.entries(&entry) {
            match protocol.key {
                "grpc" => server(account, &protocol, "ROTEL_OTLP_GRPC_ENDPOINT"),
                "http" => server(account, &protocol, "ROTEL_OTLP_HTTP_ENDPOINT"),
                _ => unknown(account, &protocol),
            }
        }
    }
}

fn server(account: &mut Account<'_>, place: &Place<'_>, endpoint: &str) {
    for entry in account.entries(place) {
        match (entry.key, place.key) {
            ("endpoint", _) => account.set_text(endpoint, &entry),
            ("max_recv_msg_size_mib", "grpc") => {
                account.set_text("ROTEL_OTLP_GRPC_MAX_RECV_MSG_SIZE_MIB", &entry);
            }
            ("traces_url_path", "http") => account.set_text("ROTEL_OTLP_RECEIVER_TRACES_HTTP_PATH", &entry),
            ("metrics_url_path", "http") => account.set_text("ROTEL_OTLP_RECEIVER_METRICS_HTTP_PATH", &entry),
            ("logs_url_path", "http") => account.set_text("ROTEL_OTLP_RECEIVER_LOGS_HTTP_PATH", &entry),
            ("tls", _) => account.fault(
                &entry,
                "TLS is not received here, where nothing leaves the function's environment; send to http://, and remove it",
            ),
            (
                "auth" | "compression_algorithms" | "cors" | "idle_timeout" | "include_metadata" | "keep_alives_enabled"
                | "keepalive" | "max_concurrent_streams" | "max_request_body_size" | "middlewares" | "read_buffer_size"
                | "read_header_timeout" | "read_timeout" | "response_headers" | "transport" | "write_buffer_size"
                | "write_timeout",
                _,
            ) => account.warning(&entry, "it has no effect here; remove it"),
            _ => unknown(account, &entry),
        }
    }
}

fn telemetry_api(account: &mut Account<'_>, place: &Place<'_>) {
    for entry in account.entries(place) {
        match entry.key {
            "types" => {
                let types: Vec<_> = account.texts(&entry).into_iter().map(|(text, _)| text).collect();
                // None is none but the platform's, which is always there.
                let types = if types.is_empty() { "platform".to_owned() } else { types.join(",") };
                account.set("ROTEL_LAMBDA_TELEMETRY_TYPES", types, &entry);
            }
            "port" => {
                if let Some(port) = account.text(&entry) {
                    account.set("ROTEL_TELEMETRY_ENDPOINT", format!("0.0.0.0:{port}"), &entry);
                }
            }
            "max_items" | "max_bytes" | "timeout_ms" | "maxItems" | "maxBytes" | "timeoutMs" => account.warning(
                &entry,
                "it has no effect here: the Telemetry API delivers as soon as it may, so that the end of the function is not held up",
            ),
            _ => unknown(account, &entry),
        }
    }
}

//! The endpoint of the function's SDK, which the extension never uses as its own. People who set the backend's address there get
//! the settings to write instead.

use url::Url;

use super::reader::Reader;
use crate::echo;

const ENDPOINTS: [&str; 4] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
];
/// The hosts of the execution environment itself.
const OWN_HOSTS: [&str; 5] = ["localhost", "127.0.0.1", "[::1]", "0.0.0.0", "sandbox.localdomain"];

/// The SDK's variable that names another host, and a warning for an extension without an endpoint.
pub(super) fn of_another_host(reader: &Reader<'_>) -> Option<(&'static str, String)> {
    let is_remote = |name: &&str| {
        let host = reader.text(name).and_then(|text| Url::parse(text).ok()?.host_str().map(str::to_owned));
        host.is_some_and(|host| !OWN_HOSTS.contains(&&*host))
    };
    let variable = ENDPOINTS.into_iter().find(is_remote)?;
    let endpoint = echo::endpoint(reader.text(variable)?).text().unwrap_or_else(|| "its value".to_owned());
    let protocol = match reader.text("OTEL_EXPORTER_OTLP_PROTOCOL") {
        Some("grpc") => "",
        _ => " and ROTEL_OTLP_EXPORTER_PROTOCOL=http",
    };
    let headers = match reader.text("OTEL_EXPORTER_OTLP_HEADERS") {
        Some(_) => ", and ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS to the value of OTEL_EXPORTER_OTLP_HEADERS",
        None => "",
    };
    let message = format!(
        "configures the function's SDK only, and the extension has no endpoint, so it drops what it receives; set \
         ROTEL_OTLP_EXPORTER_ENDPOINT={endpoint}{protocol}{headers}, and here http://localhost:4318"
    );
    Some((variable, message))
}

//! A subscription to the Telemetry API, checked as Lambda checks it.

use std::time::Duration;

use serde::Deserialize;

use crate::state::ApiError;

/// The schema versions that Lambda supports.
const SCHEMAS: [&str; 3] = ["2022-07-01", "2022-12-13", "2025-01-29"];

/// An accepted subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) schema: String,
    pub(crate) types: Vec<String>,
    pub(crate) buffering: Buffering,
    /// Host, port and path of the listener.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

/// The limits of a buffer. Collected records are sent when the first is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffering {
    pub(crate) max_items: usize,
    pub(crate) max_bytes: usize,
    /// The time since the oldest record.
    pub(crate) timeout: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    schema_version: Option<String>,
    types: Vec<String>,
    #[serde(default)]
    buffering: BufferingBody,
    destination: Destination,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BufferingBody {
    max_items: Option<usize>,
    max_bytes: Option<usize>,
    timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Destination {
    protocol: String,
    #[serde(rename = "URI")]
    uri: String,
}

impl Subscription {
    /// Parses a subscription, with Lambda's limits.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: Body = serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))?;
        let schema = body.schema_version.unwrap_or_else(|| "2022-07-01".to_owned());
        if !SCHEMAS.contains(&schema.as_str()) {
            return Err(invalid(format!("schemaVersion {schema:?} is not one of {SCHEMAS:?}")));
        }
        if body.types.is_empty() {
            return Err(invalid("types is empty"));
        }
        for kind in &body.types {
            if !["platform", "function", "extension"].contains(&kind.as_str()) {
                return Err(invalid(format!("unknown type {kind:?}")));
            }
        }
        let buffering = Buffering {
            max_items: within("maxItems", body.buffering.max_items.unwrap_or(10_000), 1_000, 10_000)?,
            max_bytes: within("maxBytes", body.buffering.max_bytes.unwrap_or(262_144), 262_144, 1_048_576)?,
            timeout: Duration::from_millis(within(
                "timeoutMs",
                body.buffering.timeout_ms.unwrap_or(1_000),
                25,
                30_000,
            )?),
        };
        if body.destination.protocol != "HTTP" {
            return Err(invalid(format!("destination protocol {:?} is not HTTP", body.destination.protocol)));
        }
        let uri: http::Uri = body.destination.uri.parse().map_err(|_| invalid("destination URI"))?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("http"));
        let host = host.ok_or_else(|| invalid(format!("destination URI {uri} has no http host")))?;
        // Platform: only listeners within the environment, under this name.
        if host != "sandbox" && host != "sandbox.localdomain" {
            return Err(invalid(format!("destination host {host:?} is not sandbox.localdomain")));
        }
        let port = uri.port_u16().unwrap_or(80);
        // Platform: the port of the Runtime API is reserved.
        if port == crate::address::API_PORT {
            return Err(invalid("destination port 9001 is reserved"));
        }
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        Ok(Self { schema, types: body.types, buffering, host: host.to_owned(), port, path })
    }
}

fn within<N: Copy + PartialOrd + std::fmt::Display>(
    name: &str,
    value: N,
    low: N,
    high: N,
) -> Result<N, ApiError> {
    if value < low || value > high {
        return Err(invalid(format!("{name} {value} is not between {low} and {high}")));
    }
    Ok(value)
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "ValidationError", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn body() -> Value {
        json!({"schemaVersion": "2025-01-29", "types": ["platform", "function"],
            "buffering": {"maxItems": 1000, "maxBytes": 262_144, "timeoutMs": 25},
            "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8990/telemetry"}})
    }

    fn refusal(pointer: &str, value: Value) -> String {
        let mut body = body();
        *body.pointer_mut(pointer).unwrap() = value;
        let error = Subscription::parse(body.to_string().as_bytes()).unwrap_err();
        assert_eq!((error.status, error.error_type), (400, "ValidationError"));
        error.message
    }

    #[test]
    fn a_good_subscription_is_granted() {
        let granted = Subscription::parse(body().to_string().as_bytes()).unwrap();
        assert_eq!((granted.port, granted.path.as_str()), (8990, "/telemetry"));
        assert_eq!(granted.buffering.timeout, Duration::from_millis(25));
    }

    #[test]
    fn omitted_fields_have_lambdas_defaults() {
        let mut body = body();
        body.as_object_mut().unwrap().remove("buffering");
        let granted = Subscription::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(
            granted.buffering,
            Buffering { max_items: 10_000, max_bytes: 262_144, timeout: Duration::from_secs(1) }
        );
    }

    #[test]
    fn values_beyond_lambdas_limits_are_refused() {
        assert!(refusal("/buffering/maxItems", json!(999)).contains("maxItems"));
        assert!(refusal("/buffering/maxItems", json!(10_001)).contains("maxItems"));
        assert!(refusal("/buffering/maxBytes", json!(262_143)).contains("maxBytes"));
        assert!(refusal("/buffering/maxBytes", json!(1_048_577)).contains("maxBytes"));
        assert!(refusal("/buffering/timeoutMs", json!(24)).contains("timeoutMs"));
        assert!(refusal("/buffering/timeoutMs", json!(30_001)).contains("timeoutMs"));
        assert!(refusal("/schemaVersion", json!("2030-01-01")).contains("schemaVersion"));
        assert!(refusal("/types", json!(["platform", "novelty"])).contains("novelty"));
        assert!(refusal("/types", json!([])).contains("types"));
        assert!(refusal("/destination/protocol", json!("TCP")).contains("TCP"));
        assert!(refusal("/destination/URI", json!("http://example.com:8990")).contains("example.com"));
        assert!(refusal("/destination/URI", json!("http://sandbox.localdomain:9001")).contains("9001"));
    }
}

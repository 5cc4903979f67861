//! The diagnosis of a failed request: the host, the cause and the remedy, with the variables that the user has set.
//!
//! This is the only table of remedies: `--check` prints [`ConfiguredRoute::diagnosis`], and the log prints
//! [`ConfiguredRoute::explanation`].
//!
//! Promises that header values are never printed, that only scheme, host and port of an endpoint are, and nothing of an
//! endpoint that comes from a secret.

use http::header::AUTHORIZATION;
use url::Url;

use crate::config::secret_ref;
use crate::config::{Export, Protocol, SourceLocations, Variables, exporter_variable};
use crate::delivery::connection_failure::{Cause, ConnectionFailure};
use crate::delivery::verdict::{BackendMessage, Failure};
use crate::echo;
use crate::signal::Signal;

const BEARER: &[u8] = b"bearer ";

/// The route of one signal's requests, and the variables that set it.
#[derive(Clone, Copy)]
pub struct ConfiguredRoute<'a> {
    signal: Signal,
    export: &'a Export,
    variables: &'a Variables,
    locations: &'a SourceLocations,
}

impl<'a> ConfiguredRoute<'a> {
    /// `locations` are those of the variables that a `collector.yaml` sets.
    pub fn new(
        signal: Signal,
        export: &'a Export,
        variables: &'a Variables,
        locations: &'a SourceLocations,
    ) -> Self {
        Self { signal, export, variables, locations }
    }

    /// The endpoint for messages: without the method for gRPC, the whole URL for HTTP.
    pub fn endpoint(&self) -> String {
        if let Some(text) = self.secret_endpoint() {
            let is_shown = secret_ref::is_single_reference(text);
            return if is_shown { text.to_owned() } else { "the value from its secret".to_owned() };
        }
        let url = &self.export.url;
        let path = match self.export.protocol {
            Protocol::Grpc => url.path().strip_suffix(self.signal.grpc_path()).unwrap_or(url.path()),
            Protocol::Http => url.path(),
        };
        // A path or a query may contain a token.
        let origin = echo::endpoint(&url.origin().ascii_serialization());
        format!("{}{}", origin.or_redacted(), echo::url_path(path))
    }

    /// The protocol, as in the variables.
    pub fn protocol(&self) -> &'static str {
        match self.export.protocol {
            Protocol::Grpc => "grpc",
            Protocol::Http => "http",
        }
    }

    /// The diagnosis of a request that succeeded but whose single item was rejected.
    pub fn rejected(&self, words: Option<&BackendMessage>) -> String {
        let why = words.map_or_else(|| "see the backend's log".to_owned(), ToString::to_string);
        format!("{}: accepted the request but rejected the item in it; {why}", self.host_and_port())
    }

    /// The failure and its remedy, to follow the words "the endpoint".
    pub fn explanation(&self, failure: &Failure) -> String {
        let meaning = self.meaning(failure);
        match failure {
            Failure::Connection(_) => format!("could not be reached: {meaning}"),
            Failure::Http(_) | Failure::Redirect { .. } | Failure::Firewall(_) => {
                format!("answered {meaning}")
            }
            Failure::Grpc(7 | 12 | 16) => format!("answered gRPC {meaning}"),
            Failure::Timeout => format!("sent {meaning}"),
            Failure::Answer(what) => {
                format!("sent a response that is not OTLP: {what}; {}", self.port_remedy())
            }
            Failure::Grpc(_) | Failure::FlushTimeout | Failure::Panicked => meaning,
        }
    }

    /// The host, the failure and its remedy.
    pub fn diagnosis(&self, failure: &Failure) -> String {
        format!("{}: {}", self.host_and_port(), self.meaning(failure))
    }

    fn meaning(&self, failure: &Failure) -> String {
        let meaning = match failure {
            Failure::Connection(failure) => self.connection_failure(failure),
            Failure::Http(status) => self.http_status(*status),
            Failure::Redirect { status, to } => format!("HTTP {status}: {}", self.redirect(to.as_deref())),
            Failure::Firewall(status) => format!(
                "HTTP {status}: a web firewall or proxy answered instead of the OTLP endpoint; allow this function's requests \
                 there, or correct host and port in {}",
                self.variable("ENDPOINT")
            ),
            Failure::Grpc(code) => self.grpc_status(*code, failure),
            Failure::Timeout => format!(
                "no response within {:?}; check that firewalls and security groups allow the connection and that DNS works; \
                 if the endpoint is slow, increase {}",
                self.export.request_timeout,
                self.variable("REQUEST_TIMEOUT")
            ),
            Failure::Answer(what) => format!("its response is not OTLP: {what}; {}", self.port_remedy()),
            Failure::FlushTimeout | Failure::Panicked => failure.to_string(),
        };
        match (failure, self.proxy()) {
            // The message names the proxy already.
            (Failure::Connection(ConnectionFailure { cause: Cause::Other, .. }), Some(_)) => meaning,
            (Failure::Connection(_) | Failure::Timeout, Some(proxy)) => {
                format!("{meaning}; requests go through the proxy in {proxy}, so the proxy may be the cause")
            }
            _ => meaning,
        }
    }

    fn connection_failure(&self, ConnectionFailure { cause, detail: words }: &ConnectionFailure) -> String {
        let endpoint = self.variable("ENDPOINT");
        let is_tls = self.url().scheme() == "https";
        let words = match cause {
            // The message of the TLS library repeats the host name.
            Cause::WrongName if self.secret_endpoint().is_some() => "not for the host name from the secret",
            _ => &echo::untrusted(words, echo::UNTRUSTED_LIMIT),
        };
        match cause {
            Cause::Name => {
                format!(
                    "host name does not resolve; correct {endpoint}, and check DNS resolution if the function is in a VPC"
                )
            }
            Cause::Refused => format!(
                "connection refused, because nothing listens there; start the backend, or correct host and port in {endpoint}"
            ),
            Cause::Unreachable => format!(
                "host unreachable: {words}; correct the host in {endpoint}, or check routes and firewalls"
            ),
            Cause::NotTls => {
                format!("this port does not use TLS; change https:// to http:// in {endpoint}")
            }
            Cause::UnknownAuthority => match &self.export.tls.ca {
                None => format!(
                    "its certificate is signed by an unknown authority; set {} to that authority's certificate",
                    self.variable("TLS_CA_FILE")
                ),
                Some(ca) => format!(
                    "its certificate is not signed by the authority in {}; set the certificate of the authority that signed it",
                    ca.variable
                ),
            },
            Cause::WrongName => format!(
                "its certificate is for another host name: {words}; set that name in {endpoint}, or issue a certificate \
                 for this one"
            ),
            Cause::Expired => {
                "its certificate has expired or is not valid yet; renew it, and check this machine's clock"
                    .to_owned()
            }
            Cause::Certificate => format!("its certificate is invalid: {words}; issue a new one"),
            Cause::ClientCertificate => self.client_certificate(),
            Cause::Closed if is_tls => self.client_certificate(),
            Cause::NoCommonProtocol => {
                format!("its TLS does not offer HTTP/2, which gRPC needs; {}", self.use_grpc_port())
            }
            Cause::Tls => format!(
                "the TLS handshake failed: {words}; check that the backend supports TLS 1.2 or 1.3, and see its log"
            ),
            Cause::NotHttp1 | Cause::NotHttp2 if is_tls => {
                format!("not a valid HTTP response for OTLP; {}", self.port_remedy())
            }
            Cause::Closed | Cause::NotHttp1 | Cause::NotHttp2 => self.unknown_protocol(),
            Cause::Other if self.proxy().is_some() => words.to_owned(),
            Cause::Other => {
                format!("the connection failed: {words}; correct {endpoint}, or see the backend's log")
            }
        }
    }

    /// The diagnosis for a port that expects TLS or the other protocol. Whether the server's response
    /// or the end of the connection arrives first is chance, so both get this diagnosis.
    fn unknown_protocol(&self) -> String {
        let endpoint = self.variable("ENDPOINT");
        let (protocol, other, other_default_port) = match self.export.protocol {
            Protocol::Grpc => ("plain gRPC", "OTLP/HTTP", 4318),
            Protocol::Http => ("plain HTTP", "gRPC", 4317),
        };
        let other_port = self.port_remedy();
        if self.url().port() == Some(other_default_port) {
            return format!(
                "{protocol} is not understood on this port, and {other_default_port} is the default port of {other}; {other_port}; if the \
                 port uses TLS, write https://"
            );
        }
        format!(
            "{protocol} is not understood on this port, which may expect TLS or {other}; write https:// in {endpoint}, or \
             {other_port}"
        )
    }

    /// The diagnosis for a missing or rejected client certificate. Over HTTP/2 the connection may close before the server's
    /// message about it arrives.
    fn client_certificate(&self) -> String {
        match &self.export.tls.identity {
            None => format!(
                "the server closed the connection during TLS, probably because it requires a client certificate (mTLS); set \
                 {} and {}, or see the backend's log",
                self.variable("TLS_CERT_FILE"),
                self.variable("TLS_KEY_FILE")
            ),
            Some(identity) => format!(
                "the server closed the connection during TLS, probably because it rejects the client certificate in {}; \
                 use one signed by an authority that it trusts, or see the backend's log",
                identity.certificate.variable
            ),
        }
    }

    fn http_status(&self, status: u16) -> String {
        let endpoint = self.variable("ENDPOINT");
        let is_grpc = self.export.protocol == Protocol::Grpc;
        let meaning = match status {
            300..=399 => self.redirect(None),
            401 => self.rejected_key(),
            403 => self.missing_permission(),
            407 => "the proxy requires credentials; add them to HTTPS_PROXY or HTTP_PROXY".to_owned(),
            429 => "the backend is overloaded; try again later, or raise its limits".to_owned(),
            502..=504 => {
                "its proxy or load balancer cannot reach a backend; check that ClickStack is running"
                    .to_owned()
            }
            500..=599 if !is_grpc => "internal error of the backend; see its log".to_owned(),
            _ if is_grpc => format!("the response is HTTP without gRPC; {}", self.use_grpc_port()),
            404 | 405 => self.wrong_path(),
            400 if self.url().scheme() == "http" => {
                format!(
                    "the request was rejected, probably because the port expects TLS; write https:// in {endpoint}"
                )
            }
            413 => "a single item exceeds the backend's size limit; raise the limit".to_owned(),
            415 => {
                format!(
                    "OTLP over HTTP with protobuf is not accepted, probably because this is a gRPC port; {}",
                    self.use_http_port()
                )
            }
            _ => "the request was rejected; check that this is an OTLP endpoint, and see its log".to_owned(),
        };
        format!("HTTP {status}: {meaning}")
    }

    fn redirect(&self, to: Option<&str>) -> String {
        let endpoint = self.variable("ENDPOINT");
        let own = self.url().origin().ascii_serialization();
        match to {
            Some(to) if to == own => format!(
                "redirects to another path on the same host, and redirects are not followed; correct the path in {endpoint}"
            ),
            Some(to) => {
                format!("redirects to {to}, and redirects are not followed; set {endpoint} to that address")
            }
            None => format!(
                "redirects are not followed; set {endpoint} to the target of the redirect, often https:// instead \
                 of http://"
            ),
        }
    }

    fn grpc_status(&self, code: i32, failure: &Failure) -> String {
        match code {
            16 => format!("UNAUTHENTICATED: {}", self.rejected_key()),
            7 => format!("PERMISSION_DENIED: {}", self.missing_permission()),
            12 => format!(
                "UNIMPLEMENTED: the server does not implement OTLP for {}; set only host and port of a collector in {}",
                self.signal,
                self.variable("ENDPOINT")
            ),
            8 => format!("{failure}; raise the backend's limits, or try again later"),
            14 => format!("{failure}; check that ClickStack is running, and any proxy in front of it"),
            _ => format!("{failure}; see the backend's log"),
        }
    }

    /// The diagnosis for a rejected key.
    fn rejected_key(&self) -> String {
        let headers = self.variable("CUSTOM_HEADERS");
        if let Some(keys) = self.export.headers.iter().find_map(|(_, value)| json_keys(value.as_bytes())) {
            return format!(
                "a header's value is a whole JSON secret; select one of its keys ({keys}) in {headers}: write #KEY after the \
                 secret's name, such as ${{arn:…#KEY}}"
            );
        }
        let mut values = self.export.headers.iter().filter(|(name, _)| name == AUTHORIZATION);
        match values.next() {
            None => format!(
                "a key is required, but no authorization header is set; set {headers}=Authorization=<ingestion API key>"
            ),
            Some((_, value)) if has_bearer(value.as_bytes()) => format!(
                "the authorization header begins with \"Bearer \", but ClickStack expects only the ingestion API key; remove \
                 \"Bearer \" from {headers}"
            ),
            Some(_) if self.is_basic() => {
                format!(
                    "wrong user name or password; correct {} and {}, or set an ingestion API key instead",
                    self.common_variable("BASIC_AUTH_USERNAME"),
                    self.common_variable("BASIC_AUTH_PASSWORD")
                )
            }
            Some(_) => format!(
                "the endpoint does not accept the key in the authorization header; copy the ingestion API key from \
                 ClickStack's settings into {headers}"
            ),
        }
    }

    fn missing_permission(&self) -> String {
        if self.export.headers.iter().any(|(_, value)| json_keys(value.as_bytes()).is_some()) {
            return self.rejected_key();
        }
        let has_bearer = self
            .export
            .headers
            .iter()
            .any(|(name, value)| name == AUTHORIZATION && has_bearer(value.as_bytes()));
        if has_bearer {
            return self.rejected_key();
        }
        format!(
            "access denied by the backend, or by a firewall or proxy in front of it; check their rules, and that the key in {} has \
             write permission",
            self.variable("CUSTOM_HEADERS")
        )
    }

    fn wrong_path(&self) -> String {
        let endpoint = self.variable("ENDPOINT");
        let path = format!("/v1/{}", self.signal);
        let url = self.url().path();
        let is_own = self.set_variable("ENDPOINT") == Some(self.signal_variable("ENDPOINT"));
        if is_own && !url.ends_with(&path) {
            format!("no OTLP at this path; {endpoint} is used unchanged, so append {path} to it")
        } else if is_own {
            format!("no OTLP at this path; correct the path before {path} in {endpoint}, or the host")
        } else if url.strip_suffix(&path).is_some_and(|base| base.contains("/v1/")) {
            format!(
                "no OTLP at this path; the extension appends /v1/logs and so on to {endpoint}, so remove /v1/… from it"
            )
        } else {
            format!(
                "no OTLP at this path; the extension appends /v1/logs and so on to {endpoint}; correct host, port or path there"
            )
        }
    }

    /// The remedy for a request that reached the wrong port.
    fn port_remedy(&self) -> String {
        match self.export.protocol {
            Protocol::Grpc => self.use_grpc_port(),
            Protocol::Http => self.use_http_port(),
        }
    }

    fn use_grpc_port(&self) -> String {
        format!(
            "set the gRPC port in {}, usually 4317, or set {}=http",
            self.variable("ENDPOINT"),
            self.variable("PROTOCOL")
        )
    }

    fn use_http_port(&self) -> String {
        format!(
            "set the HTTP port in {}, usually 4318, or set {}=grpc",
            self.variable("ENDPOINT"),
            self.variable("PROTOCOL")
        )
    }

    /// Host and port, if they may be printed.
    fn host_and_port(&self) -> String {
        let url = self.url();
        let host = url.host_str().and_then(|host| echo::host(host).text());
        match (self.secret_endpoint(), host, url.port_or_known_default()) {
            (None, Some(host), Some(port)) => format!("{host}:{port}"),
            _ => "the endpoint".to_owned(),
        }
    }

    /// The endpoint's text, if it contains secret references.
    fn secret_endpoint(&self) -> Option<&'a str> {
        let variable = self.set_variable("ENDPOINT")?;
        let text = self.variables.get(&variable)?;
        let is_plain = secret_ref::find(text).is_ok_and(|references| references.is_empty());
        (!is_plain).then_some(text)
    }

    fn is_basic(&self) -> bool {
        self.variables.contains_key(&self.common_variable("AUTHENTICATOR"))
    }

    /// The variable that set the proxy.
    fn proxy(&self) -> Option<&str> {
        self.export.proxy.as_ref().map(|proxy| proxy.variable.as_str())
    }

    /// The variable to name in a remedy: the one that sets the setting, else the one next to the endpoint's variable.
    fn variable(&self, setting: &str) -> String {
        let set =
            self.set_variable(setting).map(|name| self.locations.get(&name).unwrap_or(&name).to_owned());
        set.unwrap_or_else(|| {
            if self.set_variable("ENDPOINT") == Some(self.signal_variable("ENDPOINT")) {
                self.signal_variable(setting)
            } else {
                self.common_variable(setting)
            }
        })
    }

    /// The variable that sets the setting, if any.
    fn set_variable(&self, setting: &str) -> Option<String> {
        exporter_variable(self.variables, &self.export.exporter, self.signal, setting)
    }

    fn signal_variable(&self, setting: &str) -> String {
        self.export.exporter.signal_prefix(self.signal) + setting
    }

    fn common_variable(&self, setting: &str) -> String {
        self.export.exporter.prefix() + setting
    }

    fn url(&self) -> &'a Url {
        &self.export.url
    }
}

/// The keys of a JSON object in a header's value, after a scheme or alone.
fn json_keys(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    secret_ref::shown_keys(text.get(text.find('{')?..)?)
}

fn has_bearer(value: &[u8]) -> bool {
    value.get(..BEARER.len()).is_some_and(|start| start.eq_ignore_ascii_case(BEARER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Exports;
    use crate::config::tests::variables;

    use crate::config::NO_LOCATIONS;

    /// The protocol, the endpoint and the diagnosis of a failed logs request.
    fn diagnosis(variables: &Variables, failure: &Failure) -> String {
        let Exports::Known(exports) = crate::config::tests::only_exports(crate::config::read(variables))
        else {
            panic!("nothing is pending")
        };
        let export = exports.logs.expect("logs are exported");
        let route = ConfiguredRoute::new(Signal::Logs, &export, variables, &NO_LOCATIONS);
        format!("{} {}: {}", route.protocol(), route.endpoint(), route.diagnosis(failure))
    }

    #[test]
    fn default_port_reveals_the_other_protocol() {
        let closed = Failure::Connection(ConnectionFailure::new(Cause::NotHttp2, "frame with invalid size"));
        let endpoint = "ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT";
        let grpc = variables(&[(endpoint, "http://host:4318")]);
        let http =
            variables(&[(endpoint, "http://host:4317/v1/logs"), ("ROTEL_OTLP_EXPORTER_PROTOCOL", "http")]);
        insta::assert_snapshot!([diagnosis(&grpc, &closed), diagnosis(&http, &closed)].join("\n"), @"
        grpc http://host:4318: host:4318: plain gRPC is not understood on this port, and 4318 is the default port of OTLP/HTTP; set the gRPC port in ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT, usually 4317, or set ROTEL_OTLP_EXPORTER_LOGS_PROTOCOL=http; if the port uses TLS, write https://
        http http://host:4317/v1/logs: host:4317: plain HTTP is not understood on this port, and 4317 is the default port of gRPC; set the HTTP port in ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT, usually 4318, or set ROTEL_OTLP_EXPORTER_PROTOCOL=grpc; if the port uses TLS, write https://
        ");
    }

    #[test]
    fn query_and_header_values_are_not_printed() {
        for value in ["hunter2", "Bearer hunter2", "bearer hunter2", "Basic hunter2"] {
            let variables = variables(&[
                ("ROTEL_OTLP_EXPORTER_PROTOCOL", "http"),
                ("ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT", "https://host/v1/logs?token=hunter2#hunter2"),
                ("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", &format!("Authorization={value}")),
            ]);
            for status in 300..600 {
                let diagnosis = diagnosis(&variables, &Failure::Http(status));
                assert!(!diagnosis.contains("hunter2"), "{diagnosis}");
                let is_bearer = value.to_lowercase().starts_with("bearer") && [401, 403].contains(&status);
                assert_eq!(diagnosis.contains("begins with \"Bearer \""), is_bearer, "{diagnosis}");
            }
        }
    }
}

//! What the failure of a request means in the light of the way that it took: the thing, the cause and the remedy, naming
//! the variables that people have set.
//!
//! It is the one table of remedies: `--check` prints [`ConfiguredRoute::diagnosis`], and the log [`ConfiguredRoute::explanation`].
//!
//! Promises: nothing of a header's value is shown, and of an endpoint scheme, host and port alone, or nothing where it comes
//! from a secret.

use http::header::AUTHORIZATION;
use url::Url;

use crate::config::secret_ref;
use crate::config::{Export, Protocol, SourceLocations, Variables, exporter_variable};
use crate::delivery::connection_failure::{Cause, ConnectionFailure};
use crate::delivery::verdict::{BackendMessage, Failure};
use crate::echo;
use crate::signal::Signal;

const BEARER: &[u8] = b"bearer ";

/// The way of one signal's requests, and who has set it.
#[derive(Clone, Copy)]
pub struct ConfiguredRoute<'a> {
    signal: Signal,
    export: &'a Export,
    variables: &'a Variables,
    locations: &'a SourceLocations,
}

impl<'a> ConfiguredRoute<'a> {
    /// The way that `variables` have set for a signal, those with `locations` in a `collector.yaml`.
    pub fn new(
        signal: Signal,
        export: &'a Export,
        variables: &'a Variables,
        locations: &'a SourceLocations,
    ) -> Self {
        Self { signal, export, variables, locations }
    }

    /// Where requests go, in short: what is in common to all methods of gRPC, the whole of it for HTTP.
    pub fn endpoint(&self) -> String {
        if let Some(text) = self.secret_endpoint() {
            let is_shown = secret_ref::is_single_reference(text);
            return if is_shown { text.to_owned() } else { "what its secret holds".to_owned() };
        }
        let url = &self.export.url;
        let path = match self.export.protocol {
            Protocol::Grpc => url.path().strip_suffix(self.signal.grpc_path()).unwrap_or(url.path()),
            Protocol::Http => url.path(),
        };
        // A path or a query may hold a token.
        let origin = echo::endpoint(&url.origin().ascii_serialization());
        format!("{}{}", origin.or_redacted(), echo::url_path(path))
    }

    /// How OTLP is display_name there.
    pub fn protocol(&self) -> &'static str {
        match self.export.protocol {
            Protocol::Grpc => "grpc",
            Protocol::Http => "http",
        }
    }

    /// A request was answered, but its one item was rejected.
    pub fn rejected(&self, words: Option<&BackendMessage>) -> String {
        let why = words.map_or_else(|| "its own log says why".to_owned(), ToString::to_string);
        format!("{}: it took the request and rejected the item in it; {why}", self.place())
    }

    /// The failure and what to do about it, as the continuation of "the endpoint".
    pub fn explanation(&self, failure: &Failure) -> String {
        let meaning = self.meaning(failure);
        match failure {
            Failure::Connection(_) => format!("could not be reached: {meaning}"),
            Failure::Http(_) | Failure::Redirect { .. } | Failure::Firewall(_) => {
                format!("answered {meaning}")
            }
            Failure::Grpc(7 | 12 | 16) => format!("answered gRPC {meaning}"),
            Failure::Timeout => format!("gave {meaning}"),
            Failure::Answer(what) => format!("gave an answer that is not OTLP: {what}; {}", self.elsewhere()),
            Failure::Grpc(_) | Failure::FlushTimeout | Failure::Panicked => meaning,
        }
    }

    /// The place, the failure and what to do about it.
    pub fn diagnosis(&self, failure: &Failure) -> String {
        format!("{}: {}", self.place(), self.meaning(failure))
    }

    fn meaning(&self, failure: &Failure) -> String {
        let meaning = match failure {
            Failure::Connection(failure) => self.of_connection(failure),
            Failure::Http(status) => self.of_http(*status),
            Failure::Redirect { status, to } => format!("HTTP {status}: {}", self.of_redirect(to.as_deref())),
            Failure::Firewall(status) => format!(
                "HTTP {status}: a web firewall or proxy answered, and not the OTLP endpoint; allow this function's requests \
                 there, or correct host and port in {}",
                self.variable("ENDPOINT")
            ),
            Failure::Grpc(code) => self.of_grpc(*code, failure),
            Failure::Timeout => format!(
                "no answer within {:?}; a firewall or a security group that drops packets does that, and so does a name server \
                 that is down; if the endpoint is slow, increase {}",
                self.export.request_timeout,
                self.variable("REQUEST_TIMEOUT")
            ),
            Failure::Answer(what) => format!("its answer is not OTLP: {what}; {}", self.elsewhere()),
            Failure::FlushTimeout | Failure::Panicked => failure.to_string(),
        };
        match (failure, self.proxy()) {
            // Its words name the proxy.
            (Failure::Connection(ConnectionFailure { cause: Cause::Other, .. }), Some(_)) => meaning,
            (Failure::Connection(_) | Failure::Timeout, Some(proxy)) => {
                format!("{meaning}; the way goes through the proxy of {proxy}, so it may be that which fails")
            }
            _ => meaning,
        }
    }

    fn of_connection(&self, ConnectionFailure { cause, detail: words }: &ConnectionFailure) -> String {
        let endpoint = self.variable("ENDPOINT");
        let is_tls = self.url().scheme() == "https";
        let words = match cause {
            // TLS repeats the host's name.
            Cause::WrongName if self.secret_endpoint().is_some() => "not of the one that the secret holds",
            _ => &echo::untrusted(words, echo::UNTRUSTED_LIMIT),
        };
        match cause {
            Cause::Name => {
                format!(
                    "its name has no address; correct {endpoint}, and in a VPC see that it resolves names"
                )
            }
            Cause::Refused => format!(
                "connection refused, so nothing listens there; start it, or correct host and port in {endpoint}"
            ),
            Cause::Unreachable => format!(
                "there is no way to it: {words}; correct the host in {endpoint}, or see routes and firewalls"
            ),
            Cause::NotTls => {
                format!(
                    "the server does not use TLS on this port; write http:// instead of https:// in {endpoint}"
                )
            }
            Cause::UnknownAuthority => match &self.export.tls.ca {
                None => format!(
                    "its certificate is of an authority that is not known here; set {} to that authority's certificate",
                    self.variable("TLS_CA_FILE")
                ),
                Some(ca) => format!(
                    "its certificate is not of the authority in {}; put the certificate there that signed it",
                    ca.variable
                ),
            },
            Cause::WrongName => format!(
                "its certificate is of another name: {words}; write that name in {endpoint}, or have a certificate made \
                 for this one"
            ),
            Cause::Expired => {
                "its certificate has expired or is not valid yet; renew it, and see the clock of this machine"
                    .to_owned()
            }
            Cause::Certificate => format!("its certificate cannot be used: {words}; have a new one made"),
            Cause::ClientCertificate => self.of_client_certificate(),
            Cause::Closed if is_tls => self.of_client_certificate(),
            Cause::NoCommonProtocol => {
                format!("TLS there offers no HTTP/2, which gRPC needs; {}", self.grpc_elsewhere())
            }
            Cause::Tls => format!(
                "the TLS handshake failed: {words}; see that it speaks TLS 1.2 or 1.3, and its own log"
            ),
            Cause::NotHttp1 | Cause::NotHttp2 if is_tls => {
                format!("what answers there is not HTTP as OTLP needs it; {}", self.elsewhere())
            }
            Cause::Closed | Cause::NotHttp1 | Cause::NotHttp2 => self.of_plain_text(),
            Cause::Other if self.proxy().is_some() => words.to_owned(),
            Cause::Other => format!("the connection failed: {words}; correct {endpoint}, or see its own log"),
        }
    }

    /// Text that is not understood. Whether the other side's answer or the end of the connection comes first is chance.
    fn of_plain_text(&self) -> String {
        let endpoint = self.variable("ENDPOINT");
        let (protocol, others, others_port) = match self.export.protocol {
            Protocol::Grpc => ("plain gRPC", "OTLP/HTTP's", 4318),
            Protocol::Http => ("plain HTTP", "gRPC's", 4317),
        };
        let elsewhere = self.elsewhere();
        if self.url().port() == Some(others_port) {
            return format!(
                "{protocol} is not understood there, and port {others_port} is {others} by custom; {elsewhere}; if it wants \
                 TLS, write https:// there"
            );
        }
        format!(
            "{protocol} is not understood there, so the port wants TLS or is {others}; write https:// in {endpoint}, or \
             {elsewhere}"
        )
    }

    /// Over HTTP/2 the server's own word on it does not always come through before the connection closes.
    fn of_client_certificate(&self) -> String {
        match &self.export.tls.identity {
            None => format!(
                "it closed the connection during TLS, as a server does that wants a certificate of the client (mTLS); set \
                 {} and {}, or see its own log",
                self.variable("TLS_CERT_FILE"),
                self.variable("TLS_KEY_FILE")
            ),
            Some(identity) => format!(
                "it closed the connection during TLS, as a server does that does not take the client's certificate in {}; \
                 have that signed by an authority it trusts, or see its own log",
                identity.certificate.variable
            ),
        }
    }

    fn of_http(&self, status: u16) -> String {
        let endpoint = self.variable("ENDPOINT");
        let is_grpc = self.export.protocol == Protocol::Grpc;
        let meaning = match status {
            300..=399 => self.of_redirect(None),
            401 => self.of_key(),
            403 => self.of_permission(),
            407 => "the proxy wants credentials; put them into HTTPS_PROXY or HTTP_PROXY".to_owned(),
            429 => "it has too much to do; try again later, or raise its limits".to_owned(),
            502..=504 => {
                "the proxy or load balancer there reaches no backend; see that ClickStack runs".to_owned()
            }
            500..=599 if !is_grpc => "it failed by itself; its own log says why".to_owned(),
            _ if is_grpc => format!("that is HTTP without gRPC; {}", self.grpc_elsewhere()),
            404 | 405 => self.of_path(),
            400 if self.url().scheme() == "http" => {
                format!(
                    "it does not take the request, as a port does that wants TLS; write https:// in {endpoint}"
                )
            }
            413 => "even a single item is too large for it; raise its limit".to_owned(),
            415 => {
                format!(
                    "it takes no OTLP in protobuf over HTTP, as a gRPC port does; {}",
                    self.http_elsewhere()
                )
            }
            _ => "it does not take the request; see that it is an OTLP endpoint, and its own log".to_owned(),
        };
        format!("HTTP {status}: {meaning}")
    }

    fn of_redirect(&self, to: Option<&str>) -> String {
        let endpoint = self.variable("ENDPOINT");
        let own = self.url().origin().ascii_serialization();
        match to {
            Some(to) if to == own => format!(
                "it redirects to another path of itself, and telemetry does not follow; correct the path in {endpoint}"
            ),
            Some(to) => {
                format!("it redirects to {to}, and telemetry does not follow; set {endpoint} to that")
            }
            None => format!(
                "it redirects, and telemetry does not follow; set {endpoint} to where it redirects, often https:// in place \
                 of http://"
            ),
        }
    }

    fn of_grpc(&self, code: i32, failure: &Failure) -> String {
        match code {
            16 => format!("UNAUTHENTICATED: {}", self.of_key()),
            7 => format!("PERMISSION_DENIED: {}", self.of_permission()),
            12 => format!(
                "UNIMPLEMENTED: gRPC is display_name there, but not OTLP for {}; write host and port of a collector alone in {}",
                self.signal,
                self.variable("ENDPOINT")
            ),
            8 => format!("{failure}; raise its limits, or try again later"),
            14 => format!("{failure}; see that ClickStack runs, and what stands before it"),
            _ => format!("{failure}; its own log says why"),
        }
    }

    /// A key that is not taken.
    fn of_key(&self) -> String {
        let headers = self.variable("CUSTOM_HEADERS");
        let mut values = self.export.headers.iter().filter(|(name, _)| name == AUTHORIZATION);
        match values.next() {
            None => format!(
                "it wants a key, and no authorization header is set; set {headers}=Authorization=<ingestion API key>"
            ),
            Some((_, value)) if has_bearer(value.as_bytes()) => format!(
                "the authorization header begins with \"Bearer \", and ClickStack takes the ingestion API key alone; remove \
                 \"Bearer \" in {headers}"
            ),
            Some(_) if self.is_basic() => {
                format!(
                    "user name or password are wrong; correct {} and {}, or set an ingestion API key in their place",
                    self.common("BASIC_AUTH_USERNAME"),
                    self.common("BASIC_AUTH_PASSWORD")
                )
            }
            Some(_) => format!(
                "the key in the authorization header is not one of this endpoint; copy the ingestion API key from \
                 ClickStack's settings into {headers}"
            ),
        }
    }

    fn of_permission(&self) -> String {
        let has_bearer = self
            .export
            .headers
            .iter()
            .any(|(name, value)| name == AUTHORIZATION && has_bearer(value.as_bytes()));
        if has_bearer {
            return self.of_key();
        }
        format!(
            "it is not allowed; a firewall or proxy before ClickStack does that, and so does a key without the right to \
             write; see their rules, and the key in {}",
            self.variable("CUSTOM_HEADERS")
        )
    }

    fn of_path(&self) -> String {
        let endpoint = self.variable("ENDPOINT");
        let path = format!("/v1/{}", self.signal);
        let url = self.url().path();
        let is_own = self.set("ENDPOINT") == Some(self.own("ENDPOINT"));
        if is_own && !url.ends_with(&path) {
            format!("no OTLP at this path; {endpoint} is used as it stands, so write {path} at its end")
        } else if is_own {
            format!("no OTLP at this path; correct what stands before {path} in {endpoint}, or the host")
        } else if url.strip_suffix(&path).is_some_and(|base| base.contains("/v1/")) {
            format!(
                "no OTLP at this path; /v1/logs and so on are appended to {endpoint}, so remove its own /v1/…"
            )
        } else {
            format!(
                "no OTLP at this path, which is that of {endpoint} with /v1/logs and so on appended; correct host, port or path there"
            )
        }
    }

    /// Where else a request of this protocol may belong.
    fn elsewhere(&self) -> String {
        match self.export.protocol {
            Protocol::Grpc => self.grpc_elsewhere(),
            Protocol::Http => self.http_elsewhere(),
        }
    }

    fn grpc_elsewhere(&self) -> String {
        format!(
            "write the gRPC port in {}, usually 4317, or set {}=http",
            self.variable("ENDPOINT"),
            self.variable("PROTOCOL")
        )
    }

    fn http_elsewhere(&self) -> String {
        format!(
            "write the HTTP port in {}, usually 4318, or set {}=grpc",
            self.variable("ENDPOINT"),
            self.variable("PROTOCOL")
        )
    }

    /// Host and port, if they may be shown.
    fn place(&self) -> String {
        let url = self.url();
        let host = url.host_str().and_then(|host| echo::host(host).text());
        match (self.secret_endpoint(), host, url.port_or_known_default()) {
            (None, Some(host), Some(port)) => format!("{host}:{port}"),
            _ => "the endpoint".to_owned(),
        }
    }

    /// The endpoint's text, where it holds references to secrets.
    fn secret_endpoint(&self) -> Option<&'a str> {
        let variable = self.set("ENDPOINT")?;
        let text = self.variables.get(&variable)?;
        let is_plain = secret_ref::find(text).is_ok_and(|references| references.is_empty());
        (!is_plain).then_some(text)
    }

    fn is_basic(&self) -> bool {
        self.variables.contains_key(&self.common("AUTHENTICATOR"))
    }

    /// The variable of the proxy that is between.
    fn proxy(&self) -> Option<&str> {
        self.export.proxy.as_ref().map(|proxy| proxy.variable.as_str())
    }

    /// The variable to name for a setting: the one that has set it, else the one beside the endpoint's.
    fn variable(&self, setting: &str) -> String {
        let set = self.set(setting).map(|name| self.locations.get(&name).cloned().unwrap_or(name));
        set.unwrap_or_else(|| {
            if self.set("ENDPOINT") == Some(self.own("ENDPOINT")) {
                self.own(setting)
            } else {
                self.common(setting)
            }
        })
    }

    /// The variable that has set it.
    fn set(&self, setting: &str) -> Option<String> {
        exporter_variable(self.variables, &self.export.exporter, self.signal, setting)
    }

    fn own(&self, setting: &str) -> String {
        self.export.exporter.prefix_of(self.signal) + setting
    }

    fn common(&self, setting: &str) -> String {
        self.export.exporter.prefix() + setting
    }

    fn url(&self) -> &'a Url {
        &self.export.url
    }
}

fn has_bearer(value: &[u8]) -> bool {
    value.get(..BEARER.len()).is_some_and(|start| start.eq_ignore_ascii_case(BEARER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Exports;
    use crate::config::tests::variables;

    static NO_LOCATIONS: SourceLocations = SourceLocations::new();

    /// What a failure of logs means, and where they go.
    fn told(variables: &Variables, failure: &Failure) -> String {
        let Exports::Known(exports) = crate::config::tests::only_exports(crate::config::read(variables))
        else {
            panic!("nothing is awaited")
        };
        let export = exports.logs.expect("logs have a way");
        let route = ConfiguredRoute::new(Signal::Logs, &export, variables, &NO_LOCATIONS);
        format!("{} {}: {}", route.protocol(), route.endpoint(), route.diagnosis(failure))
    }

    #[test]
    fn a_port_of_the_other_protocol_is_known_by_its_number() {
        let closed = Failure::Connection(ConnectionFailure::new(Cause::NotHttp2, "frame with invalid size"));
        let endpoint = "ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT";
        let grpc = variables(&[(endpoint, "http://host:4318")]);
        let http =
            variables(&[(endpoint, "http://host:4317/v1/logs"), ("ROTEL_OTLP_EXPORTER_PROTOCOL", "http")]);
        insta::assert_snapshot!([told(&grpc, &closed), told(&http, &closed)].join("\n"), @"
        grpc http://host:4318: host:4318: plain gRPC is not understood there, and port 4318 is OTLP/HTTP's by custom; write the gRPC port in ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT, usually 4317, or set ROTEL_OTLP_EXPORTER_LOGS_PROTOCOL=http; if it wants TLS, write https:// there
        http http://host:4317/v1/logs: host:4317: plain HTTP is not understood there, and port 4317 is gRPC's by custom; write the HTTP port in ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT, usually 4318, or set ROTEL_OTLP_EXPORTER_PROTOCOL=grpc; if it wants TLS, write https:// there
        ");
    }

    #[test]
    fn nothing_of_a_query_or_a_header_is_shown() {
        for value in ["hunter2", "Bearer hunter2", "bearer hunter2", "Basic hunter2"] {
            let variables = variables(&[
                ("ROTEL_OTLP_EXPORTER_PROTOCOL", "http"),
                ("ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT", "https://host/v1/logs?token=hunter2#hunter2"),
                ("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", &format!("Authorization={value}")),
            ]);
            for status in 300..600 {
                let told = told(&variables, &Failure::Http(status));
                assert!(!told.contains("hunter2"), "{told}");
                let outright = value.to_lowercase().starts_with("bearer") && [401, 403].contains(&status);
                assert_eq!(told.contains("begins with \"Bearer \""), outright, "{told}");
            }
        }
    }
}

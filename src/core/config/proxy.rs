//! The proxy settings: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, in upper or lower case.
//!
//! The HTTP client would read them from the process environment. They are read here, so that the file named by
//! `ROTEL_ENV_FILE` can set them too. A proxy's URL may contain a password and is never printed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::percent_decode_str;
use url::Url;

use super::Variables;
use super::reader::{Reader, Setting};
use super::value;
use crate::config::secret_ref;
use crate::secret::Secret;

/// An HTTP proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// The variable that set it.
    pub variable: String,
    /// Its URL, which may contain credentials.
    pub url: Secret,
}

/// The address and credentials of a proxy.
#[derive(Clone)]
pub struct ProxyTarget {
    /// Scheme, host and port.
    pub uri: Uri,
    /// `Proxy-Authorization`, if the URL has credentials; marked sensitive.
    pub authorization: Option<HeaderValue>,
}

impl Proxy {
    /// Parses the URL. `None` if it is invalid.
    pub fn target(&self) -> Option<ProxyTarget> {
        let url = Url::parse(self.url.expose()).ok()?;
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy();
        let credentials = (!url.username().is_empty() || url.password().is_some())
            .then(|| format!("{}:{}", decoded(url.username()), decoded(url.password().unwrap_or_default())));
        let authorization = credentials.and_then(|credentials| {
            let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(credentials))).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        let uri = url.origin().ascii_serialization().parse().ok()?;
        Some(ProxyTarget { uri, authorization })
    }
}

/// The proxies, and the hosts that need none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// The proxy for `https` URLs.
    pub https: Option<Proxy>,
    /// The proxy for `http` URLs.
    pub http: Option<Proxy>,
    /// The hosts that are reached without a proxy, in the syntax of `NO_PROXY`.
    pub except: Option<String>,
}

const HTTPS: &str = "HTTPS_PROXY";
const HTTP: &str = "HTTP_PROXY";
const NO_PROXY: &str = "NO_PROXY";

/// The environment, overridden by the file's variables. A proxy variable in the file overrides both cases of its name.
pub fn overlay(environment: &Variables, file: &Variables) -> Variables {
    let mut variables = environment.clone();
    for name in [HTTPS, HTTP, NO_PROXY] {
        let names = [name.to_owned(), name.to_ascii_lowercase()];
        if names.iter().any(|name| file.contains_key(name)) {
            variables.retain(|name, _| !names.contains(name));
        }
    }
    variables.extend(file.clone());
    variables
}

/// The proxies, for requests to other hosts than the backend. `None` if one is invalid, which [`super::read`] reports.
pub fn proxies(variables: &Variables) -> Option<Proxies> {
    let ProxySettings { https, http, except } = Reader::new(variables, None).proxy_settings();
    if matches!(https, Setting::Invalid) || matches!(http, Setting::Invalid) {
        return None;
    }
    Some(Proxies { https: https.value(), http: http.value(), except })
}

/// Returns true if requests to this URL go through a proxy.
pub fn has_proxy(variables: &Variables, url: &str) -> bool {
    let settings = Reader::new(variables, None).proxy_settings();
    Url::parse(url).is_ok_and(|url| matches!(settings.for_url(&url), Setting::Value(_)))
}

/// The three variables after parsing.
pub(super) struct ProxySettings {
    https: Setting<Proxy>,
    http: Setting<Proxy>,
    except: Option<String>,
}

impl ProxySettings {
    /// The proxy for a URL.
    pub(super) fn for_url(&self, url: &Url) -> Setting<Proxy> {
        let proxy = if url.scheme() == "https" { &self.https } else { &self.http };
        if self.except.as_ref().is_some_and(|except| is_excepted_by(url, except)) {
            return Setting::Unset;
        }
        proxy.clone()
    }
}

impl Reader<'_> {
    pub(super) fn proxy_settings(&mut self) -> ProxySettings {
        ProxySettings {
            https: self.proxy(HTTPS),
            http: self.proxy(HTTP),
            except: self.in_any_case(NO_PROXY).map(|(_, text)| text.to_owned()),
        }
    }

    fn proxy(&mut self, name: &str) -> Setting<Proxy> {
        let Some((variable, text)) = self.in_any_case(name) else { return Setting::Unset };
        match parse(text) {
            Ok(url) => Setting::Value(Proxy { variable, url }),
            Err(message) => {
                self.error(&variable, message);
                Setting::Invalid
            }
        }
    }

    fn in_any_case(&self, name: &str) -> Option<(String, &str)> {
        let set = |name: String| self.text(&name).map(|text| (name, text));
        set(name.to_owned()).or_else(|| set(name.to_ascii_lowercase()))
    }
}

fn parse(text: &str) -> Result<Secret, String> {
    const EXAMPLE: &str = "use the form http://proxy.example.com:3128";
    if secret_ref::find(text).map_or(true, |references| !references.is_empty()) {
        return Err("cannot hold a secret reference, which only ROTEL_ variables can; set the value itself"
            .to_owned());
    }
    // Without a scheme it is an HTTP proxy, as in other clients.
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&whole)
        .map_err(|cause| format!("not a valid proxy URL: {}; {EXAMPLE}", value::url_error(cause, &whole)))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("only HTTP proxies are supported; {EXAMPLE}"));
    }
    Ok(Secret::new(url))
}

/// Returns true if a URL's host is in a `NO_PROXY` list.
fn is_excepted_by(url: &Url, list: &str) -> bool {
    let matcher = Matcher::builder().all("http://proxy").no(list).build();
    url.as_str().parse::<Uri>().is_ok_and(|uri| matcher.intercept(&uri).is_none())
}

#[cfg(test)]
mod tests {
    use super::super::tests::variables;
    use super::*;

    fn of(url: &str, pairs: &[(&str, &str)]) -> Option<String> {
        let variables = variables(pairs);
        let proxy = Reader::new(&variables, None).proxy_settings().for_url(&url.parse().expect("a URL"));
        proxy.value().map(|Proxy { variable, url }| format!("{variable} {}", url.expose()))
    }

    #[test]
    fn excepted_hosts_have_no_proxy() {
        let url = "https://ssm.eu-west-1.amazonaws.com";
        let has = |pairs: &[(&str, &str)]| has_proxy(&crate::config::tests::variables(pairs), url);
        assert!(!has(&[]) && !has(&[("HTTP_PROXY", "http://proxy:3128")]));
        assert!(has(&[("HTTPS_PROXY", "http://proxy:3128")]));
        assert!(!has(&[("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", ".amazonaws.com")]));
    }

    #[test]
    fn scheme_selects_the_proxy() {
        let both = [("HTTPS_PROXY", "http://a:1"), ("http_proxy", "\"b:2\"")];
        assert_eq!(of("https://host", &both).as_deref(), Some("HTTPS_PROXY http://a:1/"));
        assert_eq!(of("http://host", &both).as_deref(), Some("http_proxy http://b:2/"));
        assert_eq!(of("http://host", &[both[0]]), None);
        let cases = [("HTTPS_PROXY", "http://upper"), ("https_proxy", "http://lower")];
        assert_eq!(of("https://host", &cases).as_deref(), Some("HTTPS_PROXY http://upper/"));
    }

    #[test]
    fn listed_hosts_need_no_proxy() {
        let is_excepted =
            |url: &str, list: &str| of(url, &[("HTTP_PROXY", "p:1"), ("no_proxy", list)]).is_none();
        for list in ["host.example.com", "a, .example.com", "example.com", "*"] {
            assert!(is_excepted("http://host.example.com:4318", list), "{list}");
        }
        assert!(!is_excepted("http://host.example.com:4318", "ample.com,10.0.0.0/8"));
        assert!(is_excepted("http://10.1.2.3:4318", "10.0.0.0/8"));
        assert!(is_excepted("http://[::1]:4318", "::1"));
    }

    #[test]
    fn file_overrides_both_cases_of_a_name() {
        let environment = variables(&[("HTTPS_PROXY", "http://a"), ("HTTP_PROXY", "http://b"), ("A", "a")]);
        let file = variables(&[("https_proxy", "http://file"), ("A", "file")]);
        let expected = [("https_proxy", "http://file"), ("HTTP_PROXY", "http://b"), ("A", "file")];
        assert_eq!(overlay(&environment, &file), variables(&expected));
    }

    #[test]
    fn proxy_url_is_never_printed() {
        let proxies =
            proxies(&variables(&[("HTTPS_PROXY", "http://me:hunter2@proxy:3128")])).expect("a proxy");
        assert!(!format!("{proxies:?}").contains("hunter2"));
        assert_eq!(super::proxies(&variables(&[("HTTP_PROXY", "http://")])), None);
    }
}

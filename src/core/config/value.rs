//! The parsers of variables' texts, one for each kind of value.
//!
//! Each returns the parsed value, or the cause and the remedy for a [`super::Problem`]. Promises that messages repeat a value
//! only as [`crate::echo`] allows, and never one that came from a secret.

use ::core::net::{IpAddr, Ipv4Addr};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::config::secret_ref::{self, NoValue, SecretRef, Secrets};
use crate::echo::{self, Echo};
use crate::secret::Secret;

/// The maximum for all timeouts: the longest time that a Lambda function may run.
const MAX_DURATION: Duration = Duration::from_mins(15);

/// Precedes each part of a list from a `collector.yaml`, whose values may contain commas.
pub(super) const LIST_SEPARATOR: char = '\u{1f}';

/// A variable's text with the secrets that it refers to. `Display` prints what a message may repeat.
pub(super) struct SettingText<'a> {
    raw: &'a str,
    values: Vec<(SecretRef, Secret)>,
}

impl<'a> SettingText<'a> {
    /// A text without references.
    pub(super) fn plain(raw: &'a str) -> Self {
        Self { raw, values: Vec::new() }
    }

    /// A text with references. Fails if one of them is missing from `secrets`.
    pub(super) fn filled(raw: &'a str, references: &[SecretRef], secrets: &Secrets) -> Result<Self, NoValue> {
        let value = |reference: &SecretRef| Ok((reference.clone(), reference.value(secrets)?));
        let values = references.iter().map(value).collect::<Result<_, NoValue>>()?;
        Ok(Self { raw, values })
    }

    /// Returns true if any part of it comes from a secret.
    pub(super) fn is_secret(&self) -> bool {
        !self.values.is_empty()
    }

    /// Returns true if it is a list of a `collector.yaml`, whose values are literal.
    fn is_list(&self) -> bool {
        self.raw.starts_with(LIST_SEPARATOR)
    }

    /// The secrets that it refers to.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.values.iter().map(|(_, secret)| secret)
    }

    /// The text with secrets filled in.
    pub(super) fn value(&self) -> Cow<'_, str> {
        match self.fill(self.raw) {
            // A secret stored from a file often ends with a line break.
            Cow::Owned(filled) => Cow::Owned(filled.trim().to_owned()),
            borrowed @ Cow::Borrowed(_) => borrowed,
        }
    }

    /// The text as a message may repeat it, by the rule of `echo`.
    pub(super) fn display_as(&self, echo: impl FnOnce(&str) -> Echo) -> String {
        if self.is_secret() { "the value from its secret".to_owned() } else { echo(self.raw).to_string() }
    }

    fn fill<'t>(&self, part: &'t str) -> Cow<'t, str> {
        if self.values.is_empty() {
            return Cow::Borrowed(part);
        }
        let value = |reference: &SecretRef| {
            let known = self.values.iter().find(|(known, _)| known == reference);
            known.map(|(_, secret)| secret.expose())
        };
        Cow::Owned(secret_ref::fill(part, value))
    }

    /// Splits `name=value,name2=value2` before secrets are filled in, so that a comma in a secret splits nothing. If a
    /// reference is a whole part, its secret may hold several pairs.
    fn pairs(&self) -> Result<Vec<Pair>, String> {
        let mut pairs = Vec::new();
        if self.raw.starts_with(LIST_SEPARATOR) {
            for (position, part) in self.raw.split(LIST_SEPARATOR).skip(1).enumerate() {
                pairs.push(Pair::from_list(position + 1, part));
            }
            return Ok(pairs);
        }
        for (position, part) in parts(self.raw).enumerate().filter(|(_, part)| !part.trim().is_empty()) {
            let position = position + 1;
            if secret_ref::is_single_reference(part) {
                let list = self.fill(part);
                for part in parts(&list).filter(|part| !part.trim().is_empty()) {
                    pairs.push(Pair { filled: true, ..Pair::new(position, part)? });
                }
            } else {
                pairs.push(Pair::new(position, part)?);
            }
        }
        Ok(pairs)
    }
}

impl fmt::Display for SettingText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display_as(echo::value))
    }
}

/// The maximum number of commas in a key of a reference. Each is looked at alone.
const COMMA_LIMIT: usize = 16;

/// Splits a list at its commas, but for those in a value in quotes: `a="b,c",d=e`.
pub(super) fn parts(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let text = rest?;
        // A comma in a reference is part of a key.
        let is_outside = |end: &usize| text.get(..*end).is_none_or(|before| !secret_ref::is_open(before));
        let comma = || text.match_indices(',').map(|(at, _)| at).take(COMMA_LIMIT).find(is_outside);
        let end = quoted_end(text).or_else(comma);
        let (part, after) = end.and_then(|end| text.split_at_checked(end)).unwrap_or((text, ""));
        rest = after.strip_prefix(',');
        Some(part)
    })
}

/// The end of a part whose value is in quotes; `None` if it is not, or if the closing quote is not the last of the part.
fn quoted_end(text: &str) -> Option<usize> {
    // Not beyond the part: a list may have many.
    let at = text.find(['=', ','])?;
    let value = text.get(at..)?.strip_prefix('=')?;
    let inner = value.trim_start().strip_prefix(['"', '\''])?;
    let quote = value.trim_start().chars().next()?;
    let closing = text.len() - inner.len() + inner.find(quote)? + quote.len_utf8();
    let after = text.get(closing..)?;
    let end = text.len() - after.trim_start().len();
    (end == text.len() || after.trim_start().starts_with(',')).then_some(end)
}

/// The text that a header's value encodes with percent signs, as in `OTEL_EXPORTER_OTLP_HEADERS`; `None` if it encodes nothing
/// that can be printed.
pub(super) fn percent_decoded(value: &str) -> Option<String> {
    let decoded = percent_decode_str(value).decode_utf8().ok()?;
    let is_printable = !decoded.chars().any(char::is_control);
    (is_printable && decoded != value).then(|| decoded.into_owned())
}

/// One pair of `name=value,name2=value2`.
#[derive(Clone)]
struct Pair {
    position: usize,
    name: String,
    value: String,
    /// Secrets have been filled in already.
    filled: bool,
}

impl Pair {
    fn new(position: usize, text: &str) -> Result<Self, String> {
        // The text may be a credential whose name was forgotten.
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("part {position} has no \"=\"; use the form name=value,name2=value2"))?;
        let (name, value) = (name.trim().to_owned(), unquoted(value).to_owned());
        Ok(Self { position, name, value, filled: false })
    }

    /// A pair of a `collector.yaml` list, whose YAML quotes are removed already.
    fn from_list(position: usize, text: &str) -> Self {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        Self { position, name: name.to_owned(), value: value.to_owned(), filled: false }
    }

    /// The value with secrets filled in and quotes removed.
    fn resolved_value(&self, text: &SettingText<'_>) -> String {
        if self.filled || text.raw.starts_with(LIST_SEPARATOR) && !text.is_secret() {
            return self.value.clone();
        }
        unquoted(&text.fill(&self.value)).to_owned()
    }
}

/// A variable's text without quotes; `None` if it is empty, which counts as unset.
pub(super) fn non_empty(text: &str) -> Option<&str> {
    Some(unquoted(text)).filter(|text| !text.is_empty())
}

/// Strips quotes around a whole value. People copy them from the guide into the Lambda console, where they become part of the
/// value.
pub(super) fn unquoted(value: &str) -> &str {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner.trim();
        }
    }
    value
}

/// Parses a duration of at most [`MAX_DURATION`].
pub(super) fn duration(text: &SettingText<'_>) -> Result<Duration, String> {
    match unbounded_duration(text)? {
        long if long > MAX_DURATION => {
            Err(format!("{text} is longer than a Lambda function can run; set 15m or less"))
        }
        duration => Ok(duration),
    }
}

/// Parses a duration of any length except zero.
pub(super) fn unbounded_duration(text: &SettingText<'_>) -> Result<Duration, String> {
    let wrong = || format!("{text} is not a duration; use a number with a unit, such as 250ms, 5s or 1m");
    let value = text.value();
    let split = value.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = value.split_at_checked(split).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let duration = match unit.trim() {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60).ok_or_else(wrong)?),
        _ => return Err(wrong()),
    };
    if duration.is_zero() {
        return Err(format!("{text} is zero; set a longer duration, such as 250ms, 5s or 1m"));
    }
    Ok(duration)
}

pub(super) fn boolean(text: &SettingText<'_>) -> Result<bool, String> {
    match text.value().to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{text} is not a boolean; set true or false")),
    }
}

/// Parses a whole number from 1 to `max`.
pub(super) fn count(text: &SettingText<'_>, max: usize) -> Result<usize, String> {
    let wrong = |remedy: &str| format!("{text} is not a valid number; use a whole number {remedy}");
    match text.value().parse() {
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        _ if max == usize::MAX => Err(wrong("of at least 1")),
        _ => Err(wrong(&format!("from 1 to {max}"))),
    }
}

/// Parses one of a few words, ignoring case.
pub(super) fn word<T: Copy>(text: &SettingText<'_>, what: &str, words: &[(&str, T)]) -> Result<T, String> {
    let value = text.value().to_ascii_lowercase();
    let found = words.iter().find(|(word, _)| *word == value);
    found
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| format!("{text} is not {what}; use {}", alternatives(words)))
}

/// Parses a comma-separated list of words, ignoring case.
pub(super) fn words<T: Copy>(
    text: &SettingText<'_>,
    what: &str,
    words: &[(&str, T)],
) -> Result<Vec<T>, String> {
    let value = text.value().to_ascii_lowercase();
    let parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| word(&SettingText { raw: part, values: text.values.clone() }, what, words)).collect()
}

/// Joins the words as `a, b or c`.
fn alternatives<T>(words: &[(&str, T)]) -> String {
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// A host and port to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// A host name or IP address; `localhost` means both loopback addresses.
    pub host: String,
    /// The port; 0 lets the system choose.
    pub port: u16,
}

impl ListenAddress {
    /// Returns true for `localhost`, its IP addresses and multicast addresses. Other loopback addresses are those of emulators.
    pub(super) fn may_be_unreachable(&self) -> bool {
        match self.host.parse() {
            Ok(IpAddr::V4(address)) => address == Ipv4Addr::LOCALHOST || address.is_multicast(),
            Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_multicast(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Host and port as a message may repeat them.
    pub fn shown(&self) -> String {
        let port = self.port;
        echo::host(&self.host).text().map_or_else(|| format!("port {port}"), |host| format!("{host}:{port}"))
    }
}

pub(super) fn listen_address(text: &SettingText<'_>) -> Result<ListenAddress, String> {
    let wrong = || {
        let shown = text.display_as(echo::endpoint);
        format!("{shown} is not a listen address; use host:port, such as localhost:4317")
    };
    let value = text.value();
    let (host, port) = value.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host.contains('/') {
        return Err(wrong());
    }
    Ok(ListenAddress { host: host.to_owned(), port: port.parse().map_err(|_| wrong())? })
}

/// Parses the path of a URL.
pub(super) fn path(text: &SettingText<'_>) -> Result<String, String> {
    let value = text.value();
    if value.starts_with('/') {
        Ok(value.into_owned())
    } else {
        let path = echo::url_path(text.raw);
        let remedy = if text.is_secret() { "one that begins with /".to_owned() } else { format!("/{path}") };
        Err(format!("{} is not a path; set {remedy}", text.display_as(|_| Echo::Text(path.clone()))))
    }
}

/// Parses an exporter's endpoint: an absolute `http` or `https` URL.
pub(super) fn endpoint(text: &SettingText<'_>) -> Result<Url, String> {
    const EXAMPLE: &str = "use the form https://clickstack.example.com:4317";
    let value = text.value();
    let shown = || text.display_as(echo::endpoint);
    let (scheme, rest) =
        value.split_once("://").map_or((None, &*value), |(scheme, rest)| (Some(scheme), rest));
    // "%40" is an encoded "@".
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') || authority.contains("%40") {
        return Err("the URL contains a user name; send credentials as a header instead".to_owned());
    }
    if authority.contains(['<', '>']) {
        return Err("the URL contains a placeholder in <>; replace it with your own host".to_owned());
    }
    let Some(scheme) = scheme else {
        let remedy = echo::endpoint(text.raw).text().filter(|_| !text.is_secret()).unwrap_or_default();
        let verb = if text.is_secret() { "add" } else { "set" };
        return Err(format!("{} has no scheme; {verb} http://{remedy} or https://{remedy}", shown()));
    };
    if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
        return Err(format!("{} has an unsupported scheme; use http:// or https://", shown()));
    }
    if rest.is_empty() || rest.starts_with(['/', ':', '?', '#']) {
        return Err(format!("{} has no host; {EXAMPLE}", shown()));
    }
    Url::parse(&value)
        .map_err(|cause| format!("{} is not a URL: {}; {EXAMPLE}", shown(), url_error(cause, &value)))
}

/// The reason why a text is not a URL. The binary leaves out the Unicode tables for host names.
pub(super) fn url_error(cause: url::ParseError, text: &str) -> String {
    match cause {
        url::ParseError::IdnaError if !text.is_ascii() => {
            "the host name is not in Punycode (xn--…)".to_owned()
        }
        cause => cause.to_string(),
    }
}

/// Parses `Name=value,Name2=value2`. A value may contain `=`. Values are marked sensitive, so that `Debug` does not print
/// them.
pub(super) fn headers(text: &SettingText<'_>) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut headers = Vec::new();
    for pair in text.pairs()? {
        let position = pair.position;
        // If only the value was set and it contains "=", the name is a credential too.
        let name: HeaderName = pair.name.parse().map_err(|_| {
            format!("the name in part {position} is not a valid header name; use letters, digits and hyphens")
        })?;
        if name.as_str().starts_with("grpc-") {
            return Err(format!(
                "the name in part {position} begins with grpc-, which is reserved for gRPC; remove it"
            ));
        }
        if is_reserved(&name) {
            return Err(format!("{name} is set by the extension; remove it"));
        }
        let value = if text.is_list() { None } else { percent_decoded(&pair.value) };
        let value = value.map(|value| Pair { value, ..pair.clone() }).unwrap_or(pair).resolved_value(text);
        if !value.is_ascii() || value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(format!(
                "the value in part {position} contains a character that is not allowed in headers, such as a line break; remove it"
            ));
        }
        let mut value: HeaderValue = value
            .parse()
            .map_err(|_| format!("the value in part {position} is not allowed in headers; change it"))?;
        value.set_sensitive(true);
        headers.push((name, value));
    }
    Ok(headers)
}

/// Returns true for headers that describe how a request is framed: another value would break all requests.
fn is_reserved(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "content-encoding" | "content-length" | "content-type" | "te" | "transfer-encoding"
    )
}

/// Parses `key=value,key2=value2` with percent-encoded values: the format of `OTEL_RESOURCE_ATTRIBUTES` in the OpenTelemetry
/// specification of resource SDKs.
pub(super) fn attributes(text: &SettingText<'_>) -> Result<Vec<(String, String)>, String> {
    let mut attributes = Vec::new();
    for mut pair in text.pairs()? {
        if pair.name.is_empty() {
            return Err(format!("part {} has no key; use the form key=value,key2=value2", pair.position));
        }
        let decoded = percent_decode_str(&pair.value).decode_utf8().map_err(|_| {
            format!(
                "the value in part {} is not valid UTF-8 after percent-decoding; encode it as UTF-8",
                pair.position
            )
        })?;
        pair.value = decoded.into_owned();
        let value = pair.resolved_value(text);
        attributes.push((pair.name, value));
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_take_three_units() {
        let duration = |text| unbounded_duration(&SettingText::plain(text));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("20m"), Ok(Duration::from_mins(20)));
        for wrong in
            ["5", "s", "", "5h", "-1s", "1.5s", "0s", "99999999999999999999s", "1152921504606846976m"]
        {
            assert!(duration(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn durations_have_a_maximum() {
        assert_eq!(duration(&SettingText::plain("15m")), Ok(MAX_DURATION));
        assert!(duration(&SettingText::plain("901s")).is_err());
    }

    #[test]
    fn quotes_around_a_value_are_stripped() {
        assert_eq!(unquoted("\"Authorization=key\""), "Authorization=key");
        assert_eq!(unquoted(" 'a' "), "a");
        assert_eq!(unquoted("\"a"), "\"a");
        assert_eq!(unquoted("\""), "\"");
    }

    #[test]
    fn header_value_may_contain_equal_signs() {
        let parsed =
            headers(&SettingText::plain("Authorization=Basic YTpi==, X-Team = one")).expect("two headers");
        assert_eq!(parsed[0].1, "Basic YTpi==");
        assert_eq!(parsed[1], ("x-team".parse().unwrap(), HeaderValue::from_static("one")));
        assert!(!format!("{parsed:?}").contains("YTpi"));
    }

    #[test]
    fn attributes_are_percent_decoded() {
        assert_eq!(
            attributes(&SettingText::plain("service.name=my%20api,team=a=b")),
            Ok(vec![("service.name".into(), "my api".into()), ("team".into(), "a=b".into())])
        );
    }

    #[test]
    fn list_is_split_before_secrets_are_filled_in() {
        const ARN: &str = "arn:aws:ssm:us-east-1:123456789012:parameter/key";
        let list = |raw: &str, secret: &str| {
            let references = secret_ref::find(raw).expect("references");
            let secrets = references.iter().map(|found| (found.arn.clone(), Secret::new(secret))).collect();
            let text = SettingText::filled(raw, &references, &secrets).expect("a text");
            attributes(&text).expect("attributes")
        };
        let own = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            list(&format!("a=${{{ARN}}},b=x%20${{{ARN}}}"), "1,c=%20\n"),
            [own("a", "1,c=%20"), own("b", "x 1,c=%20")]
        );
        assert_eq!(list(&format!("secret://{ARN}"), "a=1, b=2\n"), [own("a", "1"), own("b", "2")]);
        assert_eq!(list(&format!("a=1,$<{ARN}>"), "b=2"), [own("a", "1"), own("b", "2")]);
    }

    #[test]
    fn endpoint_needs_a_known_scheme_and_a_host() {
        assert!(endpoint(&SettingText::plain("https://clickstack.example.com:4317")).is_ok());
        for wrong in [
            "collector:4317",
            "ftp://x",
            "http://",
            "http://:4317",
            "http://u:p@x",
            "https://x y",
            "http://x:99999",
        ] {
            assert!(endpoint(&SettingText::plain(wrong)).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn non_ascii_host_needs_punycode() {
        let error = endpoint(&SettingText::plain("https://bücher.example:4317")).expect_err("not ASCII");
        assert!(error.contains("Punycode"), "{error}");
        let url = endpoint(&SettingText::plain("https://xn--bcher-kva.example:4317")).expect("a URL");
        assert_eq!(url.host_str(), Some("xn--bcher-kva.example"));
    }

    #[test]
    fn header_values_may_be_quoted_or_percent_encoded() {
        let parsed = |text: &str| {
            let headers =
                headers(&SettingText::plain(text)).unwrap_or_else(|error| panic!("{text}: {error}"));
            let pair = |(name, value): (HeaderName, HeaderValue)| {
                format!("{name}: {}", value.to_str().expect("ASCII"))
            };
            headers.into_iter().map(pair).collect::<Vec<_>>()
        };
        for (text, expected) in [
            ("Authorization=Basic%20YTpi,x-team=a", &["authorization: Basic YTpi", "x-team: a"][..]),
            ("Authorization=\"a,b\", x-team='c, d'", &["authorization: a,b", "x-team: c, d"]),
            ("\"Authorization=a=b\"", &["authorization: a=b"]),
            ("a=100%,b=%zz,c=%00,d=%ff", &["a: 100%", "b: %zz", "c: %00", "d: %ff"]),
            ("a=\"b\"c,d=e", &["a: \"b\"c", "d: e"]),
        ] {
            assert_eq!(parsed(non_empty(text).expect("a text")), expected, "{text}");
        }
        for wrong in ["a=é", "a=\u{fffd}", "a=b\u{7f}", "a=%C3%A9"] {
            let error = headers(&SettingText::plain(wrong)).expect_err(wrong);
            assert!(error.contains("not allowed in headers"), "{error}");
        }
    }

    #[test]
    fn long_lists_take_linear_time() {
        for part in ["a,", "a='b',", ",", "a=\"b\"c,"] {
            let count = 256 * 1024 / part.len();
            assert_eq!(parts(&part.repeat(count)).count(), count + 1, "{part}");
        }
        assert_eq!(parts(&"${arn:a,".repeat(32 * 1024)).count(), 1, "a reference that is not closed");
    }

    #[test]
    fn unparsable_host_names_are_errors() {
        for wrong in [
            "https://col lector:4317",
            "https://[::1:4317",
            "https://a<b:4317",
            "https://:4317",
            "https://",
            "https://host:99999",
            "https://%zz:1",
            "https://\u{fffd}:1",
        ] {
            assert!(endpoint(&SettingText::plain(wrong)).is_err(), "{wrong} was accepted");
        }
    }

    #[test]
    fn listen_address_may_be_ipv6() {
        let address = |text| listen_address(&SettingText::plain(text));
        assert_eq!(address("[::1]:4317"), Ok(ListenAddress { host: "::1".into(), port: 4317 }));
        for wrong in ["4317", ":4317", "http://localhost:4317", "localhost:70000"] {
            assert!(address(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn header_list_survives_a_round_trip(
            // No value begins with a quote, or with what is percent-encoded.
            pairs in prop::collection::vec(("[a-z][a-z0-9-]{0,8}", "[!#$&(-+.-~]([ -$&-+.-~]{0,8}[!-$&-+.-~])?"), 1..5)
        ) {
            let list: Vec<_> = pairs.iter().map(|(name, value)| format!("x{name}={value}")).collect();
            let parsed = headers(&SettingText::plain(&list.join(","))).expect("headers");
            prop_assert_eq!(parsed.len(), pairs.len());
            for ((name, value), (parsed_name, parsed_value)) in pairs.iter().zip(&parsed) {
                prop_assert_eq!(parsed_name.as_str(), format!("x{name}"));
                prop_assert_eq!(parsed_value.to_str().expect("ASCII"), unquoted(value));
            }
        }

        #[test]
        fn quoted_values_survive_a_round_trip(
            pairs in prop::collection::vec(("[a-z]{1,8}", "[!#-$&(-+.-~][ #-$&-+,.-~]{0,8}[!#-$&-+.-~]"), 1..5)
        ) {
            let list: Vec<_> = pairs.iter().map(|(name, value)| format!("x{name} = \"{value}\" ")).collect();
            let parsed = headers(&SettingText::plain(&list.join(","))).expect("headers");
            prop_assert_eq!(parsed.len(), pairs.len());
            for ((_, value), (_, parsed_value)) in pairs.iter().zip(&parsed) {
                prop_assert_eq!(parsed_value.to_str().expect("ASCII"), value.trim());
            }
        }

        #[test]
        fn invalid_header_list_is_not_repeated(list in "[A-Z]{6}[=, \u{7f}:]?[A-Z]{6}[=,\u{7f}]?[A-Z]{6}") {
            if let Err(message) = headers(&SettingText::plain(&list)) {
                for word in list.split(|c: char| !c.is_ascii_uppercase()) {
                    prop_assert!(word.len() < 6 || !message.contains(word), "{}", message);
                }
            }
        }
    }
}

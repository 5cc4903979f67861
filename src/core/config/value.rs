//! What a variable's text means: one parser for each kind of value.
//!
//! Each answers with the parsed value or with the cause and the remedy, which [`super::Fault`] puts behind the variable's
//! name. A value is repeated only as far as
//! [`crate::echo`] shows it, and never one that secret references were filled into.

use ::core::net::{IpAddr, Ipv4Addr};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::config::secret_ref::{self, SecretRef, Secrets};
use crate::echo::{self, Echo};
use crate::secret::Secret;

/// As long as a Lambda function may run, and longer than anything here may take.
const LONGEST: Duration = Duration::from_mins(15);

/// What the parts of a list begin with that comes from a `collector.yaml`, where a value may hold commas.
pub(super) const LIST_SEPARATOR: char = '\u{1f}';

/// A variable's text and what its secret references stand for. Its `Display` is how a message may repeat it.
pub(super) struct SettingText<'a> {
    raw: &'a str,
    values: Vec<(SecretRef, Secret)>,
}

impl<'a> SettingText<'a> {
    /// A text without references.
    pub(super) fn plain(raw: &'a str) -> Self {
        Self { raw, values: Vec::new() }
    }

    /// A text whose `references` are among the secrets.
    pub(super) fn filled(raw: &'a str, references: &[SecretRef], secrets: &Secrets) -> Result<Self, String> {
        let value = |reference: &SecretRef| Ok((reference.clone(), reference.value(secrets)?));
        let values = references.iter().map(value).collect::<Result<_, String>>()?;
        Ok(Self { raw, values })
    }

    /// Whether any of it comes from a secret.
    pub(super) fn is_secret(&self) -> bool {
        !self.values.is_empty()
    }

    /// The secrets that it holds.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.values.iter().map(|(_, secret)| secret)
    }

    /// The text as it is meant.
    pub(super) fn value(&self) -> Cow<'_, str> {
        match self.fill(self.raw) {
            // A secret that was stored from a file often ends with a line break.
            Cow::Owned(filled) => Cow::Owned(filled.trim().to_owned()),
            borrowed @ Cow::Borrowed(_) => borrowed,
        }
    }

    /// The text as a message may repeat it, where it is to be something else than a word.
    pub(super) fn shown(&self, echo: impl FnOnce(&str) -> Echo) -> String {
        if self.is_secret() { "what its secret holds".to_owned() } else { echo(self.raw).to_string() }
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

    /// `name=value,name2=value2`, taken apart before references are filled, so that a comma in a secret splits nothing. A
    /// reference that stands for a whole part may hold several pairs.
    fn pairs(&self) -> Result<Vec<Pair>, String> {
        let mut pairs = Vec::new();
        if self.raw.starts_with(LIST_SEPARATOR) {
            for (position, part) in self.raw.split(LIST_SEPARATOR).skip(1).enumerate() {
                pairs.push(Pair::of_list(position + 1, part));
            }
            return Ok(pairs);
        }
        for (position, part) in self.raw.split(',').enumerate().filter(|(_, part)| !part.trim().is_empty()) {
            let place = position + 1;
            if secret_ref::is_single_reference(part) {
                let list = self.fill(part);
                for part in list.split(',').filter(|part| !part.trim().is_empty()) {
                    pairs.push(Pair { filled: true, ..Pair::new(place, part)? });
                }
            } else {
                pairs.push(Pair::new(place, part)?);
            }
        }
        Ok(pairs)
    }
}

impl fmt::Display for SettingText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown(echo::value))
    }
}

/// One of `name=value,name2=value2`.
struct Pair {
    place: usize,
    name: String,
    value: String,
    /// Whether references have been filled in already.
    filled: bool,
}

impl Pair {
    fn new(place: usize, text: &str) -> Result<Self, String> {
        // The text may be a credential whose name was forgotten.
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("part {place} has no \"=\"; write name=value,name2=value2"))?;
        let (name, value) = (name.trim().to_owned(), unquoted(value).to_owned());
        Ok(Self { place, name, value, filled: false })
    }

    /// Of a list whose quotes were taken away already.
    fn of_list(place: usize, text: &str) -> Self {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        Self { place, name: name.to_owned(), value: value.to_owned(), filled: false }
    }

    /// The value as it is meant.
    fn resolved_value(&self, text: &SettingText<'_>) -> String {
        if self.filled || text.raw.starts_with(LIST_SEPARATOR) && !text.is_secret() {
            return self.value.clone();
        }
        unquoted(&text.fill(&self.value)).to_owned()
    }
}

/// A variable's text as it counts; none where it is empty, which is unset.
pub(super) fn non_empty(text: &str) -> Option<&str> {
    Some(unquoted(text)).filter(|text| !text.is_empty())
}

/// Strips the quotes that people copy from the guide into the Lambda console, where they become part of the value.
pub(super) fn unquoted(value: &str) -> &str {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner.trim();
        }
    }
    value
}

/// A duration that something may take.
pub(super) fn duration(text: &SettingText<'_>) -> Result<Duration, String> {
    match unbounded_duration(text)? {
        long if long > LONGEST => {
            Err(format!("{text} is longer than a Lambda function may run; write 15m or less"))
        }
        duration => Ok(duration),
    }
}

/// A duration of any length but none.
pub(super) fn unbounded_duration(text: &SettingText<'_>) -> Result<Duration, String> {
    let wrong = || format!("{text} is not a duration; write a number and its unit, such as 250ms, 5s or 1m");
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
        return Err(format!(
            "{text} leaves no time at all; write a longer duration, such as 250ms, 5s or 1m"
        ));
    }
    Ok(duration)
}

pub(super) fn boolean(text: &SettingText<'_>) -> Result<bool, String> {
    match text.value().to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{text} is neither true nor false; write true or false")),
    }
}

/// A whole number from 1 to `most`.
pub(super) fn count(text: &SettingText<'_>, most: usize) -> Result<usize, String> {
    let wrong = |remedy: &str| format!("{text} is not a count; write a whole number {remedy}");
    match text.value().parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ if most == usize::MAX => Err(wrong("of 1 or more")),
        _ => Err(wrong(&format!("from 1 to {most}"))),
    }
}

/// One of a few words, in any case.
pub(super) fn word<T: Copy>(text: &SettingText<'_>, what: &str, words: &[(&str, T)]) -> Result<T, String> {
    let value = text.value().to_ascii_lowercase();
    let found = words.iter().find(|(word, _)| *word == value);
    found
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| format!("{text} is not {what}; write {}", alternatives(words)))
}

/// Several of a few words, between commas and in any case.
pub(super) fn words<T: Copy>(
    text: &SettingText<'_>,
    what: &str,
    words: &[(&str, T)],
) -> Result<Vec<T>, String> {
    let value = text.value().to_ascii_lowercase();
    let parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| word(&SettingText { raw: part, values: text.values.clone() }, what, words)).collect()
}

/// `a, b or c`
fn alternatives<T>(words: &[(&str, T)]) -> String {
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// A host and a port to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// A name or an address; `localhost` means both loopback addresses.
    pub host: String,
    /// 0 lets the system choose.
    pub port: u16,
}

impl ListenAddress {
    /// One of the machine's own names, or a multicast address. Other loopback addresses are those of emulators.
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
        let shown = text.shown(echo::endpoint);
        format!("{shown} is not an address to listen on; write host:port, such as localhost:4317")
    };
    let value = text.value();
    let (host, port) = value.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host.contains('/') {
        return Err(wrong());
    }
    Ok(ListenAddress { host: host.to_owned(), port: port.parse().map_err(|_| wrong())? })
}

/// A path of a URL.
pub(super) fn path(text: &SettingText<'_>) -> Result<String, String> {
    let value = text.value();
    if value.starts_with('/') {
        Ok(value.into_owned())
    } else {
        let path = echo::url_path(text.raw);
        let remedy = if text.is_secret() { "a / before it".to_owned() } else { format!("/{path}") };
        Err(format!("{} is not a path; write {remedy}", text.shown(|_| Echo::Text(path.clone()))))
    }
}

/// Where an exporter sends to: an absolute `http` or `https` URL.
pub(super) fn endpoint(text: &SettingText<'_>) -> Result<Url, String> {
    const EXAMPLE: &str = "write something like https://clickstack.example.com:4317";
    let value = text.value();
    let shown = || text.shown(echo::endpoint);
    let (scheme, rest) =
        value.split_once("://").map_or((None, &*value), |(scheme, rest)| (Some(scheme), rest));
    // "%40" is an "@" as well.
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') || authority.contains("%40") {
        return Err("the URL holds a user name; send credentials as a header instead".to_owned());
    }
    if authority.contains(['<', '>']) {
        return Err("the URL holds a placeholder in <>; write your own host in its place".to_owned());
    }
    let Some(scheme) = scheme else {
        let remedy = echo::endpoint(text.raw).text().filter(|_| !text.is_secret()).unwrap_or_default();
        return Err(format!("{} has no scheme; write http://{remedy} or https://{remedy}", shown()));
    };
    if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
        return Err(format!("{} has an unknown scheme; write http:// or https://", shown()));
    }
    if rest.is_empty() || rest.starts_with(['/', ':', '?', '#']) {
        return Err(format!("{} has no host; {EXAMPLE}", shown()));
    }
    Url::parse(&value)
        .map_err(|cause| format!("{} is not a URL: {}; {EXAMPLE}", shown(), url_error(cause, &value)))
}

/// Why a text is not a URL. There are no tables here for Unicode in host names.
pub(super) fn url_error(cause: url::ParseError, text: &str) -> String {
    match cause {
        url::ParseError::IdnaError if !text.is_ascii() => {
            "the host has letters beyond ASCII, which are written in Punycode, as xn--…".to_owned()
        }
        cause => cause.to_string(),
    }
}

/// `Name=value,Name2=value2`. A value may hold `=`. Values are marked sensitive, so that no `Debug` shows them.
pub(super) fn headers(text: &SettingText<'_>) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut headers = Vec::new();
    for pair in text.pairs()? {
        let place = pair.place;
        // The name may be a credential as well, where the value itself was written and holds "=".
        let name: HeaderName = pair.name.parse().map_err(|_| {
            format!("part {place} has a name that is not a header's; use letters, digits and hyphens")
        })?;
        if name.as_str().starts_with("grpc-") {
            return Err(format!(
                "the name of part {place} begins with grpc-, which gRPC keeps for itself; remove it"
            ));
        }
        if is_reserved(&name) {
            return Err(format!("{name} is set by the extension itself; remove it"));
        }
        let mut value: HeaderValue = pair.resolved_value(text).parse().map_err(|_| {
            format!("the value of part {place} has a character that no header may have, such as a line break; remove it")
        })?;
        value.set_sensitive(true);
        headers.push((name, value));
    }
    Ok(headers)
}

/// Headers that say how a request is framed: another value would break every one.
fn is_reserved(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "content-encoding" | "content-length" | "content-type" | "te" | "transfer-encoding"
    )
}

/// `key=value,key2=value2`, values percent-decoded: the form of `OTEL_RESOURCE_ATTRIBUTES` in the OpenTelemetry
/// specification of resource SDKs.
pub(super) fn attributes(text: &SettingText<'_>) -> Result<Vec<(String, String)>, String> {
    let mut attributes = Vec::new();
    for mut pair in text.pairs()? {
        if pair.name.is_empty() {
            return Err(format!("part {} has no key; write key=value,key2=value2", pair.place));
        }
        let decoded = percent_decode_str(&pair.value).decode_utf8().map_err(|_| {
            format!(
                "the value of part {} is not UTF-8 once its %XX are decoded; encode it as UTF-8",
                pair.place
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
    fn durations_take_three_units_and_nothing_else() {
        let duration = |text| unbounded_duration(&SettingText::plain(text));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("20m"), Ok(Duration::from_mins(20)));
        for wrong in
            ["5", "s", "", "5h", "-1s", "1.5s", "0s", "99999999999999999999s", "1152921504606846976m"]
        {
            assert!(duration(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn nothing_may_take_longer_than_a_function_may_run() {
        assert_eq!(duration(&SettingText::plain("15m")), Ok(LONGEST));
        assert!(duration(&SettingText::plain("901s")).is_err());
    }

    #[test]
    fn quotes_around_a_whole_value_are_not_part_of_it() {
        assert_eq!(unquoted("\"Authorization=key\""), "Authorization=key");
        assert_eq!(unquoted(" 'a' "), "a");
        assert_eq!(unquoted("\"a"), "\"a");
        assert_eq!(unquoted("\""), "\"");
    }

    #[test]
    fn a_header_value_may_hold_equal_signs_and_never_prints() {
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
    fn a_secret_is_put_into_a_list_that_has_been_taken_apart() {
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
    fn an_endpoint_needs_a_scheme_that_we_speak_and_a_host() {
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
            assert!(endpoint(&SettingText::plain(wrong)).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn a_host_beyond_ascii_is_taken_in_punycode_only() {
        let told =
            endpoint(&SettingText::plain("https://bücher.example:4317")).expect_err("no tables for it");
        assert!(told.contains("Punycode"), "{told}");
        let url = endpoint(&SettingText::plain("https://xn--bcher-kva.example:4317")).expect("a URL");
        assert_eq!(url.host_str(), Some("xn--bcher-kva.example"));
    }

    #[test]
    fn an_address_to_listen_on_may_be_ipv6() {
        let address = |text| listen_address(&SettingText::plain(text));
        assert_eq!(address("[::1]:4317"), Ok(ListenAddress { host: "::1".into(), port: 4317 }));
        for wrong in ["4317", ":4317", "http://localhost:4317", "localhost:70000"] {
            assert!(address(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn a_header_list_is_read_as_it_was_written(
            pairs in prop::collection::vec(("[a-z][a-z0-9-]{0,8}", "[!-+.-~]([ -+.-~]{0,8}[!-+.-~])?"), 1..5)
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
        fn a_faulty_header_list_shows_nothing_of_itself(list in "[A-Z]{6}[=, \u{7f}:]?[A-Z]{6}[=,\u{7f}]?[A-Z]{6}") {
            if let Err(message) = headers(&SettingText::plain(&list)) {
                for word in list.split(|c: char| !c.is_ascii_uppercase()) {
                    prop_assert!(word.len() < 6 || !message.contains(word), "{}", message);
                }
            }
        }
    }
}

//! What a variable's text means: one parser for each kind of value.
//!
//! Each answers with the parsed value or with the cause and the remedy, which [`super::Fault`] puts behind the variable's
//! name. None of them repeats a value that may be a credential.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

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

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is not a duration; write a number and its unit, such as 250ms, 5s or 1m");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit.trim() {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false; write true or false")),
    }
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("{text:?} is not a count; write a whole number of 1 or more")),
        Ok(number) => Ok(number),
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

pub(super) fn listen_address(text: &str) -> Result<ListenAddress, String> {
    let wrong =
        || format!("{text:?} is not an address to listen on; write host:port, such as localhost:4317");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host.contains('/') {
        return Err(wrong());
    }
    Ok(ListenAddress { host: host.to_owned(), port: port.parse().map_err(|_| wrong())? })
}

/// Where an exporter sends to: an absolute `http` or `https` URL.
pub(super) fn endpoint(text: &str) -> Result<Uri, String> {
    if !text.contains("://") {
        return Err(format!("{text:?} has no scheme; write http://{text} or https://{text}"));
    }
    let uri: Uri = text.parse().map_err(|cause| {
        format!("{text:?} is not a URL: {cause}; write something like https://clickstack.example.com:4317")
    })?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        _ => return Err(format!("{text:?} has an unknown scheme; write http:// or https://")),
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err("the URL holds a user name; send credentials as a header instead".to_owned())
        }
        Some(authority) if !authority.host().is_empty() => Ok(uri),
        _ => Err(format!("{text:?} has no host; write something like https://clickstack.example.com:4317")),
    }
}

/// `Name=value,Name2=value2`. A value may hold `=`. Values are marked sensitive, so that no `Debug` shows them.
pub(super) fn headers(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut headers = Vec::new();
    for (position, pair) in text.split(',').enumerate().filter(|(_, pair)| !pair.trim().is_empty()) {
        let place = position + 1;
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("part {place} has no \"=\"; write Name=value,Name2=value2"))?;
        let name = name.trim();
        let name: HeaderName = name.parse().map_err(|_| {
            format!("part {place} has a name that is not a header's; use letters, digits and hyphens")
        })?;
        let mut value: HeaderValue = unquoted(value)
            .parse()
            .map_err(|_| format!("the value of {name} has a character that no header may have; remove it"))?;
        value.set_sensitive(true);
        headers.push((name, value));
    }
    Ok(headers)
}

/// `key=value,key2=value2`, values percent-decoded: the form of `OTEL_RESOURCE_ATTRIBUTES` in the OpenTelemetry
/// specification of resource SDKs.
pub(super) fn attributes(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut attributes = Vec::new();
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        let pair = pair.trim();
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("{pair:?} has no \"=\"; write key=value,key2=value2"))?;
        let key = key.trim();
        if key.is_empty() {
            return Err(format!("{pair:?} has no key; write key=value,key2=value2"));
        }
        let value = percent_decode_str(unquoted(value)).decode_utf8().map_err(|_| {
            format!("the value of {key} is not UTF-8 once its %XX are decoded; encode it as UTF-8")
        })?;
        attributes.push((key.to_owned(), value.into_owned()));
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_three_units_and_nothing_else() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("1m"), Ok(Duration::from_mins(1)));
        for wrong in ["5", "s", "", "5h", "-1s", "1.5s", "99999999999999999999s", "1152921504606846976m"] {
            assert!(duration(wrong).is_err(), "{wrong:?} was taken");
        }
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
        let parsed = headers("Authorization=Basic YTpi==, X-Team = one").expect("two headers");
        assert_eq!(parsed[0].1, "Basic YTpi==");
        assert_eq!(parsed[1], ("x-team".parse().unwrap(), HeaderValue::from_static("one")));
        assert!(!format!("{parsed:?}").contains("YTpi"));
    }

    #[test]
    fn a_faulty_header_list_does_not_repeat_its_values() {
        for list in ["hunter2", "Auth orization=hunter2", "Authorization=hunter2\u{7f}"] {
            let reason = headers(list).expect_err("a fault");
            assert!(!reason.contains("hunter2"), "{reason}");
        }
    }

    #[test]
    fn attributes_are_percent_decoded() {
        assert_eq!(
            attributes("service.name=my%20api,team=a=b"),
            Ok(vec![("service.name".into(), "my api".into()), ("team".into(), "a=b".into())])
        );
        assert!(attributes("service.name=%ff").is_err());
        assert!(attributes("=x").is_err());
    }

    #[test]
    fn an_endpoint_needs_a_scheme_that_we_speak_and_a_host() {
        assert!(endpoint("https://clickstack.example.com:4317").is_ok());
        for wrong in ["collector:4317", "ftp://x", "http://", "http://user:secret@x", "https://x y"] {
            assert!(endpoint(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn an_address_to_listen_on_may_be_ipv6() {
        assert_eq!(listen_address("[::1]:4317"), Ok(ListenAddress { host: "::1".into(), port: 4317 }));
        for wrong in ["4317", ":4317", "http://localhost:4317", "localhost:70000"] {
            assert!(listen_address(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}

//! The formats of servers, of syslog and of .NET's console, which can write syslog's priorities, too.

use super::{Cursor, HOST, LABEL, LOGGER, PROCESS, ParsedLine, Start};
use super::{is_name, is_number, level_word, upper_case_level};
use crate::logs::severity::{Scale, Severity};
use crate::time;

/// `[<level>] <pid>#<tid>: <message>`
pub(super) fn nginx<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" ")?;
    let severity = rest.level_in_brackets()?;
    rest.skip(" ")?;
    let pid = rest.digits()?;
    rest.skip("#")?;
    let thread = rest.digits()?;
    rest.skip(": ")?;
    Some(ParsedLine::new(severity, rest.rest()).with(PROCESS, pid).of_thread(thread))
}

/// ` <thread> [<Level>] <code, subsystem and message>`
pub(super) fn mysql<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" ")?;
    let thread = rest.digits()?;
    rest.skip(" ")?;
    let severity = match rest.within("[", "] ")? {
        "System" | "Note" => Severity::Info,
        word => level_word(word)?,
    };
    Some(ParsedLine::new(severity, rest.rest()).of_thread(thread))
}

/// ` [<pid>] <LEVEL>:  <message>`
pub(super) fn postgres<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" ")?;
    let pid = rest.within("[", "] ").filter(|pid| is_number(pid))?;
    let level = rest.until(":  ")?;
    // `DEBUG1` to `DEBUG5`
    let severity = match level.trim_end_matches(|digit: char| digit.is_ascii_digit()) {
        "LOG" => Severity::Info,
        level => upper_case_level(level)?,
    };
    Some(ParsedLine::new(severity, rest.rest()).with(PROCESS, pid))
}

/// ` <L>! <message>`
pub(super) fn telegraf<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" ")?;
    let severity = super::severity_of_letter(rest.word()?.strip_suffix('!')?)?;
    rest.skip(" ")?;
    Some(ParsedLine::new(severity, rest.rest()))
}

/// `<<priority>>` of systemd and syslog, before any of their formats
pub(super) fn priority<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let priority: u32 = rest.within("<", ">")?.parse().ok().filter(|priority| *priority < 192)?;
    let severity = Severity::from_number(i64::from(priority % 8), Scale::Syslog)?;
    let mut ahead = rest;
    if ahead.skip("1 ").is_some()
        && let Some(written) = ahead.until(" ")
        && let Some(time) = time::parse(written)
    {
        let host = ahead.until(" ")?;
        let application = ahead.until(" ")?;
        let pid = ahead.until(" ").filter(|pid| is_number(pid)).unwrap_or_default();
        let message_id = ahead.until(" ")?.trim_matches('-');
        let (data, message) = match ahead.within("[", "] ") {
            Some(data) => (data, ahead.rest()),
            None => ("", ahead.rest().strip_prefix("- ").unwrap_or(ahead.rest())),
        };
        let line = ParsedLine::new(severity, message).with(LOGGER, application).with(PROCESS, pid);
        let line = line.with(HOST, host).with(LABEL, message_id).with(LABEL, data);
        return Some(ParsedLine { time: Some((time, written)), ..line });
    }
    if let Some((time, after)) = time::split_named_month_and_day(rest.rest(), start.platform) {
        let written = rest.rest().get(..rest.rest().len() - after.len())?;
        let mut rest = Cursor::new(after);
        let head = rest.until(": ")?;
        let (host, tag) = head.trim_start().rsplit_once(' ').unwrap_or(("", head.trim_start()));
        let (tag, pid) = tag.strip_suffix(']').and_then(|tag| tag.split_once('[')).unwrap_or((tag, ""));
        let line = ParsedLine::new(severity, rest.rest()).with(LOGGER, tag).with(PROCESS, pid);
        let line = line.with(HOST, host);
        return Some(ParsedLine { time: Some((time, written)), ..line });
    }
    if let Some((time, after)) = time::split_date_time(rest.rest()) {
        let written = rest.rest().get(..rest.rest().len() - after.len())?;
        let line = category(severity, Cursor::new(after.trim_start()))?;
        return Some(ParsedLine { time: Some((time, written)), ..line });
    }
    Some(category(severity, rest).unwrap_or_else(|| ParsedLine::new(severity, rest.rest())))
}

/// `<level>: <category>[<event id>]` and the message, on the next line or on this one
pub(super) fn microsoft<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let level = rest.until(": ")?;
    let severity = matches!(level, "trce" | "dbug" | "info" | "warn" | "fail" | "crit")
        .then(|| Severity::from_word(level))??;
    let line = category(severity, rest)?;
    Some(ParsedLine { indent: "      ", ..line })
}

/// `<category>[<event id>]`, a space or a line break with spaces, and the message
pub(super) fn category(severity: Severity, mut rest: Cursor<'_>) -> Option<ParsedLine<'_>> {
    let category = rest.until("[").filter(|category| is_name(category))?;
    let event = rest.digits()?;
    rest.skip("]")?;
    let message = rest.rest();
    let message = message.strip_prefix("\n      ").or_else(|| message.strip_prefix(' '))?;
    let line = ParsedLine::new(severity, message).with(LOGGER, category);
    // No event has the number 0.
    Some(if event == "0" { line } else { line.with("event.id", event) })
}

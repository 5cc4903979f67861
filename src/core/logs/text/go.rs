//! The formats of Go's loggers.

use super::{Cursor, LOGGER, ParsedLine, Start, TimeStyle};
use super::{is_name, is_number, level_word, upper_case_level};
use crate::logs::severity::Severity;
use crate::time;

/// The attribute of the seconds since the start of the process.
const ELAPSED_S: &str = "log.elapsed_s";

/// `\t<LEVEL>\t[<logger>\t][<file>:<line>\t]<message>[\t<fields>]`
pub(super) fn zap<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let (level, mut message) = start.rest.rest().strip_prefix('\t')?.split_once('\t')?;
    let severity = level_word(level)?;
    // tslog leaves a column empty.
    message = message.trim_start_matches('\t');
    let mut line = ParsedLine::new(severity, message);
    let is_place = |column: &str| {
        let (file, line) = column.rsplit_once(':').unwrap_or_default();
        is_number(line) && is_name(file)
    };
    let columns: Vec<&str> = message.splitn(3, '\t').collect();
    let (logger, place) = match columns.as_slice() {
        [logger, place, _] if is_name(logger) && is_place(place) => (Some(*logger), Some(*place)),
        [place, _, ..] if is_place(place) => (None, Some(*place)),
        [logger, _, ..] if is_name(logger) => (Some(*logger), None),
        _ => (None, None),
    };
    for column in [logger, place].into_iter().flatten() {
        message = message.get(column.len() + 1..)?;
    }
    line.message = message;
    line = line.with(LOGGER, logger.unwrap_or_default());
    Some(if let Some(place) = place { line.at_place(place) } else { line })
}

/// Go's `log` writes no level, its slog `<LEVEL> <message>`, and much that uses `log` a level in brackets or before a colon.
pub(super) fn go<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    if start.style != TimeStyle::Slashes {
        return None;
    }
    let mut rest = start.rest;
    rest.skip(" ")?;
    let whole = rest.rest();
    let mut bracketed = rest;
    let letter = bracketed.within("[", "] ").and_then(super::severity_of_letter);
    if let Some(severity) = letter {
        return Some(ParsedLine::new(severity, bracketed.rest()));
    }
    if let Some(severity) = rest.level_in_brackets() {
        rest.spaces();
        return Some(after_go_file(ParsedLine::new(severity, rest.rest())));
    }
    if let Some((word, message)) = whole.split_once(' ') {
        if let Some(severity) = word.strip_suffix('!').and_then(super::severity_of_letter) {
            return Some(ParsedLine::new(severity, message));
        }
        let word = word.strip_suffix(':').unwrap_or(word);
        let known = word.split(['+', '-']).next().and_then(upper_case_level);
        if let Some(severity) = known.and_then(|_| Severity::from_word(word)) {
            return Some(after_go_file(ParsedLine::new(severity, message.trim_start_matches(' '))));
        }
    }
    Some(after_go_file(ParsedLine { message: whole, ..ParsedLine::default() }))
}

/// Takes `main.go:12: ` from the beginning of a message, which Go's `log` writes with `Lshortfile`.
pub(super) fn after_go_file(line: ParsedLine<'_>) -> ParsedLine<'_> {
    let place = line.message.split_once(": ").filter(|(place, _)| {
        place.rsplit_once(':').is_some_and(|(file, number)| {
            file.rsplit('.').next() == Some("go") && is_number(number) && is_name(file)
        })
    });
    match place {
        Some((place, message)) => ParsedLine { message, ..line }.at_place(place),
        None => line,
    }
}

/// ` <LVL> [<goroutine> ]<file>:<line> > <message>`
pub(super) fn zerolog<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" ")?;
    let severity = rest.padded_level()?;
    let line = place_before_angle(ParsedLine::new(severity, rest.rest()));
    (!line.attributes.is_empty()).then_some(line)
}

/// ` [<LEVEL>] [ ]<name>: <message>`; only this format has a time in ISO 8601 and a level in brackets
pub(super) fn hclog<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" ").filter(|()| start.style == TimeStyle::Iso)?;
    let level = rest.within("[", "]")?;
    let severity = upper_case_level(level)?;
    // The level is padded outside its brackets.
    rest.skip(if level.len() < 5 { "  " } else { " " })?;
    let name = rest.until(": ").filter(|name| is_name(name))?;
    Some(ParsedLine::new(severity, rest.rest()).with(LOGGER, name))
}

/// `<LEVEL>[<seconds, or a time>] <message and fields>`
pub(super) fn logrus<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.spaces();
    let severity = rest.level()?;
    let written = rest.within("[", "]")?;
    rest.skip(" ")?;
    let line = ParsedLine::new(severity, rest.rest());
    if is_number(written) && written.len() >= 4 {
        return Some(line.with(ELAPSED_S, written));
    }
    let time = time::parse(written).or_else(|| time::parse_with_bar(written, start.platform))?;
    Some(ParsedLine { time: Some((time, written)), ..line })
}

/// `<hour>:<minute>PM <LEVEL> <message>`
pub(super) fn kitchen<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let written = rest.word()?;
    let (hour, minute) = written.strip_suffix('M')?.strip_suffix(['A', 'P'])?.split_once(':')?;
    if !is_number(hour) || !is_number(minute) {
        return None;
    }
    rest.skip(" ")?;
    let severity = rest.padded_level()?;
    // Without seconds, the platform's time is more accurate.
    Some(place_before_angle(ParsedLine::new(severity, rest.rest()).with("time", written)))
}

/// Takes `<file>:<line> > ` from the beginning of a message.
pub(super) fn place_before_angle(line: ParsedLine<'_>) -> ParsedLine<'_> {
    let mut rest = Cursor::new(line.message);
    // phuslu writes the goroutine before it.
    if rest.digits().is_some() {
        rest.spaces();
    }
    match rest.until(" > ") {
        Some(place) if is_name(place) && place.rsplit_once(':').is_some_and(|(_, line)| is_number(line)) => {
            ParsedLine { message: rest.rest(), ..line }.at_place(place)
        }
        _ => line,
    }
}

/// `<L>mmdd hh:mm:ss.uuuuuu <thread> <file>:<line>] <message>`
pub(super) fn glog<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let severity = match rest.rest().as_bytes().first()? {
        b'T' => Severity::Trace,
        b'D' => Severity::Debug,
        b'I' => Severity::Info,
        b'W' => Severity::Warn,
        b'E' => Severity::Error,
        b'F' => Severity::Fatal,
        _ => return None,
    };
    let text = rest.rest().get(1..)?;
    let (time, after) = time::split_month_and_day(text, start.platform)?;
    let written = text.get(..text.len() - after.len())?;
    rest = Cursor::new(after);
    rest.spaces();
    let thread = rest.digits()?;
    rest.skip(" ")?;
    let place = rest.until("]").filter(|place| is_name(place))?;
    let message = rest.rest().strip_prefix(' ').unwrap_or(rest.rest());
    let line = ParsedLine::new(severity, message).of_thread(thread).at_place(place);
    Some(ParsedLine { time: Some((time, written)), ..line })
}

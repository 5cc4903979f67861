//! The prefix that most formats are variations of: a time, a level, and around them the logger, the thread, the process, the
//! place in the code and ids, in brackets or before a dash or a colon.
//!
//! Which of these a part is follows from its form and from its place before or after the level. What could be the beginning
//! of the message is left to it.

use super::cursor::Cursor;
use super::{HOST, LABEL, LINE, PROCESS, ParsedLine, TimeStyle};
use super::{is_name, is_number, is_pairs, is_path, is_uuid, level_word, split_time, upper_case_level};
use crate::trace_context;

/// The largest number of parts.
const MAX_PARTS: usize = 12;
/// The fields that a prefix names.
const NAMED: [&str; 14] = [
    "trace_id",
    "traceId",
    "traceID",
    "trace.id",
    "span_id",
    "spanId",
    "spanID",
    "span.id",
    "parentId",
    "parent_id",
    "sampled",
    "trace_flags",
    "trace_sampled",
    "traceFlags",
];

/// A prefix in the making.
#[derive(Clone)]
pub(super) struct Header<'a> {
    rest: Cursor<'a>,
    style: TimeStyle,
    platform: u64,
    line: ParsedLine<'a>,
    /// The names in brackets, which are threads or loggers, or labels.
    names: Vec<&'a str>,
    /// The first of them stands before the level.
    has_early_name: bool,
    /// The level is a word by itself, as in Log4j.
    is_bare_level: bool,
    /// A number in brackets before the level: the thread in Log4j, the process where the level is in brackets, too.
    number: Option<&'a str>,
    /// The name of the process, `orders[8]`.
    process: Option<&'a str>,
    logger: Option<&'a str>,
    thread: Option<&'a str>,
    /// The place in the code.
    place: Option<&'a str>,
    /// Something other than time and level was found.
    has_parts: bool,
}

/// The kind of text after a part.
enum Next {
    Part,
    Message,
}

impl<'a> Header<'a> {
    /// Begins with what is known: after a time, or a level.
    pub(super) fn new(rest: Cursor<'a>, style: TimeStyle, platform: u64, line: ParsedLine<'a>) -> Self {
        Self {
            rest,
            style,
            platform,
            line,
            names: Vec::new(),
            has_early_name: false,
            is_bare_level: true,
            number: None,
            process: None,
            logger: None,
            thread: None,
            place: None,
            has_parts: false,
        }
    }

    /// Reads the parts. Returns `None` if there is no level among them.
    pub(super) fn parse(mut self) -> Option<ParsedLine<'a>> {
        for _ in 0..MAX_PARTS {
            self.rest.spaces();
            match self.part() {
                Some(Next::Part) => {}
                Some(Next::Message) => break,
                None => {
                    self.logger_before_separator();
                    break;
                }
            }
        }
        self.line.severity?;
        self.rest.spaces();
        match self.number.take() {
            Some(number) if self.is_bare_level && self.thread.is_none() => self.thread = Some(number),
            Some(number) => self.add(PROCESS, number),
            None => {}
        }
        self.assign_names();
        let Self { rest, mut line, names, logger, thread, process, place, .. } = self;
        if let Some(place) = place {
            line = line.at_place(place);
        }
        // winston aligns messages with a tab.
        line.message = rest.rest().strip_prefix('\t').unwrap_or(rest.rest());
        if let Some(thread) = thread {
            line = line.of_thread(thread);
        }
        for label in names {
            line = line.with(LABEL, label);
        }
        if let Some(process) = process.filter(|_| logger.is_some()) {
            line = line.with(LABEL, process);
        }
        let logger = logger.or(process);
        Some(if let Some(logger) = logger { line.of_logger(logger) } else { line })
    }

    /// Decides which of the names in brackets are the logger and the thread.
    fn assign_names(&mut self) {
        if self.thread.is_none() {
            let is_id = |name: &str| {
                name.len() >= 8 && name.trim_start_matches("0x").bytes().all(|byte| byte.is_ascii_hexdigit())
            };
            let id = self.names.iter().position(|name| is_id(name));
            self.thread = id.map(|at| self.names.remove(at));
        }
        if self.logger.is_none() {
            let path = self.names.iter().position(|name| is_path(name));
            let is_thread = self.thread.is_none() && self.has_early_name && self.is_bare_level;
            let at = path.or_else(|| (self.names.len() > usize::from(is_thread)).then_some(0));
            self.logger = at.map(|at| self.names.remove(at));
        }
        if self.thread.is_none() {
            self.thread = self.names.pop();
        }
    }

    fn has_level(&self) -> bool {
        self.line.severity.is_some()
    }

    /// Reads one part.
    fn part(&mut self) -> Option<Next> {
        match self.rest.rest().as_bytes().first()? {
            b'[' => self.brackets(),
            b'(' => self.parentheses(),
            b'{' => self.braces(),
            b'<' => {
                let severity =
                    self.rest.within("<", ">").and_then(level_word).filter(|_| !self.has_level())?;
                self.line.severity = Some(severity);
                Some(Next::Part)
            }
            b'-' | b'|' | b':' | b'>' => self.separator(),
            _ => self.time().or_else(|| self.word()),
        }
    }

    /// Reads a time, which some formats have after the level.
    fn time(&mut self) -> Option<Next> {
        if self.line.time.is_some() || self.style != TimeStyle::None {
            return None;
        }
        let (time, written, after, style) = split_time(self.rest.rest(), self.platform)?;
        if style == TimeStyle::InBrackets {
            return None;
        }
        self.style = style;
        self.line.time = Some((time, written));
        self.rest = Cursor::new(after);
        self.rest.spaces();
        Some(Next::Part)
    }

    fn brackets(&mut self) -> Option<Next> {
        if let Some(next) = self.time() {
            return Some(next);
        }
        let mut ahead = self.rest;
        let inner = ahead.within("[", "]")?.trim();
        if !ahead.rest().is_empty() && !ahead.rest().starts_with([' ', ':', '[', '-', '\t', '(']) {
            return None;
        }
        if let Some(severity) = level_word(inner).filter(|_| !self.has_level()) {
            self.line.severity = Some(severity);
            self.is_bare_level = false;
            self.rest = ahead;
            return Some(self.after_closing());
        } else if matches!(inner, "" | "-" | "(null)") {
            // A placeholder.
        } else if inner.contains('=') {
            is_pairs(inner, " ").then_some(())?;
            self.line = std::mem::take(&mut self.line).with_pairs(inner, " ");
        } else if let Some((name, trace_id, span_id)) = sleuth(inner) {
            (self.line.trace_id, self.line.span_id) = (Some(trace_id), Some(span_id));
            self.add(LABEL, name);
        } else if let Some((trace_id, span_id)) = ids(inner) {
            (self.line.trace_id, self.line.span_id) = (Some(trace_id), Some(span_id));
        } else if is_number(inner) && !self.has_level() && self.number.is_none() {
            self.number = Some(inner);
        } else if is_number(inner) {
            self.thread.is_none().then_some(())?;
            self.thread = Some(inner);
        } else if self.take_place(inner).is_some() {
        } else if self.names.len() < 3
            && inner.len() <= 64
            && (is_name(inner) || !self.has_level() && !inner.contains(['[', '{', '"', '=']))
        {
            self.has_early_name |= self.names.is_empty() && !self.has_level();
            self.names.push(inner);
        } else {
            return None;
        }
        self.has_parts = true;
        self.rest = ahead;
        Some(self.after_closing())
    }

    fn parentheses(&mut self) -> Option<Next> {
        let mut ahead = self.rest;
        let inner = ahead.within("(", ")")?.trim();
        if !ahead.rest().starts_with([' ', ':']) {
            return None;
        }
        if self.take_place(inner).is_none() {
            let is_thread = self.thread.is_none() && is_name(inner) && (self.has_parts || is_number(inner));
            is_thread.then_some(())?;
            self.thread = Some(inner);
        }
        self.has_parts = true;
        self.rest = ahead;
        Some(self.after_closing())
    }

    fn braces(&mut self) -> Option<Next> {
        let mut ahead = self.rest;
        let inner = ahead.within("{", "}")?.trim();
        if !ahead.rest().starts_with(' ') || inner.starts_with('"') {
            return None;
        }
        if !inner.is_empty() && self.take_place(inner).is_none() {
            is_pairs(inner, ", ").then_some(())?;
            self.line = std::mem::take(&mut self.line).with_pairs(inner, ", ");
        }
        self.has_parts = true;
        self.rest = ahead;
        Some(Next::Part)
    }

    /// Goes on after a bracket: a colon there ends the prefix.
    fn after_closing(&mut self) -> Next {
        let has_colon = self.rest.skip(":").is_some();
        if has_colon && self.has_level() { Next::Message } else { Next::Part }
    }

    fn separator(&mut self) -> Option<Next> {
        for dashes in ["--- ", "| "] {
            if self.rest.skip(dashes).is_some() {
                return Some(Next::Part);
            }
        }
        for end in ["- ", "-- ", ": "] {
            if self.rest.skip(end).is_some() {
                return Some(if self.has_level() { Next::Message } else { Next::Part });
            }
        }
        None
    }

    fn word(&mut self) -> Option<Next> {
        let mut ahead = self.rest;
        let whole = ahead.word()?;
        let word = whole.strip_suffix(':').unwrap_or(whole);
        let has_colon = word.len() < whole.len();
        if !self.has_level() {
            return self.word_before_level(ahead, word, has_colon);
        }
        if is_number(word) && !has_colon && ahead.rest().starts_with(" --- ") {
            self.add(PROCESS, word);
            self.rest = ahead;
            return Some(Next::Part);
        }
        if let Some(id) = word.strip_prefix("ThreadId(").and_then(|id| id.strip_suffix(')')) {
            let line = std::mem::take(&mut self.line);
            self.line = line.of_thread(id);
            self.rest = ahead;
            self.has_parts = true;
            return Some(Next::Part);
        }
        if let Some((key, _)) = word.trim_end_matches(',').split_once('=')
            && NAMED.contains(&key)
        {
            self.line = std::mem::take(&mut self.line).with_pairs(word, " ");
            self.rest = ahead;
            self.has_parts = true;
            return Some(Next::Part);
        }
        // `src/main.rs:47: `
        if has_colon && self.take_place(word).is_some() {
            self.rest = ahead;
            return Some(Next::Message);
        }
        let is_logger = is_name(word) && self.logger.is_none();
        // A word before a colon is a logger if it is a path, or if the format has other parts, too.
        let is_certain = is_path(word) || self.has_parts && !word.contains('/');
        if has_colon && is_logger && is_certain {
            self.logger = Some(word);
            self.rest = ahead;
            // The place in the code may follow.
            self.rest.spaces();
            let mut further = self.rest;
            if let Some(place) = further.word().and_then(|word| word.strip_suffix(':'))
                && self.take_place(place).is_some()
            {
                self.rest = further;
            } else {
                let mut further = self.rest;
                if further.within("[", "] ").and_then(|place| self.take_place(place)).is_some() {
                    self.rest = further;
                }
            }
            return Some(Next::Message);
        }
        None
    }

    fn word_before_level(&mut self, mut ahead: Cursor<'a>, word: &'a str, has_colon: bool) -> Option<Next> {
        let is_level = |word: &str| if has_colon { level_word(word) } else { upper_case_level(word) };
        if let Some(severity) = is_level(word) {
            self.line.severity = Some(severity);
            self.is_bare_level = !has_colon || word.starts_with(|first: char| first.is_ascii_uppercase());
            self.rest = ahead;
            return Some(if has_colon { Next::Message } else { Next::Part });
        }
        if is_uuid(word) && self.line.request_id.is_none() {
            self.line.request_id = Some(word);
        } else if is_number(word) && !has_colon {
            self.add(PROCESS, word);
        } else if let Some((name, pid)) = word.strip_suffix(']').and_then(|word| word.split_once('['))
            && is_name(name)
        {
            // `T[main]`, `orders[8]`
            if is_number(pid) {
                self.process = Some(name);
                self.add(PROCESS, pid);
            } else {
                self.thread = Some(pid);
            }
        } else if word.starts_with(|first: char| first.is_ascii_alphabetic())
            && word.contains('=')
            && !word.contains('"')
        {
            self.line = std::mem::take(&mut self.line).with_pairs(word, " ");
        } else if is_name(word) && self.logger.is_none() {
            // Only a level, or a word that is one more name, may follow a name.
            ahead.spaces();
            let mut further = ahead;
            let next = further.word()?.trim_matches(['[', ']', ':']);
            let is_next_level = upper_case_level(next).is_some()
                || ahead.level_in_brackets().is_some()
                || next.contains('[') && is_name(next);
            is_next_level.then_some(())?;
            if next.contains('[') {
                self.add(HOST, word);
            } else {
                self.logger = Some(word);
            }
            self.rest.word();
            self.has_parts = true;
            return Some(Next::Part);
        } else {
            return None;
        }
        self.has_parts = true;
        self.rest = ahead;
        Some(Next::Part)
    }

    /// Takes a logger before a dash, a colon or an angle, with what may stand between: `Orders [main] - `, `Orders > `.
    fn logger_before_separator(&mut self) {
        if !self.has_level() || self.logger.is_some() {
            return;
        }
        let mut ahead = self.rest;
        let Some(logger) = ahead.word() else { return };
        let (logger, place) = match logger.strip_suffix(')').and_then(|logger| logger.split_once('(')) {
            Some((logger, place)) => (logger, Some(place)),
            None => (logger, None),
        };
        if !is_name(logger)
            || !logger.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        {
            return;
        }
        let mut inner = Self {
            rest: ahead,
            style: TimeStyle::Spaced,
            logger: Some(logger),
            has_parts: true,
            ..self.clone()
        };
        if let Some(place) = place
            && inner.take_place(place).is_none()
        {
            if !is_number(place) {
                return;
            }
            inner.add(LINE, place);
        }
        for count in 0..4 {
            inner.rest.spaces();
            let is_separator = inner.rest.rest().starts_with(['-', ':', '>', '|']);
            match inner.part() {
                Some(Next::Part) if !is_separator => {}
                Some(Next::Message) if is_separator => break,
                // `com.acme.Orders [main] message`, without a separator.
                _ if count > 0 && (is_path(logger) || inner.thread != self.thread) => break,
                _ => return,
            }
        }
        *self = Self { style: self.style, ..inner };
    }

    fn add(&mut self, key: &'a str, value: &'a str) {
        self.line = std::mem::take(&mut self.line).with(key, value);
    }

    /// Takes the place in the code: `orders.rs:13`. It must have a file's extension.
    fn take_place(&mut self, place: &'a str) -> Option<()> {
        let (file, number) = place.rsplit_once(':')?;
        let is_file = is_name(file) && (file.contains('.') || file.contains('/')) && self.place.is_none();
        (is_number(number) && is_file).then(|| self.place = Some(place))
    }
}

/// A trace id and a span id in one word, as Spring Boot writes them.
fn ids(word: &str) -> Option<([u8; 16], [u8; 8])> {
    let (trace_id, span_id) = word.rsplit_once('-')?;
    Some((trace_context::id(trace_id)?, trace_context::id(span_id)?))
}

/// The name, trace id and span id that Spring Cloud Sleuth writes: `orders,<trace id>,<span id>`.
fn sleuth(word: &str) -> Option<(&str, [u8; 16], [u8; 8])> {
    let mut parts = word.split(',');
    let (name, trace_id, span_id) = (parts.next()?, parts.next()?, parts.next()?);
    Some((name, trace_context::id(trace_id)?, trace_context::id(span_id)?))
}

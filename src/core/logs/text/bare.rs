//! The formats of lines that do not begin with a time.

use super::starts::{ANGLE, BRACKET, DIGIT, LEVEL as LEVEL_WORD, OTHER, WORD};
use super::{Cursor, is_name, is_number, is_path, is_uuid, level_word, lower_case_level, upper_case_level};
use super::{Format, LEVEL, LOGGER, PROCESS, ParsedLine, Start, THREAD};
use super::{go, servers, tracing};
use crate::logs::severity::Severity;
use crate::time;

/// The attributes of the time since the start of a process.
const ELAPSED_MS: &str = "log.elapsed_ms";

/// The formats, the stricter ones first.
pub(super) const BARE: &[Format] = &[
    Format {
        name: "the runtime of Python",
        starts: BRACKET,
        #[cfg(test)]
        examples: &[
            "[WARNING]\t2026-11-21T12:16:49.355Z\t8286a188-ba32-4475-8077-530cd35c09a9\tstock is low",
            "[INFO]\t2026-11-21T12:16:49.355Z\t\tduring init",
        ],
        parse: python_runtime,
    },
    Format {
        name: "Lambda",
        starts: WORD,
        #[cfg(test)]
        examples: &[
            "Task timed out after 3.00 seconds",
            "RequestId: 8286a188-ba32-4475-8077-530cd35c09a9 Error: Runtime exited with error: exit status 1",
        ],
        parse: lambda,
    },
    Format {
        name: "env_logger without a time, and a name with a level",
        starts: BRACKET,
        #[cfg(test)]
        examples: &["[WARN  orders::stock] stock is low", "[NR_EXT INFO] starting"],
        parse: level_and_name_in_brackets,
    },
    Format {
        name: "Amazon.Lambda.Logging.AspNetCore",
        starts: BRACKET,
        #[cfg(test)]
        examples: &["[Warning] Acme.Orders: stock is low"],
        parse: asp_net,
    },
    Format {
        name: "ids in brackets",
        starts: BRACKET,
        #[cfg(test)]
        examples: &["[trace_id=0af7651916cd43dd8448eb211c80319c span_id=b7ad6b7169203331] stock is low"],
        parse: ids_in_brackets,
    },
    Format {
        name: "Tornado",
        starts: BRACKET,
        #[cfg(test)]
        examples: &["[W 261121 12:16:49 orders:8] stock is low"],
        parse: tornado,
    },
    Format {
        name: "slf4j-simple",
        starts: BRACKET | DIGIT,
        #[cfg(test)]
        examples: &[
            "[main] WARN com.acme.Orders - stock is low",
            "7 [main] INFO com.acme.Orders - order shipped",
        ],
        parse: slf4j_simple,
    },
    Format {
        name: "NestJS",
        starts: BRACKET,
        #[cfg(test)]
        examples: &["[Nest] 8  - 11/21/2026, 12:16:49 PM   ERROR [Orders] charge refused"],
        parse: nest,
    },
    Format {
        name: "Ruby's logger",
        starts: WORD,
        #[cfg(test)]
        examples: &[
            "W, [2026-11-21T12:16:49.355123 #8]  WARN 8286a188-ba32-4475-8077-530cd35c09a9 -- orders: stock is low",
            "I, [2026-11-21T12:16:49.355123 #8]  INFO -- : order shipped",
        ],
        parse: ruby,
    },
    Format {
        name: "the loggers of Log4j and SLF4J themselves",
        starts: LEVEL_WORD | WORD,
        #[cfg(test)]
        examples: &[
            "ERROR StatusLogger Reconfiguration failed",
            "log4j:WARN No appenders could be found",
            "SLF4J(W): No SLF4J providers were found.",
        ],
        parse: status_logger,
    },
    Format {
        name: "glog",
        starts: WORD,
        #[cfg(test)]
        examples: &["E1121 12:16:49.355123       8 main.go:12] charge refused"],
        parse: go::glog,
    },
    Format {
        name: "java.util.logging",
        starts: WORD,
        #[cfg(test)]
        examples: &["Nov 21, 2026 12:16:49 PM com.acme.Orders handle\nWARNING: stock is low"],
        parse: java_util_logging,
    },
    Format {
        name: "Microsoft.Extensions.Logging",
        starts: LEVEL_WORD,
        #[cfg(test)]
        examples: &["warn: Acme.Orders[0]\n      stock is low", "fail: Acme.Orders[17] charge refused"],
        parse: servers::microsoft,
    },
    Format {
        name: "syslog's priority",
        starts: ANGLE,
        #[cfg(test)]
        examples: &[
            "<3>Acme.Orders[0] charge refused",
            "<28>Nov 21 12:16:49 h orders[8]: stock is low",
            "<11>1 2026-11-21T12:16:49.355Z h orders 8 - - charge refused",
        ],
        parse: servers::priority,
    },
    Format {
        name: "PHP",
        starts: WORD,
        #[cfg(test)]
        examples: &["PHP Fatal error:  Uncaught RuntimeException: no stock in /var/task/index.php:3"],
        parse: php,
    },
    Format {
        name: "logrus, apex and log15",
        starts: LEVEL_WORD,
        #[cfg(test)]
        examples: &[
            "WARN[0003] stock is low                                 n=3",
            "INFO[2026-11-21T12:16:49Z] order shipped                                n=3",
            "DBUG[11-21|12:16:49] cache read                               hits=3",
        ],
        parse: go::logrus,
    },
    Format {
        name: "pretty_env_logger",
        starts: LEVEL_WORD,
        #[cfg(test)]
        examples: &[" WARN  orders::stock > stock is low"],
        parse: pretty_env_logger,
    },
    Format {
        name: "tracing",
        starts: LEVEL_WORD,
        #[cfg(test)]
        examples: &[
            " INFO Lambda runtime invoke{requestId=\"8286a188-ba32-4475-8077-530cd35c09a9\"}: order shipped",
            " WARN orders: stock is low n=3",
            "\x1b[32m INFO\x1b[0m during init",
        ],
        parse: tracing::tracing,
    },
    Format {
        name: "Django",
        starts: LEVEL_WORD,
        #[cfg(test)]
        examples: &["ERROR 2026-11-21 12:16:49,355 orders 8 140543114121792 charge refused"],
        parse: django,
    },
    Format {
        name: "a time of day without seconds, zerolog and charm",
        starts: DIGIT,
        #[cfg(test)]
        examples: &["12:16PM INF order shipped order=17"],
        parse: go::kitchen,
    },
    Format {
        name: "a level, a time, and parts around them",
        starts: BRACKET | LEVEL_WORD,
        #[cfg(test)]
        examples: &[
            "INFO  2026-11-21 12:16:49,355 [main] Orders (Orders.java:41) - order 17 shipped",
            "ERROR: 2026/11/21 12:16:49 charge refused",
            "[WARN ] 2026-11-21 12:16:49.355 [main] Orders - stock is low",
            "INFO  [2026-11-21 12:16:49,355] com.acme.Orders: order shipped",
            "WARN [12:16:49.355] (8): stock is low",
        ],
        parse: level_and_time,
    },
    Format {
        name: "a name and a time",
        starts: BRACKET | WORD | OTHER,
        #[cfg(test)]
        examples: &[
            "[appconfig agent] 2026/11/21 12:16:49 INFO serving on localhost:2772",
            "SDK 2026/11/21 12:16:49 DEBUG request failed",
            "#LUMIGO# - 2026-11-21 12:16:49,355 - WARNING - no token",
        ],
        parse: name_and_time,
    },
    Format {
        name: "a level in brackets, Java's runtime",
        starts: BRACKET,
        #[cfg(test)]
        examples: &[
            "[INFO] order 17 shipped",
            "[error] charge refused",
            "[warning  ] stock is low        sku=a-1",
        ],
        parse: bracketed_level,
    },
    Format {
        name: "Python's logging",
        starts: LEVEL_WORD,
        #[cfg(test)]
        examples: &["WARNING:orders:stock is low"],
        parse: python,
    },
    Format {
        name: "a level and a dash",
        starts: LEVEL_WORD | WORD,
        #[cfg(test)]
        examples: &[
            "ERROR - charge refused",
            "WARN  com.acme.Orders - stock is low",
            "orders - INFO - no errors found",
        ],
        parse: level_and_dash,
    },
    Format {
        name: "a level and a bar",
        starts: LEVEL_WORD | WORD,
        #[cfg(test)]
        examples: &["DD_EXTENSION | ERROR | no API key", "WARNING | stock is low"],
        parse: level_and_bar,
    },
    Format {
        name: "a level and a colon",
        starts: LEVEL_WORD,
        #[cfg(test)]
        examples: &["warn: stock is low", "INFO:     Started server process [8]", "WARNING: deprecated"],
        parse: level_and_colon,
    },
    Format {
        name: "a level and a logger in brackets",
        starts: LEVEL_WORD,
        #[cfg(test)]
        examples: &["WARN [orders::stock] stock is low"],
        parse: level_and_brackets,
    },
    Format {
        name: "a level in a column",
        starts: LEVEL_WORD,
        #[cfg(test)]
        examples: &["ERROR\tcharge refused\t{\"order\":17}"],
        parse: level_in_column,
    },
];

/// `[<LEVEL>]\t<time>\t<request id or nothing>\t<message>`
fn python_runtime<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let level = rest.within("[", "]\t")?;
    let written = rest.until("\t")?;
    let time = time::parse(written)?;
    let request_id = rest.until("\t")?;
    let severity = upper_case_level(level);
    let line = ParsedLine {
        time: Some((time, written)),
        severity,
        request_id: Some(request_id).filter(|id| !id.is_empty()),
        message: rest.rest(),
        is_envelope: true,
        ..ParsedLine::default()
    };
    Some(if severity.is_none() { line.with(LEVEL, level) } else { line })
}

/// `Task timed out …` and `RequestId: <id> Error: Runtime exited …`
fn lambda<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    if rest.skip("RequestId: ").is_none() {
        return timed_out(rest.rest());
    }
    let id = rest.until(" ").filter(|id| is_uuid(id))?;
    let message = rest.rest();
    let is_known =
        message.starts_with("Error: ") || message.starts_with("Process exited before completing request");
    let line = ParsedLine::new(Severity::Error, message);
    is_known.then_some(ParsedLine { request_id: Some(id), ..line })
}

/// Exactly `Task timed out after <seconds> seconds`
pub(super) fn timed_out(text: &str) -> Option<ParsedLine<'_>> {
    let seconds = text.strip_prefix("Task timed out after ")?.strip_suffix(" seconds")?;
    let is_number = seconds.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_number.then(|| ParsedLine::new(Severity::Error, text))
}

/// `[<LEVEL>] <message>`
fn bracketed_level<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let severity = rest.level_in_brackets()?;
    let _ = rest.skip(":");
    rest.skip(" ")?;
    rest.spaces();
    Some(ParsedLine { carriage_returns: true, ..ParsedLine::new(severity, rest.rest()) })
}

/// `[<LEVEL>  <target>] <message>`, `[<NAME> <LEVEL>] <message>`
fn level_and_name_in_brackets<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let inner = rest.within("[", "] ")?;
    let (first, second) = inner.split_once(' ')?;
    let second = second.trim_start();
    let (severity, name) = match upper_case_level(first) {
        Some(severity) if inner.len() >= 6 => (severity, second),
        _ => (upper_case_level(second)?, first),
    };
    is_name(name).then(|| ParsedLine::new(severity, rest.rest()).with(LOGGER, name))
}

/// `[<Level>] <category>: <message>`
fn asp_net<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let level = rest
        .within("[", "] ")
        .filter(|level| upper_case_level(level).is_none() && lower_case_level(level).is_none())?;
    let severity = level_word(level)?;
    let category = rest.until(": ").filter(|category| is_name(category))?;
    Some(ParsedLine::new(severity, rest.rest()).with(LOGGER, category))
}

/// `[trace_id=<id> span_id=<id>] <message>`
fn ids_in_brackets<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let ids = rest.within("[", "] ").filter(|ids| super::is_pairs(ids, " "))?;
    let line = ParsedLine { message: rest.rest(), ..ParsedLine::default() }.with_pairs(ids, " ");
    line.trace_id.is_some().then_some(line)
}

/// `[<L> yymmdd hh:mm:ss <module>:<line>] <message>`
fn tornado<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip("[")?;
    let severity = super::severity_of_letter(rest.word()?)?;
    rest.skip(" ")?;
    let text = rest.rest();
    let (time, after) = time::split_month_and_day(text.get(2..)?, start.platform)?;
    let written = text.get(..text.len() - after.len())?;
    let mut rest = Cursor::new(after);
    rest.skip(" ")?;
    let place = rest.until("] ").filter(|place| is_name(place))?;
    let line = ParsedLine::new(severity, rest.rest()).at_place(place);
    Some(ParsedLine { time: Some((time, written)), ..line })
}

/// ` <LEVEL>  <target> > <message>`
fn pretty_env_logger<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" ")?;
    rest.spaces();
    let severity = rest.padded_level()?;
    let target = rest.until(" > ").map(str::trim_end).filter(|target| is_name(target))?;
    Some(ParsedLine::new(severity, rest.rest()).with(LOGGER, target))
}

/// `[<name>] <time> <LEVEL> <message>`, `<name> <time> …`, `<name> - <time> - …`
fn name_and_time<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let name = rest.within("[", "] ").or_else(|| {
        let name = rest.name()?;
        rest.skip(" - ").or_else(|| rest.skip(" "))?;
        Some(name)
    })?;
    // A time of day alone stands in many a sentence.
    time::split_date_time(rest.rest())?;
    let (format, line) = super::dated(rest.rest(), start).filter(|(_, line)| line.severity.is_some())?;
    let is_named =
        name.len() <= 48 && !name.ends_with(':') && format.name != "the runtimes of Node.js and .NET";
    let has_logger = line.attributes.iter().any(|(key, _)| *key == LOGGER);
    is_named.then(|| line.with(if has_logger { super::LABEL } else { LOGGER }, name.trim_matches('#')))
}

/// `<LEVEL>` or `[<LEVEL>]`, a time, and what may stand around them
fn level_and_time<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut ahead = start.rest;
    let severity = ahead.level_in_brackets().or_else(|| ahead.level())?;
    let _ = ahead.skip(":");
    ahead.skip(" ").or_else(|| ahead.skip("\t"))?;
    ahead.spaces();
    if !ahead.rest().starts_with(|next: char| next.is_ascii_digit() || next == '[') {
        return None;
    }
    let line = ParsedLine { severity: Some(severity), ..ParsedLine::default() };
    let line = super::header::Header::new(ahead, super::TimeStyle::None, start.platform, line).parse()?;
    line.time.is_some().then_some(line)
}

/// `[<thread>] <LEVEL> <logger> - <message>`
fn slf4j_simple<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let elapsed = rest.digits().unwrap_or_default();
    rest.spaces();
    let thread = rest.within("[", "] ")?;
    let severity = rest.padded_level()?;
    let logger = rest.until(" - ").map(str::trim).filter(|logger| is_name(logger))?;
    let line = ParsedLine::new(severity, rest.rest()).with(THREAD, thread).with(LOGGER, logger);
    Some(line.with(ELAPSED_MS, elapsed))
}

/// `[<application>] <pid>  - <time>   <LEVEL> [<context>] <message>`
fn nest<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let application = rest.within("[", "] ")?;
    let pid = rest.digits()?;
    rest.spaces();
    let _ = rest.skip("- ");
    let written = rest.rest();
    let (time, after) = time::split_american(written)?;
    let written = written.get(..written.len() - after.len())?;
    let mut rest = Cursor::new(after);
    rest.spaces();
    let severity = match rest.skip("LOG ") {
        Some(()) => Severity::Info,
        None => rest.padded_level()?,
    };
    let context = rest.within("[", "] ").unwrap_or_default();
    let line = ParsedLine::new(severity, rest.rest()).with(PROCESS, pid).with(LOGGER, context);
    let line = line.with(super::LABEL, application);
    Some(ParsedLine { time: Some((time, written)), ..line })
}

/// `I, [<time> #<pid>]  INFO <request id, or nothing> -- <program>: <message>`. Without the formatter of Lambda's runtime the
/// request id and its space are missing.
fn ruby<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let text = start.rest.rest();
    let letter = text.get(..1).filter(|letter| matches!(*letter, "D" | "I" | "W" | "E" | "F" | "A" | "U"))?;
    let (stamp, rest) = text.get(1..)?.strip_prefix(", [")?.split_once(']')?;
    let (written, pid) = stamp.split_once(" #")?;
    let time = time::parse(written)?;
    if !is_number(pid) {
        return None;
    }
    let (head, message) = rest.split_once(" -- ")?;
    let mut words = head.split_ascii_whitespace();
    let level = words.next().filter(|level| level.starts_with(letter))?;
    let request_id = words.next();
    let (program, message) = message.split_once(": ").or_else(|| Some((message.strip_suffix(':')?, "")))?;
    let severity = upper_case_level(level);
    // Lambda's formatter writes the id.
    let is_envelope = request_id.is_some();
    let time = Some((time, written));
    let line = ParsedLine { time, severity, request_id, message, is_envelope, ..ParsedLine::default() };
    let line = line.with(PROCESS, pid).with(LOGGER, program);
    Some(if severity.is_none() { line.with(LEVEL, level) } else { line })
}

/// `<LEVEL> StatusLogger <message>`, `log4j:<LEVEL> <message>`, `SLF4J(<L>): <message>`
fn status_logger<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    if rest.skip("SLF4J(").is_some() {
        let severity = super::severity_of_letter(rest.until("): ")?)?;
        return Some(ParsedLine::new(severity, rest.rest()).with(LOGGER, "SLF4J"));
    }
    if rest.skip("log4j:").is_some() {
        let severity = rest.padded_level()?;
        return Some(ParsedLine::new(severity, rest.rest()).with(LOGGER, "log4j"));
    }
    let severity = rest.padded_level()?;
    rest.skip("StatusLogger ")?;
    Some(ParsedLine::new(severity, rest.rest()).with(LOGGER, "StatusLogger"))
}

/// `<time> <class> <method>`, and on the next line `<LEVEL>: <message>`
fn java_util_logging<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let text = start.rest.rest();
    let (head, rest) = text.split_once('\n')?;
    let (time, source) = time::split_named_month(head)?;
    let written = head.get(..head.len() - source.len())?;
    let mut rest = Cursor::new(rest);
    let severity = rest.level()?;
    rest.skip(": ")?;
    let mut words = source.split_ascii_whitespace();
    let (class, method) = (words.next()?, words.next().unwrap_or_default());
    let line = ParsedLine::new(severity, rest.rest()).with(LOGGER, class).with(super::FUNCTION, method);
    let is_source = is_name(class) && words.next().is_none();
    is_source.then_some(ParsedLine { time: Some((time, written)), ..line })
}

/// `PHP <Level>:  <message>`
pub(super) fn php<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip("PHP ")?;
    let severity = match rest.until(":  ")? {
        "Fatal error" => Severity::Fatal,
        "Parse error" | "Core error" | "Compile error" | "Recoverable fatal error" => Severity::Error,
        "Warning" | "User Warning" | "Core warning" => Severity::Warn,
        "Notice" | "User Notice" | "Deprecated" | "User Deprecated" => Severity::Info,
        _ => return None,
    };
    Some(ParsedLine::new(severity, rest.rest()))
}

/// `<LEVEL> <time> <module> <pid> <thread> <message>`
fn django<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let severity = rest.padded_level()?;
    let text = rest.rest();
    let (time, after) = time::split_date_time(text)?;
    let written = text.get(..text.len() - after.len())?;
    let mut rest = Cursor::new(after);
    rest.skip(" ")?;
    let whole = rest;
    let line = ParsedLine { time: Some((time, written)), ..ParsedLine::new(severity, whole.rest()) };
    let mut words = || {
        Some((
            rest.name()?,
            rest.skip(" ")?,
            rest.digits()?,
            rest.skip(" ")?,
            rest.digits()?,
            rest.skip(" ")?,
        ))
    };
    let (module, (), pid, (), thread, ()) = words()?;
    Some(
        ParsedLine { message: rest.rest(), ..line }.with(LOGGER, module).with(PROCESS, pid).of_thread(thread),
    )
}

/// `<LEVEL>:<logger>:<message>`
fn python<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let severity = rest.level()?;
    rest.skip(":")?;
    let logger = rest.until(":").filter(|logger| is_name(logger))?;
    Some(ParsedLine::new(severity, rest.rest()).with(LOGGER, logger))
}

/// `<LEVEL> - <message>`, `<LEVEL> <logger> - <message>`, `<logger> - <LEVEL> - <message>`
fn level_and_dash<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let Some(severity) = rest.padded_level() else {
        let logger = rest.name()?;
        rest.skip(" - ")?;
        let severity = rest.level()?;
        rest.skip(" - ")?;
        return Some(ParsedLine::new(severity, rest.rest()).with(LOGGER, logger));
    };
    if rest.skip("- ").is_some() {
        return Some(ParsedLine::new(severity, rest.rest()));
    }
    let logger = rest.name().filter(|logger| is_path(logger))?;
    rest.skip(" - ")?;
    Some(ParsedLine::new(severity, rest.rest()).of_logger(logger))
}

/// `<LEVEL> | <message>`, `<name> | <LEVEL> | <message>`
fn level_and_bar<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let first = rest.until(" | ")?.trim_end();
    if let Some(severity) = upper_case_level(first) {
        return Some(ParsedLine::new(severity, rest.rest()));
    }
    let severity = upper_case_level(rest.until(" | ")?.trim())?;
    let is_constant = first.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    (is_constant && is_name(first)).then(|| ParsedLine::new(severity, rest.rest()).with(LOGGER, first))
}

/// `<level>: <message>`, in capitals or in small letters. `Error: no stock` is an exception.
fn level_and_colon<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let severity = match rest.level() {
        Some(severity) => severity,
        None => rest.small_level()?,
    };
    rest.skip(": ")?;
    Some(ParsedLine::new(severity, rest.rest().trim_start_matches([' ', '\t'])))
}

/// `<LEVEL> [<logger>] <message>`
fn level_and_brackets<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    let severity = rest.padded_level()?;
    let logger = rest.within("[", "] ")?;
    let is_logger = is_name(logger) && logger.starts_with(|first: char| first.is_ascii_alphabetic());
    is_logger.then(|| ParsedLine::new(severity, rest.rest()).with(LOGGER, logger))
}

/// `<LEVEL>\t<message>\t{…}`, as Bref writes it
fn level_in_column<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let (level, message) = start.rest.rest().split_once('\t')?;
    let severity = upper_case_level(level)?;
    message.contains("\t{").then(|| ParsedLine::new(severity, message))
}

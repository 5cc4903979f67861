//! The formats of lines that begin with a time.

use super::header::Header;
use super::starts::{ANYTHING, BRACKET, DIGIT, LEVEL as LEVEL_WORD, OTHER, SEPARATOR, TAB, WORD};
use super::{FUNCTION, Format, LEVEL, LINE, LOGGER, PROCESS, ParsedLine, Start, TimeStyle};
use super::{go, servers, tracing};
use super::{is_name, is_number, is_uuid, level_word, upper_case_level};
use crate::logs::severity::Severity;

/// The formats, the stricter ones first.
pub(super) const DATED: &[Format] = &[
    Format {
        name: "the runtimes of Node.js and .NET",
        starts: TAB,
        #[cfg(test)]
        examples: &[
            "2026-11-21T12:16:49.355Z\t8286a188-ba32-4475-8077-530cd35c09a9\tINFO\torder 17 shipped",
            "2026-11-21T12:16:49.355Z\tundefined\tERROR\tUncaught Exception\rat",
            "2026-11-21T12:16:49.355Z\t8286a188-ba32-4475-8077-530cd35c09a9\tcrit\tlost",
            "2026-11-21T12:16:49.355Z\t8286a188-ba32-4475-8077-530cd35c09a9\torder 17 shipped",
        ],
        parse: runtime,
    },
    Format {
        name: "Microsoft.Extensions.Logging",
        starts: LEVEL_WORD,
        #[cfg(test)]
        examples: &[
            "12:16:49 warn: Acme.Orders[0]\n      stock is low",
            "[12:16:49] fail: Acme.Orders[0] charge refused",
        ],
        parse: microsoft,
    },
    Format {
        name: "zap and tslog",
        starts: TAB,
        #[cfg(test)]
        examples: &[
            "2026-11-21T12:16:49.355Z\tINFO\torders\tapp/main.go:12\torder shipped\t{\"order\": 17}",
            "2026-11-21T12:16:49.355Z\tWARN\tstock is low",
        ],
        parse: go::zap,
    },
    Format {
        name: "Lambda",
        starts: WORD | DIGIT,
        #[cfg(test)]
        examples: &[
            "2026-11-21T12:16:49.355Z 8286a188-ba32-4475-8077-530cd35c09a9 Task timed out after 3.00 seconds",
        ],
        parse: timed_out,
    },
    Format {
        name: "nginx",
        starts: BRACKET,
        #[cfg(test)]
        examples: &["2026/11/21 12:16:49 [error] 8#8: *1 open() failed"],
        parse: servers::nginx,
    },
    Format {
        name: "Go's slog and log",
        starts: ANYTHING,
        #[cfg(test)]
        examples: &["2026/11/21 12:16:49 INFO order shipped n=1", "2026/11/21 12:16:49 order shipped"],
        parse: go::go,
    },
    Format {
        name: "Python's logging with dashes",
        starts: SEPARATOR,
        #[cfg(test)]
        examples: &[
            "2026-11-21 12:16:49,355 - orders - WARNING - stock is low",
            "2026-11-21 12:16:49,355 - INFO - no errors found",
        ],
        parse: dashed,
    },
    Format {
        name: "loguru",
        starts: SEPARATOR,
        #[cfg(test)]
        examples: &["2026-11-21 12:16:49.355 | WARNING  | __main__:handle:30 - stock is low"],
        parse: loguru,
    },
    Format {
        name: "columns with bars",
        starts: SEPARATOR,
        #[cfg(test)]
        examples: &[
            "2026-11-21 12:16:49.3550|INFO|Acme.Orders|no errors, none at all",
            "2026-11-21 12:16:49 UTC | DD_EXTENSION | ERROR | no API key",
            "2026-11-21 12:16:49,355 | INFO     | no errors found",
        ],
        parse: bars,
    },
    Format {
        name: "Semantic Logger",
        starts: WORD,
        #[cfg(test)]
        examples: &["2026-11-21 12:16:49.355123 W [8:main orders.rb:13] Orders -- stock is low"],
        parse: semantic_logger,
    },
    Format {
        name: "MySQL",
        starts: DIGIT,
        #[cfg(test)]
        examples: &[
            "2026-11-21T12:16:49.355123Z 0 [Warning] [MY-010068] [Server] CA certificate is self signed",
            "2026-11-21 12:16:49 0 [Note] InnoDB: ready",
        ],
        parse: servers::mysql,
    },
    Format {
        name: "PostgreSQL",
        starts: BRACKET,
        #[cfg(test)]
        examples: &["2026-11-21 12:16:49.355 UTC [8] ERROR:  relation \"orders\" does not exist"],
        parse: servers::postgres,
    },
    Format {
        name: "Monolog",
        starts: WORD,
        #[cfg(test)]
        examples: &["[2026-11-21T12:16:49.355123+00:00] app.ERROR: charge refused {\"order\":17} []"],
        parse: monolog,
    },
    Format {
        name: "Flask",
        starts: LEVEL_WORD,
        #[cfg(test)]
        examples: &["[2026-11-21 12:16:49,355] ERROR in app: charge refused"],
        parse: flask,
    },
    Format {
        name: "pino-pretty",
        starts: LEVEL_WORD,
        #[cfg(test)]
        examples: &[
            "[12:16:49.355] INFO (8): order shipped",
            "[2026-11-21 12:16:49.355 +0000] WARN (orders/8 on h): stock is low",
        ],
        parse: pino_pretty,
    },
    Format {
        name: "Celery",
        starts: SEPARATOR,
        #[cfg(test)]
        examples: &["[2026-11-21 12:16:49,355: WARNING/MainProcess] stock is low"],
        parse: celery,
    },
    Format {
        name: "env_logger, fern and Serilog",
        starts: LEVEL_WORD,
        #[cfg(test)]
        examples: &[
            "[2026-11-21T12:16:49Z WARN  orders] stock is low",
            "[2026-11-21T12:16:49.355Z INFO] order shipped",
            "[12:16:49 WRN] charge refused for 17",
        ],
        parse: within_brackets,
    },
    Format {
        name: "PHP",
        starts: WORD,
        #[cfg(test)]
        examples: &[
            "[21-Nov-2026 12:16:49 UTC] PHP Warning:  Undefined variable $order in /var/task/index.php on line 3",
        ],
        parse: php,
    },
    Format {
        name: "hclog",
        starts: BRACKET,
        #[cfg(test)]
        examples: &["2026-11-21T12:16:49.355Z [WARN]  orders: stock is low: n=3"],
        parse: go::hclog,
    },
    Format {
        name: "Telegraf",
        starts: WORD,
        #[cfg(test)]
        examples: &["2026-11-21T12:16:49Z E! [outputs.http] refused"],
        parse: servers::telegraf,
    },
    Format {
        name: "swift-log",
        starts: LEVEL_WORD,
        #[cfg(test)]
        examples: &[
            "2026-11-21T12:16:49+0000 warning orders: [Orders] stock is low",
            "2026-11-21T12:16:49+0000 info orders : order shipped",
        ],
        parse: swift,
    },
    Format {
        name: "tracing",
        starts: LEVEL_WORD,
        #[cfg(test)]
        examples: &[
            "2026-11-21T12:16:49.355123Z  INFO orders::stock: order shipped n=1",
            "2026-11-21T12:16:49.355123Z ERROR Lambda runtime invoke{requestId=\"8286a188-ba32-4475-8077-530cd35c09a9\"}: orders: charge refused",
        ],
        parse: with_spans,
    },
    Format {
        name: "columns with colons",
        starts: SEPARATOR | WORD,
        #[cfg(test)]
        examples: &[
            "2026-11-21 12:16:49,355:ERROR:orders:charge refused",
            "2026-11-21 12:16:49,355 orders:ERROR:charge refused",
            "2026-11-21 12:16:49,355 :: ERROR :: charge refused",
        ],
        parse: colons,
    },
    Format {
        name: "a time and JSON",
        starts: OTHER,
        #[cfg(test)]
        examples: &["2026-11-21T12:16:49.355Z {\"level\":\"error\",\"message\":\"charge refused\"}"],
        parse: json,
    },
    Format {
        name: "tinylog",
        starts: BRACKET,
        #[cfg(test)]
        examples: &["2026-11-21 12:16:49 [main] com.acme.Orders.handle()\nWARN: stock is low"],
        parse: tinylog,
    },
    Format {
        name: "zerolog and phuslu",
        starts: LEVEL_WORD,
        #[cfg(test)]
        examples: &[
            "2026-11-21T12:16:49Z ERR main.go:12 > charge refused order=17",
            "2026-11-21T12:16:49.695Z INF 1 app/main.go:470 > order shipped",
        ],
        parse: go::zerolog,
    },
    Format {
        name: "a level, and parts around it",
        starts: ANYTHING,
        #[cfg(test)]
        examples: &[
            "2026-11-21 12:16:49,355 WARNING [orders] [app.py:13] [trace_id=0af7651916cd43dd8448eb211c80319c span_id=b7ad6b7169203331 resource.service.name=orders trace_sampled=True] - stock is low",
            "2026-11-21T12:16:49.355Z  INFO 8 --- [orders] [           main] com.acme.Orders                          : order shipped",
            "2026-11-21 12:16:49,355 WARN  [com.acme.Orders] (main) stock is low",
            "2026-11-21 12:16:49,355 [main] WARN  com.acme.Orders - stock is low",
            "12:16:49.355 [main] INFO com.acme.Orders -- order shipped",
            "2026-11-21 12:16:49,355 [8] ERROR Acme.Orders [(null)] - charge refused",
            "2026-11-21 12:16:49 8286a188-ba32-4475-8077-530cd35c09a9 WARN  Orders:4 - stock is low",
            "[2026-11-21 12:16:49 +0000] [8] [INFO] Booting worker",
            "[2026-11-21 12:16:49.355] [orders] [info] order shipped",
            "[2026-11-21T12:16:49.355] [ERROR] orders - charge refused",
            "[2026-11-21 12:16:49,355] [ERRO] [01] Acme.Orders - charge refused",
            "[2026-11-21][12:16:49][orders][WARN] stock is low",
            "[2026-11-21 12:16:49.355][8][info][main] [source/server.cc:8] starting",
            "[2026/11/21 12:16:49] [ warn] [engine] stopped",
            "2026-11-21 12:16:49  INFO  Orders:4 - during init",
            "[2026-11-21 12:16:49,355] WARN  Orders - stock is low",
            "2026-11-21 12:16:49,355 orders ERROR charge refused",
            "2026-11-21 12:16:49,355 botocore.credentials [INFO] Found credentials in environment variables.",
            "2026-11-21 12:16:49,355 h orders[8] WARNING stock is low",
            "2026-11-21 12:16:49,355 [ERROR] orders: charge refused",
            "2026-11-21 12:16:49 [warning  ] stock is low                   sku=1",
            "2026-11-21 12:16:49.355 +00:00 [WRN] charge refused for 17",
            "12:16:49.355 [error] charge refused",
            "2026-11-21T12:16:49.355Z error: charge refused",
            "2026-11-21 12:16:49 [orders] warn: stock is low",
            "2026-11-21 12:16:49,355 ERROR failed: no stock",
            "2026-11-21T12:16:49Z INF order shipped order=17",
        ],
        parse: header,
    },
];

/// `\t<request id or undefined>\t<LEVEL>\t<message>`; .NET writes its levels in small letters.
fn runtime<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let (first, rest) = start.rest.rest().strip_prefix('\t')?.split_once('\t')?;
    let level = rest.split_once('\t').filter(|(level, _)| level.len() <= 12 && !level.contains([' ', '{']));
    let Some((level, message)) = level else {
        // .NET 6 wrote no level.
        let line =
            ParsedLine { request_id: Some(first), message: rest, is_envelope: true, ..ParsedLine::default() };
        return is_uuid(first).then_some(line);
    };
    let severity = upper_case_level(level).or_else(|| dotnet_level(level));
    // An id has no spaces and a level is a word; otherwise these are columns of some other output.
    let word = level.bytes().all(|byte| byte.is_ascii_alphanumeric()) && (2..=12).contains(&level.len());
    if first.contains([' ', '/']) || !word || upper_case_level(first).is_some() {
        return None;
    }
    let request_id = Some(first).filter(|id| !id.is_empty() && *id != "undefined");
    if severity.is_none() && request_id.is_none_or(|id| !is_uuid(id)) {
        return None;
    }
    let line = ParsedLine {
        severity,
        request_id,
        message,
        carriage_returns: true,
        is_envelope: true,
        ..ParsedLine::default()
    };
    Some(if severity.is_none() { line.with(LEVEL, level) } else { line })
}

/// .NET writes its levels short, or as the words of `LogLevel`.
fn dotnet_level(label: &str) -> Option<Severity> {
    let is_short = matches!(label, "trce" | "dbug" | "info" | "warn" | "fail" | "crit");
    if is_short { Severity::from_word(label) } else { level_word(label) }
}

/// `<request id> Task timed out after <seconds> seconds`
fn timed_out<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" ")?;
    let id = rest.word().filter(|id| is_uuid(id))?;
    rest.skip(" ")?;
    let line = super::bare::timed_out(rest.rest())?;
    Some(ParsedLine { request_id: Some(id), ..line })
}

/// ` - [<logger> - ]<LEVEL> - <message>`
fn dashed<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" - ")?;
    let first = rest.until(" - ")?;
    if let Some(severity) = level_word(first.trim()) {
        return Some(ParsedLine::new(severity, rest.rest()));
    }
    let second = rest.until(" - ")?;
    let severity = upper_case_level(second.trim())?;
    is_name(first.trim()).then(|| ParsedLine::new(severity, rest.rest()).of_logger(first.trim()))
}

/// ` | <LEVEL> | <module>:<function>:<line> - <message>`
fn loguru<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" | ")?;
    let severity = rest.padded_level()?;
    rest.skip("| ")?;
    let place = rest.until(" - ").filter(|place| is_name(place))?;
    let line = ParsedLine::new(severity, rest.rest());
    let mut parts = place.rsplitn(3, ':');
    Some(match (parts.next(), parts.next(), parts.next()) {
        (Some(number), Some(function), Some(module)) if is_number(number) => {
            line.with(LOGGER, module).with(FUNCTION, function).with(LINE, number)
        }
        _ => line.with(LOGGER, place),
    })
}

/// `|<LEVEL>|<logger>|<message>`, ` | <LEVEL> | [<logger> | ]<message>`, ` | <name> | <LEVEL> | <message>`
fn bars<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.spaces();
    rest.skip("|")?;
    let first = rest.until("|")?.trim();
    if let Some(severity) = level_word(first) {
        let mut ahead = rest;
        let logger = ahead.until("|").map(str::trim).filter(|logger| is_name(logger));
        let message = if logger.is_some() { ahead } else { rest };
        return Some(
            ParsedLine::new(severity, message.rest().trim_start_matches(' '))
                .with(LOGGER, logger.unwrap_or_default()),
        );
    }
    let severity = level_word(rest.until("|")?.trim())?;
    is_name(first).then(|| ParsedLine::new(severity, rest.rest().trim_start_matches(' ')).with(LOGGER, first))
}

/// ` <L> [<pid>:<thread>[ <file>:<line>]] [(<duration>) ]<name> -- <message>`
fn semantic_logger<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" ")?;
    let severity = super::severity_of_letter(rest.word()?)?;
    rest.skip(" ")?;
    let process = rest.within("[", "] ")?;
    let head = rest.until(" -- ")?;
    let (labels, name) = head.rsplit_once(' ').unwrap_or(("", head));
    let (process, place) = process.split_once(' ').unwrap_or((process, ""));
    let (pid, thread) = process.split_once(':').filter(|(pid, _)| is_number(pid))?;
    let line = ParsedLine::new(severity, rest.rest()).with(PROCESS, pid).of_thread(thread).with(LOGGER, name);
    let line = line.with(super::LABEL, labels);
    Some(if place.is_empty() { line } else { line.at_place(place) })
}

/// `] <channel>.<LEVEL>: <message> <context> <extra>`
fn monolog<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" ").filter(|()| start.style == TimeStyle::Bracketed)?;
    let (channel, level) = rest.until(": ")?.rsplit_once('.')?;
    let severity = upper_case_level(level)?;
    // An empty context, and no extra fields.
    let message = rest.rest().trim_end();
    let message = message.strip_suffix(" []").unwrap_or(message);
    let message = message.strip_suffix(" []").unwrap_or(message);
    let line = ParsedLine { has_context: true, ..ParsedLine::new(severity, message) };
    is_name(channel).then(|| line.with(LOGGER, channel))
}

/// `] <LEVEL> in <module>: <message>`
fn flask<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" ").filter(|()| start.style == TimeStyle::Bracketed)?;
    let severity = rest.level()?;
    rest.skip(" in ")?;
    let module = rest.until(": ").filter(|module| is_name(module))?;
    Some(ParsedLine::new(severity, rest.rest()).with(LOGGER, module))
}

/// `] <LEVEL> (<[name/]pid[ on host]>): <message>`
fn pino_pretty<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" ").filter(|()| start.style == TimeStyle::Bracketed)?;
    let severity = rest.level()?;
    let mut line = ParsedLine::new(severity, "");
    if rest.skip(" (").is_some() {
        let process = rest.until("): ")?;
        let (process, host) = process.split_once(" on ").unwrap_or((process, ""));
        line = line.with(super::HOST, host);
        let (name, pid) = process.rsplit_once('/').unwrap_or(("", process));
        line = if is_number(pid) {
            ParsedLine { indent: "    ", ..line }.with(PROCESS, pid).with(LOGGER, name)
        } else {
            line.with(LOGGER, process)
        };
    } else {
        rest.skip(": ")?;
        // bunyan's own tool writes `name/pid on host: `.
        let mut ahead = rest;
        if let Some((process, host)) = ahead.until(": ").and_then(|process| process.split_once(" on "))
            && let Some((name, pid)) = process.rsplit_once('/').filter(|(_, pid)| is_number(pid))
        {
            line = line.with(PROCESS, pid).with(LOGGER, name).with(super::HOST, host);
            rest = ahead;
        }
    }
    Some(ParsedLine { message: rest.rest(), ..line })
}

/// `: <LEVEL>/<process>] <message>`
fn celery<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(": ").filter(|()| start.style == TimeStyle::InBrackets)?;
    let severity = rest.level()?;
    rest.skip("/")?;
    let process = rest.until("] ")?;
    Some(ParsedLine::new(severity, rest.rest()).with(super::LABEL, process))
}

/// ` <LEVEL>[ <target>]] <message>`
fn within_brackets<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" ").filter(|()| start.style == TimeStyle::InBrackets)?;
    let mut inner = super::Cursor::new(rest.until("] ")?);
    let severity = level_word(inner.word()?)?;
    let target = inner.rest().trim();
    (target.is_empty() || is_name(target))
        .then(|| ParsedLine::new(severity, rest.rest()).with(LOGGER, target))
}

/// ` UTC] PHP <Level>:  <message>`
fn php<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let is_bracketed = matches!(start.style, TimeStyle::Bracketed | TimeStyle::InBrackets);
    let mut rest = start.rest;
    if start.style == TimeStyle::InBrackets {
        rest.until("]")?;
    }
    rest.skip(" ").filter(|()| is_bracketed)?;
    super::bare::php(&Start { rest, ..*start })
}

/// ` <level> <label>: [<metadata> ]\[<source>\] <message>`; the label may have a space before its colon
fn swift<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" ").filter(|()| start.style == TimeStyle::Iso)?;
    let severity = rest.small_level()?;
    rest.skip(" ")?;
    let label = rest.word()?;
    let label = match label.strip_suffix(':') {
        Some(label) => label,
        None => rest.skip(" :").map(|()| label)?,
    };
    rest.skip(" ")?;
    is_name(label).then(|| ParsedLine::new(severity, rest.rest()).with(LOGGER, label))
}

/// ` <LEVEL> [<spans>: ]<target>: <message and fields>`
fn with_spans<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" ").filter(|()| start.style == TimeStyle::Iso)?;
    rest.spaces();
    let severity = rest.padded_level()?;
    let line = tracing::spans_and_target(severity, rest.rest());
    (!line.attributes.is_empty() || line.request_id.is_some()).then_some(line)
}

/// The parts in any order
fn header<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    Header::new(start.rest, start.style, start.platform, ParsedLine::default()).parse()
}

/// ` [<thread>] <class>.<method>()`, and on the next line `<LEVEL>: <message>`
fn tinylog<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.skip(" ")?;
    let thread = rest.within("[", "] ")?;
    let place = rest.rest().split_once('\n').map(|(place, _)| place).filter(|place| place.ends_with(')'))?;
    let mut rest = super::Cursor::new(rest.rest().get(place.len() + 1..)?);
    let severity = rest.level()?;
    rest.skip(": ")?;
    let (class, method) = place.strip_suffix("()").unwrap_or(place).rsplit_once('.')?;
    Some(ParsedLine::new(severity, rest.rest()).of_thread(thread).with(LOGGER, class).with(FUNCTION, method))
}

/// The same as without a time
fn microsoft<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    rest.spaces();
    servers::microsoft(&Start { rest, ..*start })
}

/// `:<LEVEL>:<logger>:<message>`, ` <logger>:<LEVEL>:<message>`, ` :: <LEVEL> :: <message>`
fn colons<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let mut rest = start.rest;
    if rest.skip(" :: ").is_some() {
        let severity = rest.level()?;
        rest.skip(" :: ")?;
        return Some(ParsedLine::new(severity, rest.rest()));
    }
    if rest.skip(":").is_some() {
        let severity = rest.level()?;
        rest.skip(":")?;
        let logger = rest.until(":").filter(|logger| is_name(logger))?;
        return Some(ParsedLine::new(severity, rest.rest()).with(LOGGER, logger));
    }
    rest.skip(" ")?;
    let logger = rest.until(":").filter(|logger| is_name(logger))?;
    let severity = rest.level()?;
    rest.skip(":")?;
    Some(ParsedLine::new(severity, rest.rest()).with(LOGGER, logger))
}

/// ` {…}`
fn json<'a>(start: &Start<'a>) -> Option<ParsedLine<'a>> {
    let message = start.rest.rest().strip_prefix(' ').filter(|json| json.starts_with("{\""))?;
    Some(ParsedLine { message, ..ParsedLine::default() })
}

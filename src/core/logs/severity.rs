//! Severities, and the words and numbers that loggers use for them.

/// A severity, with the number of OpenTelemetry's logs data model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

/// The meaning of a numeric level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// pino and bunyan: 10 (trace) to 60 (fatal).
    Pino,
    /// Python's `logging`: 10 (debug) to 50 (critical).
    Python,
    /// Monolog: 100 (debug) to 600 (emergency).
    Monolog,
    /// Syslog and GELF: 0 (emergency) to 7 (debug).
    Syslog,
    /// consola: 0 (fatal, error) to 5 (trace).
    Consola,
    /// OpenTelemetry: 1 (trace) to 24 (fatal).
    OpenTelemetry,
}

impl Severity {
    /// Parses a logger's level, in any case. Go's slog appends a number to its levels: `ERROR+2`.
    pub fn from_word(word: &str) -> Option<Self> {
        const MAX_LEN: usize = 16;
        let word = word.trim();
        let mut lower = [0; MAX_LEN];
        let lower = lower.get_mut(..word.len())?;
        lower.copy_from_slice(word.as_bytes());
        lower.make_ascii_lowercase();
        let end = lower.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |last| last + 1);
        let word = match lower.split_at_checked(end) {
            Some(([word @ .., b'+' | b'-'], [_, ..])) => word,
            _ => lower,
        };
        Some(match word {
            b"trace" | b"trce" | b"trc" | b"trac" | b"verbose" | b"vrb" | b"finest" | b"finer" | b"silly" => {
                Self::Trace
            }
            b"debug" | b"dbug" | b"dbg" | b"debg" | b"debu" | b"fine" | b"config" | b"http" => Self::Debug,
            b"info" | b"inf" | b"information" | b"informational" | b"notice" | b"success" | b"log" => {
                Self::Info
            }
            b"warn" | b"warning" | b"wrn" => Self::Warn,
            b"error" | b"err" | b"erro" | b"eror" | b"fail" | b"severe" | b"exception" => Self::Error,
            b"fatal" | b"ftl" | b"fata" | b"critical" | b"crit" | b"panic" | b"pnc" | b"pani" | b"dpanic"
            | b"alert" | b"emerg" | b"emergency" => Self::Fatal,
            _ => return None,
        })
    }

    /// Parses a level as a line of text has it, where words that often begin a sentence are none.
    pub(super) fn from_text(word: &str) -> Option<Self> {
        let is_word = match word {
            "HTTP" | "LOG" | "EXCEPTION" => true,
            _ if word.bytes().all(|byte| byte.is_ascii_uppercase()) => false,
            _ => ["http", "log", "config", "fine", "exception", "fail"]
                .iter()
                .any(|other| word.eq_ignore_ascii_case(other)),
        };
        if is_word { None } else { Self::from_word(word) }
    }

    /// Converts a numeric level.
    pub(super) fn from_number(number: i64, scale: Scale) -> Option<Self> {
        use Severity::{Debug, Error, Fatal, Info, Trace, Warn};
        let known = match scale {
            Scale::Pino => match number {
                10..20 => Trace,
                20..30 => Debug,
                30..40 => Info,
                40..50 => Warn,
                50..60 => Error,
                60..70 => Fatal,
                _ => return None,
            },
            Scale::Python => match number {
                1..10 => Trace,
                10..20 => Debug,
                20..30 => Info,
                30..40 => Warn,
                40..50 => Error,
                50..60 => Fatal,
                _ => return None,
            },
            Scale::Monolog => match number {
                100 => Debug,
                200 | 250 => Info,
                300 => Warn,
                400 => Error,
                500 | 550 | 600 => Fatal,
                _ => return None,
            },
            Scale::Syslog => match number {
                0..=2 => Fatal,
                3 => Error,
                4 => Warn,
                5 | 6 => Info,
                7 => Debug,
                _ => return None,
            },
            Scale::Consola => match number {
                0 => Error,
                1 => Warn,
                2 | 3 => Info,
                4 => Debug,
                5 => Trace,
                _ => return None,
            },
            Scale::OpenTelemetry => match number {
                1..=4 => Trace,
                5..=8 => Debug,
                9..=12 => Info,
                13..=16 => Warn,
                17..=20 => Error,
                21..=24 => Fatal,
                _ => return None,
            },
        };
        Some(known)
    }

    /// The severity number in OTLP.
    pub fn number(self) -> i32 {
        match self {
            Self::Trace => 1,
            Self::Debug => 5,
            Self::Info => 9,
            Self::Warn => 13,
            Self::Error => 17,
            Self::Fatal => 21,
        }
    }

    /// The lower-case name. HyperDX colours a line by its first letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severity_is_parsed_from_its_word() {
        for severity in [
            Severity::Trace,
            Severity::Debug,
            Severity::Info,
            Severity::Warn,
            Severity::Error,
            Severity::Fatal,
        ] {
            assert_eq!(Severity::from_word(severity.as_str()), Some(severity));
        }
        assert_eq!(Severity::from_word("WARNING"), Some(Severity::Warn));
        assert_eq!(Severity::from_word("ERROR+2"), Some(Severity::Error));
        assert_eq!(Severity::from_word("DEBUG-4"), Some(Severity::Debug));
        for word in ["0 errors", "", "7", "+2", "error+", "error2", "a word longer than any of them", "wärn"]
        {
            assert_eq!(Severity::from_word(word), None, "{word}");
        }
    }

    #[test]
    fn numbers_are_read_by_their_scale() {
        let names = |scale, numbers: &[i64]| {
            let name = |number: &i64| Severity::from_number(*number, scale).map_or("–", Severity::as_str);
            numbers.iter().map(name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            names(Scale::Pino, &[2, 10, 20, 30, 35, 40, 50, 60, 70]),
            "– trace debug info info warn error fatal –"
        );
        assert_eq!(
            names(Scale::Python, &[0, 5, 10, 20, 30, 40, 50, 60]),
            "– trace debug info warn error fatal –"
        );
        assert_eq!(
            names(Scale::Monolog, &[100, 200, 250, 300, 400, 500, 550, 600, 30]),
            "debug info info warn error fatal fatal fatal –"
        );
        assert_eq!(
            names(Scale::Syslog, &[-1, 0, 2, 3, 4, 5, 6, 7, 8]),
            "– fatal fatal error warn info info debug –"
        );
        assert_eq!(names(Scale::Consola, &[-1, 0, 1, 2, 3, 4, 5, 6]), "– error warn info info debug trace –");
        assert_eq!(
            names(Scale::OpenTelemetry, &[0, 1, 5, 9, 13, 17, 21, 25]),
            "– trace debug info warn error fatal –"
        );
    }
}

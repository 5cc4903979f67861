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
            b"trace" | b"trce" | b"verbose" | b"finest" | b"finer" | b"silly" => Self::Trace,
            b"debug" | b"dbug" | b"fine" => Self::Debug,
            b"info" | b"information" | b"informational" | b"notice" | b"success" => Self::Info,
            b"warn" | b"warning" => Self::Warn,
            b"error" | b"err" | b"fail" | b"severe" | b"exception" => Self::Error,
            b"fatal" | b"critical" | b"crit" | b"panic" | b"dpanic" | b"alert" | b"emerg" | b"emergency" => {
                Self::Fatal
            }
            _ => return None,
        })
    }

    /// Converts a logger's numeric level: syslog's, from 0 (emergency) to 7 (debug), or those of pino and
    /// bunyan, which count up in tens.
    pub(super) fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            10..20 => Self::Trace,
            7 | 20..30 => Self::Debug,
            5 | 6 | 30..40 => Self::Info,
            4 | 40..50 => Self::Warn,
            3 | 50..60 => Self::Error,
            0..=2 | 60..70 => Self::Fatal,
            _ => return None,
        })
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
    fn numbers_are_of_syslog_or_pino() {
        let found = [0, 3, 4, 6, 7, 8, 10, 20, 30, 35, 40, 50, 60, 70, -1].map(Severity::from_number);
        let names = found.map(|severity| severity.map_or("–", Severity::as_str));
        assert_eq!(
            names,
            [
                "fatal", "error", "warn", "info", "debug", "–", "trace", "debug", "info", "info", "warn",
                "error", "fatal", "–", "–"
            ]
        );
    }
}

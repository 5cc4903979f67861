//! Severities, and the words that loggers have for them.

/// A severity as OpenTelemetry's logs data model numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// 1
    Trace,
    /// 5
    Debug,
    /// 9
    Info,
    /// 13
    Warn,
    /// 17
    Error,
    /// 21
    Fatal,
}

impl Severity {
    /// The severity that a logger's word means, in any case.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word.trim().to_ascii_lowercase().as_str() {
            "trace" | "verbose" | "finest" | "finer" | "silly" => Self::Trace,
            "debug" | "fine" => Self::Debug,
            "info" | "information" | "informational" | "notice" => Self::Info,
            "warn" | "warning" => Self::Warn,
            "error" | "err" | "severe" => Self::Error,
            "fatal" | "critical" | "crit" | "panic" | "dpanic" | "alert" | "emerg" | "emergency" => {
                Self::Fatal
            }
            _ => return None,
        })
    }

    /// OTLP's number.
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

    /// The lower-case word by whose first letters HyperDX colours a line.
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
    fn a_severity_is_found_by_its_own_word() {
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
        assert_eq!(Severity::from_word("0 errors"), None);
    }
}

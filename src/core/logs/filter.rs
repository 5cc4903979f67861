//! Which log records are left out, and what of those that go is masked.
//!
//! Promises linear time: expressions run over each line, and a line can come from a stranger. That is `regex-lite`,
//! which is in the binary already for the AWS SDK; `regex` is faster on long texts and many times as large, which every
//! cold start would pay for.

use std::fmt;

use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use regex_lite::Regex;

use super::{REQUEST_ID, SOURCE, Severity};

/// What stands where something was masked.
const MASKED: &str = "[masked]";
/// The longest expression taken: what it costs grows with its length, too.
const LONGEST: usize = 4096;

/// A regular expression that people set.
#[derive(Clone, Debug)]
pub struct Expression(Regex);

impl Expression {
    /// Compiles it. An error says what is wrong and where, without the expression, which may hold what it is to hide.
    pub fn new(text: &str) -> Result<Self, String> {
        const REMEDY: &str = "write one in the syntax of the Rust crate regex-lite, several joined by |";
        if text.len() > LONGEST {
            return Err(format!("the expression is longer than {LONGEST} bytes; write a shorter one"));
        }
        let expression =
            Regex::new(text).map_err(|cause| format!("not a regular expression: {cause}; {REMEDY}"))?;
        if ["", "\0"].iter().all(|text| expression.is_match(text)) {
            return Err(
                "the expression matches every text; write one that does not match the empty text".to_owned()
            );
        }
        Ok(Self(expression))
    }
}

/// What is masked.
#[derive(Clone, Debug, Default)]
pub enum Mask {
    /// Nothing.
    #[default]
    Nothing,
    /// What matches.
    Matches(Expression),
    /// Everything, because what was to be masked cannot be known.
    Everything,
}

/// What is done to log records before they are sent.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Function records below this are left out.
    pub min_severity: Option<Severity>,
    /// Records whose body matches are left out.
    pub exclude: Option<Expression>,
    /// What becomes `[masked]` in bodies and attributes.
    pub mask: Mask,
}

/// How much a filter has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filtered {
    /// Records below the least severity.
    pub below: u64,
    /// Records whose body matched.
    pub excluded: u64,
    /// Places that were masked.
    pub masked: u64,
}

impl Filtered {
    /// All of it.
    pub fn total(self) -> u64 {
        self.below + self.excluded + self.masked
    }
}

impl fmt::Display for Filtered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { below, excluded, masked } = self;
        write!(f, "{below} left out below ROTEL_LAMBDA_LOG_MIN_SEVERITY, ")?;
        write!(
            f,
            "{excluded} left out by ROTEL_LAMBDA_LOG_EXCLUDE, {masked} places masked by ROTEL_LAMBDA_LOG_MASK"
        )
    }
}

impl Filter {
    /// Masks a record of the function's, or says that it is left out.
    #[must_use]
    pub fn keeps_of_function(&self, record: &mut LogRecord, filtered: &mut Filtered) -> bool {
        if self.is_below(record.severity_number) {
            filtered.below += 1;
            return false;
        }
        self.keeps(record, filtered)
    }

    /// Masks a record of anyone else's, or says that it is left out. Its severity does not count.
    #[must_use]
    pub fn keeps(&self, record: &mut LogRecord, filtered: &mut Filtered) -> bool {
        if self.excludes(record) {
            filtered.excluded += 1;
            return false;
        }
        let mut masked = 0;
        if let Some(body) = &mut record.body {
            masked += self.mask.apply(body);
        }
        // Ours tell where a record belongs.
        for attribute in record.attributes.iter_mut().filter(|own| own.key != REQUEST_ID && own.key != SOURCE)
        {
            if let Some(value) = &mut attribute.value {
                masked += self.mask.apply(value);
            }
        }
        filtered.masked += masked;
        true
    }

    /// A record that does not say how severe it is stays.
    fn is_below(&self, severity_number: i32) -> bool {
        self.min_severity.is_some_and(|least| severity_number != 0 && severity_number < least.number())
    }

    fn excludes(&self, record: &LogRecord) -> bool {
        let body = record.body.as_ref().and_then(|body| body.value.as_ref());
        match (&self.exclude, body) {
            (Some(Expression(expression)), Some(Value::StringValue(body))) => expression.is_match(body),
            _ => false,
        }
    }
}

impl Mask {
    /// Masks a value and all within it, and says in how many places.
    fn apply(&self, value: &mut AnyValue) -> u64 {
        match (self, &mut value.value) {
            (Self::Nothing, _) | (_, None) => 0,
            (Self::Everything, Some(value)) => {
                *value = Value::StringValue(MASKED.to_owned());
                1
            }
            (Self::Matches(expression), Some(Value::StringValue(text))) => expression.mask(text),
            (Self::Matches(expression), Some(value @ (Value::IntValue(_) | Value::DoubleValue(_)))) => {
                expression.mask_number(value)
            }
            (_, Some(Value::ArrayValue(array))) => {
                array.values.iter_mut().map(|value| self.apply(value)).sum()
            }
            (_, Some(Value::KvlistValue(fields))) => fields
                .values
                .iter_mut()
                .filter_map(|field| field.value.as_mut())
                .map(|value| self.apply(value))
                .sum(),
            _ => 0,
        }
    }
}

impl Expression {
    /// A number of which a part is to be masked can be none any more.
    fn mask_number(&self, value: &mut Value) -> u64 {
        let mut text = match value {
            Value::IntValue(number) => number.to_string(),
            Value::DoubleValue(number) => number.to_string(),
            _ => return 0,
        };
        let places = self.mask(&mut text);
        if places > 0 {
            *value = Value::StringValue(text);
        }
        places
    }

    fn mask(&self, text: &mut String) -> u64 {
        let mut masked = String::new();
        let mut places = 0;
        let mut end = 0;
        for found in self.0.find_iter(text).filter(|found| !found.is_empty()) {
            masked.push_str(text.get(end..found.start()).unwrap_or_default());
            masked.push_str(MASKED);
            end = found.end();
            places += 1;
        }
        if places > 0 {
            masked.push_str(text.get(end..).unwrap_or_default());
            *text = masked;
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValue, KeyValueList};

    use super::*;
    use crate::attribute::{string, text};

    fn record(severity: Option<Severity>, body: &str) -> LogRecord {
        let severity_number = severity.map_or(0, Severity::number);
        LogRecord { severity_number, body: Some(text(body)), ..LogRecord::default() }
    }

    fn expression(text: &str) -> Expression {
        Expression::new(text).expect("an expression")
    }

    #[test]
    fn function_records_below_the_least_severity_are_left_out() {
        let filter = Filter { min_severity: Some(Severity::Warn), ..Filter::default() };
        let mut filtered = Filtered::default();
        let mut keeps = |severity| filter.keeps_of_function(&mut record(severity, "x"), &mut filtered);
        assert!(!keeps(Some(Severity::Info)));
        assert!(keeps(Some(Severity::Warn)));
        assert!(keeps(Some(Severity::Fatal)));
        assert!(keeps(None));
        assert!(filter.keeps(&mut record(Some(Severity::Debug), "x"), &mut filtered), "an extension's");
        assert_eq!(filtered, Filtered { below: 1, ..Filtered::default() });
    }

    #[test]
    fn records_whose_body_matches_are_left_out() {
        let filter = Filter { exclude: Some(expression("^GET /health|ping")), ..Filter::default() };
        let mut filtered = Filtered::default();
        let kept = ["GET /health", "a ping", "GET /orders", "see GET /health"]
            .map(|body| filter.keeps(&mut record(None, body), &mut filtered));
        assert_eq!(kept, [false, false, true, true]);
        assert_eq!(filtered.excluded, 2);
    }

    #[test]
    fn what_matches_is_masked_in_the_body_and_in_every_attribute() {
        let filter = Filter { mask: Mask::Matches(expression("[0-9]{4}-[0-9]{4}")), ..Filter::default() };
        let list =
            ArrayValue { values: vec![text("1111-2222"), AnyValue { value: Some(Value::IntValue(1)) }] };
        let nested = KeyValueList { values: vec![string("inner", "card 1111-2222")] };
        let mut log = LogRecord {
            attributes: vec![
                string("card", "1111-2222"),
                string(REQUEST_ID, "1111-2222"),
                KeyValue {
                    key: "list".to_owned(),
                    value: Some(AnyValue { value: Some(Value::ArrayValue(list)) }),
                    ..KeyValue::default()
                },
                KeyValue {
                    key: "nested".to_owned(),
                    value: Some(AnyValue { value: Some(Value::KvlistValue(nested)) }),
                    ..KeyValue::default()
                },
            ],
            ..record(None, "paid with 1111-2222 and 3333-4444, ü")
        };
        let mut filtered = Filtered::default();
        assert!(filter.keeps(&mut log, &mut filtered));
        assert_eq!(log.body, Some(text("paid with [masked] and [masked], ü")));
        assert_eq!(log.attributes[1], string(REQUEST_ID, "1111-2222"));
        log.attributes.remove(1);
        assert!(!format!("{log:?}").contains("1111"), "{log:?}");
        assert_eq!(filtered.masked, 5);
    }

    #[test]
    fn numbers_are_masked_as_they_are_written() {
        let filter = Filter { mask: Mask::Matches(expression("[0-9]{16}")), ..Filter::default() };
        let of = |value| KeyValue { value: Some(AnyValue { value: Some(value) }), ..string("n", "") };
        let numbers = [
            Value::IntValue(4_111_111_111_111_111),
            Value::DoubleValue(4_111_111_111_111_111.5),
            Value::IntValue(4_111),
            Value::DoubleValue(0.5),
        ];
        let body = AnyValue { value: Some(Value::IntValue(4_111_111_111_111_111)) };
        let mut log =
            LogRecord { body: Some(body), attributes: numbers.map(of).to_vec(), ..LogRecord::default() };
        let mut filtered = Filtered::default();
        assert!(filter.keeps(&mut log, &mut filtered));
        assert_eq!(log.body, Some(text(MASKED)));
        let shown = [
            Value::StringValue(MASKED.to_owned()),
            Value::StringValue(format!("{MASKED}.5")),
            Value::IntValue(4_111),
            Value::DoubleValue(0.5),
        ];
        assert_eq!(log.attributes, shown.map(of));
        assert_eq!(filtered.masked, 3);
    }

    #[test]
    fn where_what_to_mask_is_not_known_all_is_masked() {
        let filter = Filter { mask: Mask::Everything, ..Filter::default() };
        let mut log = LogRecord {
            attributes: vec![string(SOURCE, "function"), string("card", "1111-2222")],
            ..record(Some(Severity::Warn), "1111-2222")
        };
        assert!(filter.keeps(&mut log, &mut Filtered::default()));
        assert_eq!(log.body, Some(text(MASKED)));
        assert_eq!(log.attributes, [string(SOURCE, "function"), string("card", MASKED)]);
    }

    #[test]
    fn a_faulty_expression_is_told_without_being_shown() {
        for wrong in ["hunter2(", "**hunter2", "[hunter2", "(?<!hunter2)x", "(hunter2)?", r"\p{Greek}hunter2"]
        {
            let problem = Expression::new(wrong).expect_err(wrong);
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        assert!(Expression::new(&"a".repeat(LONGEST + 1)).is_err());
    }

    #[test]
    fn an_evil_expression_and_an_evil_line_cost_linear_time() {
        // A backtracking engine would not come back from this.
        let filter = Filter { exclude: Some(expression("^(a+)+$")), ..Filter::default() };
        let body = format!("{}!", "a".repeat(20_000));
        assert!(filter.keeps(&mut record(None, &body), &mut Filtered::default()));
    }
}

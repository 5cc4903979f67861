//! Which log records are left out, and what of those that go is masked.
//!
//! Promises bounded work and bounded growth: expressions run over each line, and a line can come from a stranger. The
//! engine is `regex-lite`, which is in the binary already for the AWS SDK; `regex` is faster on long texts and many times
//! as large, which every cold start would pay for. A search takes time in proportion to the text and to the size of the
//! expression, and a search behind each match may read the text to its end each time: so each record has an allowance,
//! and what is beyond it is masked whole.

use std::fmt;

use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use regex_lite::{Regex, RegexBuilder};

use super::{REQUEST_ID, SOURCE, Severity};

/// What stands where something was masked.
const MASKED: &str = "[masked]";
/// The longest expression taken: what it costs grows with its length, too.
const LONGEST: usize = 4096;

/// The largest expression taken, in bytes of its compiled states.
const LARGEST: usize = 256 << 10;
/// The bytes of the smallest one, and of each of its states.
const SMALLEST: usize = 512;
const STATE: usize = 32;
/// Steps for a record: a state of the expression looks at a byte. Half a second at most, and enough for a text of a
/// megabyte with an expression of sixty states, which takes a tenth of that: few of them are ever at work at once.
const STEPS: u64 = 64 << 20;
/// Bytes by which masking may lengthen a record more than twofold.
const GROWTH: usize = 16 << 10;

/// A regular expression that people set.
#[derive(Clone, Debug)]
pub struct Expression {
    regex: Regex,
    /// An upper bound of its states, which is that of the steps for a byte.
    states: u64,
    /// A match has a longest length, so that a search does not read far beyond one.
    is_finite: bool,
}

impl Expression {
    /// Compiles it. An error says what is wrong and where, without the expression, which may hold what it is to hide.
    pub fn new(text: &str) -> Result<Self, String> {
        const REMEDY: &str = "write one in the syntax of the Rust crate regex-lite, several joined by |";
        if text.len() > LONGEST {
            return Err(format!("the expression is longer than {LONGEST} bytes; write a shorter one"));
        }
        let Some((regex, size)) = compiled(text) else {
            return Err(match Regex::new(text) {
                Ok(_) => {
                    "the expression is too large once compiled; use smaller repetition counts".to_owned()
                }
                Err(cause) => format!("not a regular expression: {cause}; {REMEDY}"),
            });
        };
        if ["", "\0"].iter().all(|text| regex.is_match(text)) {
            return Err(
                "the expression matches every text; write one that does not match the empty text".to_owned()
            );
        }
        // One that only looks endless, such as an escaped star, is charged more than it costs.
        let is_finite = !text.contains(['*', '+']) && !text.contains(",}");
        Ok(Self { regex, states: (size / STATE) as u64, is_finite })
    }
}

/// The expression and its size, in bytes, rounded up. The engine keeps that to itself, but for the limit.
fn compiled(text: &str) -> Option<(Regex, usize)> {
    let sizes =
        std::iter::successors(Some(SMALLEST), |size| Some(size * 2)).take_while(|size| *size <= LARGEST);
    let of = |size| RegexBuilder::new(text).size_limit(size).build().ok().map(|regex| (regex, size));
    sizes.into_iter().find_map(of)
}

/// The work that a filter may still do for a record.
#[derive(Debug)]
struct Work {
    steps: u64,
    growth: usize,
    /// One of these was not enough: the rest of the record is masked whole.
    is_spent: bool,
}

impl Work {
    fn new() -> Self {
        Self { steps: STEPS, growth: GROWTH, is_spent: false }
    }

    fn steps(expression: &Expression, bytes: usize) -> u64 {
        (bytes as u64 + 1).saturating_mul(expression.states)
    }

    /// Returns true if a search through `bytes` bytes is within it.
    fn allows(&self, expression: &Expression, bytes: usize) -> bool {
        Self::steps(expression, bytes) <= self.steps
    }

    fn spend(&mut self, expression: &Expression, bytes: usize) {
        self.steps = self.steps.saturating_sub(Self::steps(expression, bytes));
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
    /// Records of which the rest was masked whole, because searching it would have taken too long.
    pub masked_whole: u64,
    /// Records that were kept because searching them would have taken too long.
    pub unsearched: u64,
}

impl Filtered {
    /// All of it.
    pub fn total(self) -> u64 {
        self.below + self.excluded + self.masked + self.masked_whole + self.unsearched
    }
}

impl fmt::Display for Filtered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { below, excluded, masked, masked_whole, unsearched } = self;
        write!(f, "{below} left out below ROTEL_LAMBDA_LOG_MIN_SEVERITY, ")?;
        write!(
            f,
            "{excluded} left out by ROTEL_LAMBDA_LOG_EXCLUDE, {masked} places masked by ROTEL_LAMBDA_LOG_MASK"
        )?;
        let records = |count: u64| if count == 1 { "record" } else { "records" };
        if *masked_whole > 0 {
            let records = records(*masked_whole);
            write!(
                f,
                ", {masked_whole} {records} masked whole (too long for ROTEL_LAMBDA_LOG_MASK; simplify it)"
            )?;
        }
        if *unsearched > 0 {
            let records = records(*unsearched);
            write!(f, ", {unsearched} {records} kept (too long for ROTEL_LAMBDA_LOG_EXCLUDE; simplify it)")?;
        }
        Ok(())
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
        let mut work = Work::new();
        match self.excludes(record, &mut work) {
            Some(true) => {
                filtered.excluded += 1;
                return false;
            }
            Some(false) => {}
            None => filtered.unsearched += 1,
        }
        let mut masked = 0;
        if let Some(body) = &mut record.body {
            masked += self.mask.apply(body, &mut work);
        }
        // Ours tell where a record belongs.
        for attribute in record.attributes.iter_mut().filter(|own| own.key != REQUEST_ID && own.key != SOURCE)
        {
            if let Some(value) = &mut attribute.value {
                masked += self.mask.apply(value, &mut work);
            }
        }
        filtered.masked += masked;
        filtered.masked_whole += u64::from(work.is_spent);
        true
    }

    /// A record that does not say how severe it is stays.
    fn is_below(&self, severity_number: i32) -> bool {
        self.min_severity.is_some_and(|least| severity_number != 0 && severity_number < least.number())
    }

    /// `None` where that would take too long to know.
    fn excludes(&self, record: &LogRecord, work: &mut Work) -> Option<bool> {
        let body = record.body.as_ref().and_then(|body| body.value.as_ref());
        match (&self.exclude, body) {
            (Some(expression), Some(Value::StringValue(body))) => {
                work.allows(expression, body.len()).then(|| {
                    work.spend(expression, body.len());
                    expression.regex.is_match(body)
                })
            }
            _ => Some(false),
        }
    }

    /// The filter searches records, which takes far longer than to read them.
    pub fn searches(&self) -> bool {
        self.exclude.is_some() || matches!(self.mask, Mask::Matches(_))
    }
}

impl Mask {
    /// Masks a value and all within it, and says in how many places.
    fn apply(&self, value: &mut AnyValue, work: &mut Work) -> u64 {
        if work.is_spent {
            return Self::Everything.apply(value, &mut Work::new());
        }
        match (self, &mut value.value) {
            (Self::Nothing, _) | (_, None) => 0,
            (Self::Everything, Some(value)) => {
                *value = Value::StringValue(MASKED.to_owned());
                1
            }
            (Self::Matches(expression), Some(Value::StringValue(text))) => expression.mask(text, work),
            (Self::Matches(expression), Some(value @ (Value::IntValue(_) | Value::DoubleValue(_)))) => {
                expression.mask_number(value, work)
            }
            (_, Some(Value::ArrayValue(array))) => {
                array.values.iter_mut().map(|value| self.apply(value, work)).sum()
            }
            (_, Some(Value::KvlistValue(fields))) => fields
                .values
                .iter_mut()
                .filter_map(|field| field.value.as_mut())
                .map(|value| self.apply(value, work))
                .sum(),
            _ => 0,
        }
    }
}

impl Expression {
    /// A number of which a part is to be masked can be none any more.
    fn mask_number(&self, value: &mut Value, work: &mut Work) -> u64 {
        let mut text = match value {
            Value::IntValue(number) => number.to_string(),
            Value::DoubleValue(number) => number.to_string(),
            _ => return 0,
        };
        let places = self.mask(&mut text, work);
        if places > 0 {
            *value = Value::StringValue(text);
        }
        places
    }

    fn mask(&self, text: &mut String, work: &mut Work) -> u64 {
        let Some((masked, places)) = self.masked(text, work) else {
            work.is_spent = true;
            MASKED.clone_into(text);
            return 1;
        };
        if places > 0 {
            *text = masked;
        }
        places
    }

    /// The text with what matches masked, and in how many places; `None` beyond what the record may cost.
    fn masked(&self, text: &str, work: &mut Work) -> Option<(String, u64)> {
        let longest = text.len() + text.len().min(work.growth) + work.growth;
        let (mut masked, mut places) = (String::new(), 0);
        let (mut kept, mut at) = (0, 0);
        loop {
            let ahead = text.len().checked_sub(at)?;
            if !work.allows(self, ahead) {
                return None;
            }
            let Some(found) = self.regex.find_at(text, at) else {
                work.spend(self, ahead);
                break;
            };
            let beyond = usize::try_from(self.states).unwrap_or(usize::MAX);
            let read =
                if self.is_finite { (found.end() - at).saturating_add(beyond).min(ahead) } else { ahead };
            work.spend(self, read);
            at = found.end();
            if found.is_empty() {
                let Some(next) = text.get(at..).and_then(|rest| rest.chars().next()) else { break };
                at += next.len_utf8();
                continue;
            }
            masked.push_str(text.get(kept..found.start()).unwrap_or_default());
            masked.push_str(MASKED);
            kept = found.end();
            places += 1;
            if masked.len() > longest {
                return None;
            }
        }
        masked.push_str(text.get(kept..).unwrap_or_default());
        if places > 0 {
            work.growth = work.growth.saturating_sub(masked.len().saturating_sub(2 * text.len()));
        }
        Some((masked, places))
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValue, KeyValueList};

    use super::*;
    use crate::otlp::attribute::{string, text};

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
        assert!(Expression::new(&"a".repeat(LONGEST)).is_ok());
        let problem = Expression::new("[a-z]{90}{90}").expect_err("too large");
        assert_eq!(problem, "the expression is too large once compiled; use smaller repetition counts");
    }

    /// The record as the filter leaves it, and what the filter did.
    fn masked(mask: &str, body: &str) -> (String, Filtered) {
        let filter = Filter { mask: Mask::Matches(expression(mask)), ..Filter::default() };
        let mut log = LogRecord { attributes: vec![string("card", "1")], ..record(None, body) };
        let mut filtered = Filtered::default();
        assert!(filter.keeps(&mut log, &mut filtered));
        let body = log.body.and_then(|body| body.value);
        let Some(Value::StringValue(body)) = body else { panic!("no text: {body:?}") };
        if filtered.masked_whole > 0 {
            assert_eq!(log.attributes, [string("card", MASKED)]);
        }
        (body, filtered)
    }

    #[test]
    fn searches_beyond_the_budget_mask_whole() {
        let cases = [
            ("x.*y|x", "x".repeat(16 << 10)),
            ("[a-z]{1000}[0-9]", "a".repeat(250_000)),
            ("(?:[a-z]?){200}[0-9]", "a".repeat(250_000)),
            // It would become eight times as long.
            ("x", "x".repeat(100_000)),
            ("x", "x ".repeat(100_000)),
        ];
        for (mask, body) in cases {
            let (body, filtered) = masked(mask, &body);
            assert_eq!((body.as_str(), filtered.masked_whole), (MASKED, 1), "{mask}");
        }
    }

    #[test]
    fn ordinary_long_records_are_searched_through() {
        let card = "[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}";
        let line = format!("{} 1111-2222-3333-4444,", "an order ".repeat(40));
        let (body, filtered) = masked(card, &line.repeat(600));
        assert_eq!((body.matches(MASKED).count(), filtered.masked_whole), (600, 0));
        let (body, filtered) = masked(r"[\w.]+@[\w.]+", &"to: a.b@c.de, it is done. ".repeat(100));
        assert_eq!((body.matches(MASKED).count(), filtered.masked_whole), (100, 0));
        let (body, filtered) = masked("a|\\b", "a ba");
        assert_eq!((body.as_str(), filtered.masked), ("[masked] b[masked]", 2));
    }

    #[test]
    fn record_too_long_to_exclude_is_kept() {
        let filter = Filter { exclude: Some(expression("[a-z]{1000}[0-9]")), ..Filter::default() };
        let mut filtered = Filtered::default();
        assert!(filter.keeps(&mut record(None, &"a".repeat(250_000)), &mut filtered));
        assert_eq!(filtered, Filtered { unsearched: 1, ..Filtered::default() });
    }

    #[test]
    fn summary_counts_records_masked_whole() {
        let filtered = Filtered { masked: 3, masked_whole: 2, unsearched: 1, ..Filtered::default() };
        insta::assert_snapshot!(filtered, @"0 left out below ROTEL_LAMBDA_LOG_MIN_SEVERITY, 0 left out by ROTEL_LAMBDA_LOG_EXCLUDE, 3 places masked by ROTEL_LAMBDA_LOG_MASK, 2 records masked whole (too long for ROTEL_LAMBDA_LOG_MASK; simplify it), 1 record kept (too long for ROTEL_LAMBDA_LOG_EXCLUDE; simplify it)");
    }

    #[test]
    fn an_evil_expression_and_an_evil_line_cost_linear_time() {
        // A backtracking engine would not come back from this.
        let filter = Filter { exclude: Some(expression("^(a+)+$")), ..Filter::default() };
        let body = format!("{}!", "a".repeat(20_000));
        assert!(filter.keeps(&mut record(None, &body), &mut Filtered::default()));
    }
}

//! Parses statements and conditions.

use regex_lite::{Regex, RegexBuilder};

use super::lexer::{Token, tokens};
use super::subject::{OttlContext, OttlPath, Owner, Segment, enum_number, path};
use super::{Comparator, Converter, Editor, OttlCondition, OttlExpression, Statement};
use crate::echo;
use crate::processors::value::OttlValue;

/// A parsed statement or condition, with its context.
pub(in super::super) struct Parsed<T> {
    pub(in super::super) context: OttlContext,
    pub(in super::super) content: T,
}

/// The maximum nesting of expressions.
const DEPTH_LIMIT: usize = 32;
/// The maximum size of a compiled regular expression, in bytes.
const REGEX_LIMIT: usize = 256 * 1024;

/// Parses a statement. Without a context, its paths name it.
pub(in super::super) fn statement(
    text: &str,
    context: Option<OttlContext>,
) -> Result<Parsed<Statement>, String> {
    let mut parser = Parser::new(text, context)?;
    let editor = parser.editor()?;
    let condition = if parser.takes_name("where") { Some(parser.condition(0)?) } else { None };
    parser.end()?;
    Ok(Parsed { context: parser.context, content: Statement { editor, condition } })
}

/// Parses a condition. Without a context, its paths name it.
pub(in super::super) fn condition(
    text: &str,
    context: Option<OttlContext>,
) -> Result<Parsed<OttlCondition>, String> {
    let mut parser = Parser::new(text, context)?;
    let condition = parser.condition(0)?;
    parser.end()?;
    Ok(Parsed { context: parser.context, content: condition })
}

/// Compiles a regular expression.
pub(crate) fn pattern(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text).size_limit(REGEX_LIMIT).build().map_err(|error| {
        format!(
            "not a supported regular expression: {}",
            echo::untrusted(&error.to_string(), echo::UNTRUSTED_LIMIT)
        )
    })
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    context: OttlContext,
}

impl Parser {
    fn new(text: &str, context: Option<OttlContext>) -> Result<Self, String> {
        let tokens = tokens(text)?;
        let context = match context {
            Some(context) => context,
            None => named_context(&tokens).ok_or_else(|| {
                "no path names its context; write span.attributes, log.body or the like".to_owned()
            })?,
        };
        Ok(Self { tokens, at: 0, context })
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn fail<T>(&self, message: impl std::fmt::Display) -> Result<T, String> {
        let column = self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(column, _)| *column);
        Err(format!("column {column}: {message}"))
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Some(Token::Symbol(next)) if *next == symbol)
    }

    fn takes(&mut self, symbol: &str) -> bool {
        let is_next = self.is_symbol(symbol);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, symbol: &str) -> Result<(), String> {
        if self.takes(symbol) { Ok(()) } else { self.fail(format_args!("expected {symbol}")) }
    }

    fn takes_name(&mut self, name: &str) -> bool {
        let is_next = matches!(self.peek(), Some(Token::Name(next)) if next == name);
        self.at += usize::from(is_next);
        is_next
    }

    fn name(&mut self) -> Result<String, String> {
        match self.peek() {
            Some(Token::Name(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => self.fail("expected a name"),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        match self.peek() {
            Some(Token::Text(text)) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            _ => self.fail("expected a text in double quotes"),
        }
    }

    fn pattern(&mut self) -> Result<Regex, String> {
        let text = self.text()?;
        pattern(&text).or_else(|error| self.fail(error))
    }

    fn end(&self) -> Result<(), String> {
        match self.peek() {
            None => Ok(()),
            Some(Token::Symbol(symbol)) => self.fail(format_args!("unexpected {symbol}")),
            Some(_) => self.fail("unexpected word"),
        }
    }

    fn editor(&mut self) -> Result<Editor, String> {
        let name = self.name()?;
        self.expect("(")?;
        let editor = match name.as_str() {
            "set" => {
                let path = self.writable_argument()?;
                Editor::Set(path, self.value(0)?)
            }
            "delete_key" => {
                let owner = self.attributes_argument()?;
                Editor::DeleteKey(owner, self.text()?)
            }
            "delete_matching_keys" => {
                let owner = self.attributes_argument()?;
                Editor::DeleteMatchingKeys(owner, self.pattern()?)
            }
            "keep_keys" => {
                let owner = self.attributes_argument()?;
                Editor::KeepKeys(owner, self.texts()?)
            }
            "keep_matching_keys" => {
                let owner = self.attributes_argument()?;
                Editor::KeepMatchingKeys(owner, self.pattern()?)
            }
            "merge_maps" => {
                let owner = self.attributes_argument()?;
                let source = self.value(0)?;
                self.expect(",")?;
                let (insert, update) = match self.text()?.as_str() {
                    "insert" => (true, false),
                    "update" => (false, true),
                    "upsert" => (true, true),
                    _ => return self.fail("expected insert, update or upsert"),
                };
                Editor::MergeMaps { owner, source, insert, update }
            }
            "replace_pattern" => {
                let path = self.writable_argument()?;
                let pattern = self.pattern()?;
                self.expect(",")?;
                Editor::ReplacePattern { path, pattern, replacement: self.text()? }
            }
            "replace_all_patterns" => {
                let owner = self.attributes_argument()?;
                let in_keys = match self.text()?.as_str() {
                    "key" => true,
                    "value" => false,
                    _ => return self.fail("expected key or value"),
                };
                self.expect(",")?;
                let pattern = self.pattern()?;
                self.expect(",")?;
                Editor::ReplaceAllPatterns { owner, in_keys, pattern, replacement: self.text()? }
            }
            "truncate_all" => {
                let owner = self.attributes_argument()?;
                match self.peek() {
                    Some(Token::Int(limit)) => {
                        let limit = usize::try_from(*limit).unwrap_or(usize::MAX);
                        self.at += 1;
                        Editor::TruncateAll(owner, limit)
                    }
                    _ => return self.fail("expected a number"),
                }
            }
            name => return self.unknown_function(name),
        };
        self.expect(")")?;
        Ok(editor)
    }

    fn unknown_function<T>(&self, name: &str) -> Result<T, String> {
        let name = if echo::is_name(name) { name } else { "this function" };
        self.fail(format_args!("{name} is not supported"))
    }

    fn condition(&mut self, depth: usize) -> Result<OttlCondition, String> {
        let mut conditions = vec![self.conjunction(depth)?];
        while self.takes_name("or") {
            conditions.push(self.conjunction(depth)?);
        }
        Ok(if conditions.len() == 1 { conditions.swap_remove(0) } else { OttlCondition::Or(conditions) })
    }

    fn conjunction(&mut self, depth: usize) -> Result<OttlCondition, String> {
        let mut conditions = vec![self.negation(depth)?];
        while self.takes_name("and") {
            conditions.push(self.negation(depth)?);
        }
        Ok(if conditions.len() == 1 { conditions.swap_remove(0) } else { OttlCondition::And(conditions) })
    }

    fn negation(&mut self, depth: usize) -> Result<OttlCondition, String> {
        if depth > DEPTH_LIMIT {
            return self.fail("nested too deeply");
        }
        if self.takes_name("not") {
            return Ok(OttlCondition::Not(Box::new(self.negation(depth + 1)?)));
        }
        if self.is_symbol("(") {
            let start = self.at;
            self.at += 1;
            // It may also be the begin of an arithmetic expression.
            if let Ok(condition) = self.condition(depth + 1)
                && self.takes(")")
                && !matches!(self.peek(), Some(Token::Symbol(symbol)) if *symbol != ")")
            {
                return Ok(condition);
            }
            self.at = start;
        }
        self.comparison(depth)
    }

    fn comparison(&mut self, depth: usize) -> Result<OttlCondition, String> {
        let left = self.value(depth)?;
        let comparison = match self.peek() {
            Some(Token::Symbol("==")) => Comparator::Equal,
            Some(Token::Symbol("!=")) => Comparator::NotEqual,
            Some(Token::Symbol("<")) => Comparator::Less,
            Some(Token::Symbol("<=")) => Comparator::LessOrEqual,
            Some(Token::Symbol(">")) => Comparator::Greater,
            Some(Token::Symbol(">=")) => Comparator::GreaterOrEqual,
            _ => return Ok(OttlCondition::Holds(left)),
        };
        self.at += 1;
        Ok(OttlCondition::Compare(left, comparison, self.value(depth)?))
    }

    fn value(&mut self, depth: usize) -> Result<OttlExpression, String> {
        let mut left = self.product(depth)?;
        loop {
            let operator = if self.takes("+") {
                '+'
            } else if self.takes("-") {
                '-'
            } else {
                return Ok(left);
            };
            left = OttlExpression::Arithmetic(Box::new(left), operator, Box::new(self.product(depth)?));
        }
    }

    fn product(&mut self, depth: usize) -> Result<OttlExpression, String> {
        let mut left = self.single(depth)?;
        loop {
            let operator = if self.takes("*") {
                '*'
            } else if self.takes("/") {
                '/'
            } else {
                return Ok(left);
            };
            left = OttlExpression::Arithmetic(Box::new(left), operator, Box::new(self.single(depth)?));
        }
    }

    fn single(&mut self, depth: usize) -> Result<OttlExpression, String> {
        if depth > DEPTH_LIMIT {
            return self.fail("nested too deeply");
        }
        let literal = match self.peek() {
            Some(Token::Text(text)) => OttlValue::Text(text.clone()),
            Some(Token::Int(number)) => OttlValue::Int(*number),
            Some(Token::Double(number)) => OttlValue::Double(*number),
            Some(Token::Symbol("-")) => {
                self.at += 1;
                match self.peek() {
                    Some(Token::Int(number)) => OttlValue::Int(-number),
                    Some(Token::Double(number)) => OttlValue::Double(-number),
                    _ => return self.fail("expected a number"),
                }
            }
            Some(Token::Symbol("(")) => {
                self.at += 1;
                let value = self.value(depth + 1)?;
                self.expect(")")?;
                return Ok(value);
            }
            Some(Token::Name(name)) => match name.as_str() {
                "true" => OttlValue::Bool(true),
                "false" => OttlValue::Bool(false),
                "nil" => OttlValue::Nil,
                name => match enum_number(name) {
                    Some(number) => OttlValue::Int(number),
                    None if matches!(self.tokens.get(self.at + 1), Some((_, Token::Symbol("(")))) => {
                        return self.call(depth);
                    }
                    None => return self.path().map(OttlExpression::Path),
                },
            },
            _ => return self.fail("expected a value"),
        };
        self.at += 1;
        Ok(OttlExpression::Literal(literal))
    }

    fn call(&mut self, depth: usize) -> Result<OttlExpression, String> {
        let start = self.at;
        let name = self.name()?;
        self.expect("(")?;
        let call = match name.as_str() {
            "IsMatch" => {
                let target = self.value(depth + 1)?;
                self.expect(",")?;
                OttlExpression::IsMatch(Box::new(target), self.pattern()?)
            }
            "Concat" => {
                self.expect("[")?;
                let mut parts = Vec::new();
                while !self.takes("]") {
                    parts.push(self.value(depth + 1)?);
                    self.takes(",");
                }
                self.expect(",")?;
                OttlExpression::Concat(parts, self.text()?)
            }
            "ConvertCase" => {
                let value = self.value(depth + 1)?;
                self.expect(",")?;
                let function = match self.text()?.as_str() {
                    "lower" => Converter::ToLowerCase,
                    "upper" => Converter::ToUpperCase,
                    _ => return self.fail("only lower and upper are supported"),
                };
                OttlExpression::Call(function, vec![value])
            }
            name => {
                let Some((function, arguments)) = function(name) else {
                    self.at = start;
                    return self.unknown_function(name);
                };
                let mut values = vec![self.value(depth + 1)?];
                for _ in 1..arguments {
                    self.expect(",")?;
                    values.push(self.value(depth + 1)?);
                }
                OttlExpression::Call(function, values)
            }
        };
        self.expect(")")?;
        if self.is_symbol("[") {
            return self.fail("keys of results are not supported");
        }
        Ok(call)
    }

    fn texts(&mut self) -> Result<Vec<String>, String> {
        self.expect("[")?;
        let mut texts = Vec::new();
        while !self.takes("]") {
            texts.push(self.text()?);
            if !self.takes(",") && !self.is_symbol("]") {
                return self.fail("expected , or ]");
            }
        }
        Ok(texts)
    }

    fn path(&mut self) -> Result<OttlPath, String> {
        let start = self.at;
        let mut segments = vec![Segment::Name(self.name()?)];
        loop {
            if self.takes(".") {
                segments.push(Segment::Name(self.name()?));
            } else if self.takes("[") {
                segments.push(Segment::Key(self.text()?));
                self.expect("]")?;
            } else {
                break;
            }
        }
        let Some(path) = path(self.context, &segments) else {
            self.at = start;
            return self.fail("this path is not supported here");
        };
        Ok(path)
    }

    /// A path that can be set, and the comma after it.
    fn writable_argument(&mut self) -> Result<OttlPath, String> {
        let start = self.at;
        let path = self.path()?;
        let is_read_only = match path {
            OttlPath::TraceId
            | OttlPath::SpanId
            | OttlPath::ParentSpanId
            | OttlPath::StartTime
            | OttlPath::EndTime
            | OttlPath::MetricType
            | OttlPath::MetricNameOfPoint
            | OttlPath::PointInt
            | OttlPath::PointDouble => true,
            OttlPath::MetricDescription | OttlPath::MetricUnit => self.context == OttlContext::DataPoint,
            _ => false,
        };
        if is_read_only {
            self.at = start;
            return self.fail("changing this field is not supported");
        }
        self.expect(",")?;
        Ok(path)
    }

    /// All attributes of an owner, and the comma after them.
    fn attributes_argument(&mut self) -> Result<Owner, String> {
        let start = self.at;
        if let OttlPath::Attributes(owner) = self.path()? {
            self.expect(",")?;
            return Ok(owner);
        }
        self.at = start;
        self.fail("only attributes are supported here")
    }
}

/// The function of this name, and the number of its arguments.
fn function(name: &str) -> Option<(Converter, usize)> {
    Some(match name {
        "Double" => (Converter::Double, 1),
        "HasPrefix" => (Converter::HasPrefix, 2),
        "HasSuffix" => (Converter::HasSuffix, 2),
        "Int" => (Converter::Int, 1),
        "IsBool" => (Converter::IsBool, 1),
        "IsDouble" => (Converter::IsDouble, 1),
        "IsInt" => (Converter::IsInt, 1),
        "IsList" => (Converter::IsList, 1),
        "IsMap" => (Converter::IsMap, 1),
        "IsString" => (Converter::IsString, 1),
        "Len" => (Converter::Len, 1),
        "ParseJSON" => (Converter::ParseJson, 1),
        "SHA256" => (Converter::Sha256, 1),
        "String" => (Converter::String, 1),
        "Substring" => (Converter::Substring, 3),
        "ToLowerCase" => (Converter::ToLowerCase, 1),
        "ToUpperCase" => (Converter::ToUpperCase, 1),
        "Trim" => (Converter::Trim, 1),
        _ => return None,
    })
}

/// The innermost context that a path begins with.
fn named_context(tokens: &[(usize, Token)]) -> Option<OttlContext> {
    let starts = tokens.windows(2).enumerate().filter_map(|(at, pair)| match pair {
        [(_, Token::Name(name)), (_, Token::Symbol("." | "["))] => {
            let is_start = at
                .checked_sub(1)
                .and_then(|before| tokens.get(before))
                .is_none_or(|(_, before)| *before != Token::Symbol("."));
            OttlContext::named(name).filter(|_| is_start)
        }
        _ => None,
    });
    starts.max()
}

//! Parses statements and conditions.

use regex_lite::{Regex, RegexBuilder};

use super::lexer::{Token, tokens};
use super::subject::{Context, Field, Owner, Segment, enum_number, field};
use super::{Comparison, Condition, Editor, Expression, Function, Statement};
use crate::echo;
use crate::processors::value::Value;

/// A parsed statement or condition, with its context.
pub(in super::super) struct Parsed<T> {
    pub(in super::super) context: Context,
    pub(in super::super) content: T,
}

/// The maximum nesting of expressions.
const DEPTH_LIMIT: usize = 32;
/// The maximum size of a compiled regular expression, in bytes.
const REGEX_LIMIT: usize = 256 * 1024;

/// Parses a statement. Without a context, its paths name it.
pub(in super::super) fn statement(text: &str, context: Option<Context>) -> Result<Parsed<Statement>, String> {
    let mut parser = Parser::new(text, context)?;
    let editor = parser.editor()?;
    let condition = if parser.takes_name("where") { Some(parser.condition(0)?) } else { None };
    parser.end()?;
    Ok(Parsed { context: parser.context, content: Statement { editor, condition } })
}

/// Parses a condition. Without a context, its paths name it.
pub(in super::super) fn condition(text: &str, context: Option<Context>) -> Result<Parsed<Condition>, String> {
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
    context: Context,
}

impl Parser {
    fn new(text: &str, context: Option<Context>) -> Result<Self, String> {
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
                let field = self.writable_field()?;
                self.expect(",")?;
                Editor::Set(field, self.value(0)?)
            }
            "delete_key" => {
                let owner = self.attributes()?;
                self.expect(",")?;
                Editor::DeleteKey(owner, self.text()?)
            }
            "delete_matching_keys" => {
                let owner = self.attributes()?;
                self.expect(",")?;
                Editor::DeleteMatchingKeys(owner, self.pattern()?)
            }
            "keep_keys" => {
                let owner = self.attributes()?;
                self.expect(",")?;
                Editor::KeepKeys(owner, self.texts()?)
            }
            "keep_matching_keys" => {
                let owner = self.attributes()?;
                self.expect(",")?;
                Editor::KeepMatchingKeys(owner, self.pattern()?)
            }
            "merge_maps" => {
                let owner = self.attributes()?;
                self.expect(",")?;
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
                let field = self.writable_field()?;
                self.expect(",")?;
                let pattern = self.pattern()?;
                self.expect(",")?;
                Editor::ReplacePattern { field, pattern, replacement: self.text()? }
            }
            "replace_all_patterns" => {
                let owner = self.attributes()?;
                self.expect(",")?;
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
                let owner = self.attributes()?;
                self.expect(",")?;
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

    fn condition(&mut self, depth: usize) -> Result<Condition, String> {
        let mut conditions = vec![self.conjunction(depth)?];
        while self.takes_name("or") {
            conditions.push(self.conjunction(depth)?);
        }
        Ok(if conditions.len() == 1 { conditions.swap_remove(0) } else { Condition::Or(conditions) })
    }

    fn conjunction(&mut self, depth: usize) -> Result<Condition, String> {
        let mut conditions = vec![self.negation(depth)?];
        while self.takes_name("and") {
            conditions.push(self.negation(depth)?);
        }
        Ok(if conditions.len() == 1 { conditions.swap_remove(0) } else { Condition::And(conditions) })
    }

    fn negation(&mut self, depth: usize) -> Result<Condition, String> {
        if depth > DEPTH_LIMIT {
            return self.fail("nested too deeply");
        }
        if self.takes_name("not") {
            return Ok(Condition::Not(Box::new(self.negation(depth + 1)?)));
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

    fn comparison(&mut self, depth: usize) -> Result<Condition, String> {
        let left = self.value(depth)?;
        let comparison = match self.peek() {
            Some(Token::Symbol("==")) => Comparison::Equal,
            Some(Token::Symbol("!=")) => Comparison::NotEqual,
            Some(Token::Symbol("<")) => Comparison::Less,
            Some(Token::Symbol("<=")) => Comparison::LessOrEqual,
            Some(Token::Symbol(">")) => Comparison::Greater,
            Some(Token::Symbol(">=")) => Comparison::GreaterOrEqual,
            _ => return Ok(Condition::Holds(left)),
        };
        self.at += 1;
        Ok(Condition::Compare(left, comparison, self.value(depth)?))
    }

    fn value(&mut self, depth: usize) -> Result<Expression, String> {
        let mut left = self.product(depth)?;
        loop {
            let operator = if self.takes("+") {
                '+'
            } else if self.takes("-") {
                '-'
            } else {
                return Ok(left);
            };
            left = Expression::Arithmetic(Box::new(left), operator, Box::new(self.product(depth)?));
        }
    }

    fn product(&mut self, depth: usize) -> Result<Expression, String> {
        let mut left = self.single(depth)?;
        loop {
            let operator = if self.takes("*") {
                '*'
            } else if self.takes("/") {
                '/'
            } else {
                return Ok(left);
            };
            left = Expression::Arithmetic(Box::new(left), operator, Box::new(self.single(depth)?));
        }
    }

    fn single(&mut self, depth: usize) -> Result<Expression, String> {
        if depth > DEPTH_LIMIT {
            return self.fail("nested too deeply");
        }
        let literal = match self.peek() {
            Some(Token::Text(text)) => Value::Text(text.clone()),
            Some(Token::Int(number)) => Value::Int(*number),
            Some(Token::Double(number)) => Value::Double(*number),
            Some(Token::Symbol("-")) => {
                self.at += 1;
                match self.peek() {
                    Some(Token::Int(number)) => Value::Int(-number),
                    Some(Token::Double(number)) => Value::Double(-number),
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
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "nil" => Value::Nil,
                name => match enum_number(name) {
                    Some(number) => Value::Int(number),
                    None if matches!(self.tokens.get(self.at + 1), Some((_, Token::Symbol("(")))) => {
                        return self.call(depth);
                    }
                    None => return self.field().map(Expression::Field),
                },
            },
            _ => return self.fail("expected a value"),
        };
        self.at += 1;
        Ok(Expression::Literal(literal))
    }

    fn call(&mut self, depth: usize) -> Result<Expression, String> {
        let start = self.at;
        let name = self.name()?;
        self.expect("(")?;
        let call = match name.as_str() {
            "IsMatch" => {
                let target = self.value(depth + 1)?;
                self.expect(",")?;
                Expression::IsMatch(Box::new(target), self.pattern()?)
            }
            "Concat" => {
                self.expect("[")?;
                let mut parts = Vec::new();
                while !self.takes("]") {
                    parts.push(self.value(depth + 1)?);
                    self.takes(",");
                }
                self.expect(",")?;
                Expression::Concat(parts, self.text()?)
            }
            "ConvertCase" => {
                let value = self.value(depth + 1)?;
                self.expect(",")?;
                let function = match self.text()?.as_str() {
                    "lower" => Function::ToLowerCase,
                    "upper" => Function::ToUpperCase,
                    _ => return self.fail("only lower and upper are supported"),
                };
                Expression::Call(function, vec![value])
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
                Expression::Call(function, values)
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

    fn field(&mut self) -> Result<Field, String> {
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
        let Some(field) = field(self.context, &segments) else {
            self.at = start;
            return self.fail("this path is not supported here");
        };
        Ok(field)
    }

    /// A field that can be set.
    fn writable_field(&mut self) -> Result<Field, String> {
        let start = self.at;
        let field = self.field()?;
        let is_read_only = match field {
            Field::TraceId
            | Field::SpanId
            | Field::ParentSpanId
            | Field::StartTime
            | Field::EndTime
            | Field::MetricType
            | Field::MetricNameOfPoint
            | Field::PointInt
            | Field::PointDouble => true,
            Field::MetricDescription | Field::MetricUnit => self.context == Context::DataPoint,
            _ => false,
        };
        if is_read_only {
            self.at = start;
            return self.fail("changing this field is not supported");
        }
        Ok(field)
    }

    /// All attributes of an owner.
    fn attributes(&mut self) -> Result<Owner, String> {
        let start = self.at;
        if let Field::Attributes(owner) = self.field()? {
            return Ok(owner);
        }
        self.at = start;
        self.fail("only attributes are supported here")
    }
}

/// The function of this name, and the number of its arguments.
fn function(name: &str) -> Option<(Function, usize)> {
    Some(match name {
        "Double" => (Function::Double, 1),
        "HasPrefix" => (Function::HasPrefix, 2),
        "HasSuffix" => (Function::HasSuffix, 2),
        "Int" => (Function::Int, 1),
        "IsBool" => (Function::IsBool, 1),
        "IsDouble" => (Function::IsDouble, 1),
        "IsInt" => (Function::IsInt, 1),
        "IsList" => (Function::IsList, 1),
        "IsMap" => (Function::IsMap, 1),
        "IsString" => (Function::IsString, 1),
        "Len" => (Function::Len, 1),
        "ParseJSON" => (Function::ParseJson, 1),
        "SHA256" => (Function::Sha256, 1),
        "String" => (Function::String, 1),
        "Substring" => (Function::Substring, 3),
        "ToLowerCase" => (Function::ToLowerCase, 1),
        "ToUpperCase" => (Function::ToUpperCase, 1),
        "Trim" => (Function::Trim, 1),
        _ => return None,
    })
}

/// The innermost context that a path begins with.
fn named_context(tokens: &[(usize, Token)]) -> Option<Context> {
    let starts = tokens.windows(2).enumerate().filter_map(|(at, pair)| match pair {
        [(_, Token::Name(name)), (_, Token::Symbol("." | "["))] => {
            let is_start = at
                .checked_sub(1)
                .and_then(|before| tokens.get(before))
                .is_none_or(|(_, before)| *before != Token::Symbol("."));
            Context::named(name).filter(|_| is_start)
        }
        _ => None,
    });
    starts.max()
}

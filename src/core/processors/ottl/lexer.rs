//! The tokens of the OpenTelemetry Transformation Language.

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    Text(String),
    Int(i64),
    Double(f64),
    /// An operator or a bracket.
    Symbol(&'static str),
}

const SYMBOLS: [&str; 19] =
    ["==", "!=", "<=", ">=", "<", ">", "(", ")", "[", "]", ",", ".", "=", "+", "-", "*", "/", "{", "}"];

/// The maximum number of tokens in a statement.
const TOKEN_LIMIT: usize = 1000;

/// Splits a statement into tokens, each with its column.
pub(super) fn tokens(statement: &str) -> Result<Vec<(usize, Token)>, String> {
    let mut tokens = Vec::new();
    let mut rest = statement.trim_start();
    while let Some(first) = rest.chars().next() {
        let column = statement.len() - rest.len() + 1;
        if tokens.len() == TOKEN_LIMIT {
            return Err(format!("has more than {TOKEN_LIMIT} words and signs; shorten it"));
        }
        let (token, after) = if first == '"' {
            text(rest).ok_or_else(|| format!("column {column}: the quote is not closed; close it"))?
        } else if first.is_ascii_digit() {
            number(rest).ok_or_else(|| format!("column {column}: not a number"))?
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (name, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            (Token::Name(name.to_owned()), after)
        } else {
            let symbol = SYMBOLS.iter().find_map(|symbol| Some((*symbol, rest.strip_prefix(symbol)?)));
            let (symbol, after) =
                symbol.ok_or_else(|| format!("column {column}: unexpected character; remove it"))?;
            (Token::Symbol(symbol), after)
        };
        tokens.push((column, token));
        rest = after.trim_start();
    }
    Ok(tokens)
}

/// The quoted text at the start, and the rest.
fn text(from: &str) -> Option<(Token, &str)> {
    let mut text = String::new();
    let mut characters = from.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((Token::Text(text), from.get(at + 1..)?)),
            '\\' => match characters.next()?.1 {
                'n' => text.push('\n'),
                'r' => text.push('\r'),
                't' => text.push('\t'),
                escaped @ ('"' | '\\' | '/') => text.push(escaped),
                // The collector refuses other escapes; of a regular expression they are the meaning.
                other => text.extend(['\\', other]),
            },
            other => text.push(other),
        }
    }
    None
}

/// The number at the start, and the rest.
fn number(from: &str) -> Option<(Token, &str)> {
    let end = from.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(from.len());
    let (digits, after) = from.split_at_checked(end)?;
    let token = match digits.parse() {
        Ok(int) => Token::Int(int),
        Err(_) => Token::Double(digits.parse().ok()?),
    };
    Some((token, after))
}

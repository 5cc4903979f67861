//! Expands `${env:NAME}`, `${NAME}`, `${env:NAME:-default}` and `$$` like the collector. Secret references stay unchanged
//! until secrets are fetched.

use super::node::shown;
use crate::config::Variables;

/// A value after expansion.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// Variables that are not set and have no default.
    pub(super) unset: Vec<String>,
    /// The errors: cause and remedy.
    pub(super) errors: Vec<String>,
}

/// Expands the variables in a value. If the result has more than `limit` bytes, it is replaced by an empty text.
pub(super) fn expand(value: &str, variables: &Variables, limit: usize) -> Expanded {
    let mut expanded = Expanded::default();
    let mut rest = value;
    while let Some((before, from)) = rest.find('$').and_then(|at| rest.split_at_checked(at)) {
        expanded.text.push_str(before);
        let (piece, after) = if let Some(after) = from.strip_prefix("$$") {
            ("$".to_owned(), after)
        } else if let Some((inner, after)) = from.strip_prefix("${").and_then(|inner| inner.split_once('}')) {
            (expanded.fill(inner, variables), after)
        } else {
            if from.starts_with("${") {
                expanded
                    .errors
                    .push("a ${ has no closing }; write ${env:NAME}, or $$ for a literal $".to_owned());
            }
            ("$".to_owned(), from.get(1..).unwrap_or_default())
        };
        expanded.text.push_str(&piece);
        rest = after;
        if expanded.text.len() > limit {
            break;
        }
    }
    expanded.text.push_str(rest);
    if expanded.text.len() > limit {
        expanded.text.clear();
        expanded.errors.push(
            "the values in this file are too large after variables are expanded; shorten them".to_owned(),
        );
    }
    expanded
}

impl Expanded {
    fn fill(&mut self, inner: &str, variables: &Variables) -> String {
        if inner.starts_with("arn:") {
            return format!("${{{inner}}}");
        }
        let (scheme, rest) = match inner.split_once(':') {
            // "${NAME:-default}" has no scheme.
            Some((_, rest)) if rest.starts_with('-') => ("env", inner),
            Some((scheme, rest)) => (scheme, rest),
            None => ("env", inner),
        };
        if scheme != "env" {
            let remedy = match scheme {
                "secretsmanager" => "use the secret's complete ARN, ${arn:aws:secretsmanager:…}",
                _ => "set the value itself, or use ${env:NAME}",
            };
            let scheme = shown(scheme);
            self.errors.push(format!("${{{scheme}:…}} is not supported; {remedy}"));
            return String::new();
        }
        let (name, default) =
            rest.split_once(":-").map_or((rest, None), |(name, default)| (name, Some(default)));
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(is_allowed)
        {
            self.errors.push(
                "a ${…} has an invalid variable name; write ${env:NAME}, or $$ for a literal $".to_owned(),
            );
            return String::new();
        }
        match (variables.get(name), default) {
            (Some(value), _) => value.clone(),
            (None, Some(default)) => default.to_owned(),
            (None, None) => {
                self.unset.push(name.to_owned());
                String::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::variables;

    #[test]
    fn oversized_value_becomes_empty() {
        let variables = variables(&[("LONG", "0123456789")]);
        let expanded = expand(&"${LONG}".repeat(1_000_000), &variables, 99);
        assert_eq!((expanded.text.as_str(), expanded.errors.len()), ("", 1));
        assert_eq!(expand(&"${LONG}".repeat(9), &variables, 99).text.len(), 90);
        assert_eq!(expand("0123", &variables, 3).errors.len(), 1);
    }

    #[test]
    fn variables_expand_once_and_secrets_stay() {
        let variables = variables(&[("KEY", "a$b ${HOST}"), ("HOST", "host"), ("EMPTY", "")]);
        let text = |value| expand(value, &variables, usize::MAX).text;
        assert_eq!(text("http://${env:HOST}:4318/${KEY}"), "http://host:4318/a$b ${HOST}");
        assert_eq!(text("${env:NONE:-http://x:1} ${NONE:-y} ${EMPTY:-z}|"), "http://x:1 y |");
        assert_eq!(text("$$ $${env:HOST} $x 5$"), "$ ${env:HOST} $x 5$");
        let secret = "${arn:aws:ssm:us-east-1:123456789012:parameter/key}";
        assert_eq!(text(secret), secret);
        assert_eq!(expand("${env:NONE}x", &variables, usize::MAX).unset, ["NONE"]);
        for wrong in ["${env:HOST", "${file:/x}", "${}", "${env:}", "${secretsmanager:x}", "${a b}", "${1}"] {
            assert_eq!(expand(wrong, &variables, usize::MAX).errors.len(), 1, "{wrong}");
        }
    }
}

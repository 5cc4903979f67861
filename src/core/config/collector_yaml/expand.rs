//! `${env:NAME}`, `${NAME}`, `${env:NAME:-default}` and `$$` within a value, as the collector has them. References to
//! secrets stay for those who fetch them.

use super::node::shown;
use crate::config::Variables;

/// What a value comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// Variables that are not set and have no default.
    pub(super) unset: Vec<String>,
    /// What cannot be filled in, cause and remedy.
    pub(super) problems: Vec<String>,
}

/// Fills a value's variables in. What comes to more than `limit` bytes comes to nothing.
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
                    .problems
                    .push("a ${ has no } at its end; write ${env:NAME}, or $$ for a $".to_owned());
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
        expanded.problems.push(
            "all values together, variables filled in, are longer than those of any configuration; shorten them"
                .to_owned(),
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
            // In "${NAME:-default}" there is no scheme either.
            Some((_, rest)) if rest.starts_with('-') => ("env", inner),
            Some((scheme, rest)) => (scheme, rest),
            None => ("env", inner),
        };
        if scheme != "env" {
            let remedy = match scheme {
                "secretsmanager" => "write ${arn:aws:secretsmanager:…}, the secret's whole ARN",
                _ => "write the value itself, or ${env:NAME}",
            };
            let scheme = shown(scheme);
            self.problems.push(format!("${{{scheme}:…}} cannot be filled in here; {remedy}"));
            return String::new();
        }
        let (name, default) =
            rest.split_once(":-").map_or((rest, None), |(name, default)| (name, Some(default)));
        let is_lawful = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(is_lawful) {
            self.problems
                .push("a ${…} holds no variable's name; write ${env:NAME}, or $$ for a $".to_owned());
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
    fn what_variables_make_too_long_comes_to_nothing() {
        let variables = variables(&[("LONG", "0123456789")]);
        let expanded = expand(&"${LONG}".repeat(1_000_000), &variables, 99);
        assert_eq!((expanded.text.as_str(), expanded.problems.len()), ("", 1));
        assert_eq!(expand(&"${LONG}".repeat(9), &variables, 99).text.len(), 90);
        assert_eq!(expand("0123", &variables, 3).problems.len(), 1);
    }

    #[test]
    fn variables_are_filled_in_once_and_secrets_are_left() {
        let variables = variables(&[("KEY", "a$b ${HOST}"), ("HOST", "host"), ("EMPTY", "")]);
        let text = |value| expand(value, &variables, usize::MAX).text;
        assert_eq!(text("http://${env:HOST}:4318/${KEY}"), "http://host:4318/a$b ${HOST}");
        assert_eq!(text("${env:NONE:-http://x:1} ${NONE:-y} ${EMPTY:-z}|"), "http://x:1 y |");
        assert_eq!(text("$$ $${env:HOST} $x 5$"), "$ ${env:HOST} $x 5$");
        let secret = "${arn:aws:ssm:us-east-1:123456789012:parameter/key}";
        assert_eq!(text(secret), secret);
        assert_eq!(expand("${env:NONE}x", &variables, usize::MAX).unset, ["NONE"]);
        for wrong in ["${env:HOST", "${file:/x}", "${}", "${env:}", "${secretsmanager:x}", "${a b}", "${1}"] {
            assert_eq!(expand(wrong, &variables, usize::MAX).problems.len(), 1, "{wrong}");
        }
    }
}

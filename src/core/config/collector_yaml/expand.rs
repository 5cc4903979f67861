//! Expands `${env:NAME}`, `${NAME}`, `${env:NAME:-default}`, `$NAME` and `$$` like the collector, inside out. Secret references
//! stay unchanged until secrets are fetched.

use super::node::shown;
use crate::config::Variables;

/// The maximum depth of references within references.
const DEPTH_LIMIT: usize = 8;

/// A value after expansion.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// Problems that leave a usable value.
    pub(super) warnings: Vec<String>,
    /// The errors: cause and remedy.
    pub(super) errors: Vec<String>,
}

/// Expands the references in a value. If the result has more than `limit` bytes, it is replaced by an empty text.
pub(super) fn expand(value: &str, variables: &Variables, limit: usize) -> Expanded {
    let mut expanded = Expanded::default();
    expanded.text = Expander { rest: value, variables, limit, expanded: &mut expanded }.text(0);
    if expanded.text.len() > limit {
        expanded.text.clear();
        expanded.errors.push(
            "the values in this file are too large after variables are expanded; shorten them".to_owned(),
        );
    }
    expanded
}

/// Returns true if the whole value is one reference, so that it may stand for a list or a mapping.
pub(super) fn is_single_reference(value: &str) -> bool {
    value.starts_with("${") && closing_brace(value).is_some_and(|at| at + 1 == value.len())
}

/// The index of the brace that closes the first `${`.
fn closing_brace(value: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut rest = value;
    while let Some((before, from)) = rest.find(['$', '}']).and_then(|at| rest.split_at_checked(at)) {
        let at = value.len() - rest.len() + before.len();
        let token = if from.starts_with('}') {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return Some(at);
            }
            1
        } else if from.starts_with("${") {
            depth += 1;
            2
        } else if from.starts_with("$$") {
            2
        } else {
            1
        };
        rest = from.get(token..).unwrap_or_default();
    }
    None
}

/// The state of expanding one value.
struct Expander<'a, 'e> {
    rest: &'a str,
    variables: &'a Variables,
    limit: usize,
    expanded: &'e mut Expanded,
}

impl Expander<'_, '_> {
    /// Expands up to the brace that closes the surrounding reference, or to the end.
    fn text(&mut self, depth: usize) -> String {
        let mut text = String::new();
        let ends: &[char] = if depth > 0 { &['$', '}'] } else { &['$'] };
        while let Some((before, from)) = self.rest.find(ends).and_then(|at| self.rest.split_at_checked(at)) {
            text.push_str(before);
            if from.starts_with('}') {
                self.rest = from;
                return text;
            }
            self.rest = from.get(1..).unwrap_or_default();
            let piece = self.reference(depth);
            text.push_str(&piece);
            if text.len() > self.limit {
                self.rest = "";
                return text;
            }
        }
        text.push_str(self.rest);
        self.rest = "";
        text
    }

    /// Expands what follows a `$`.
    fn reference(&mut self, depth: usize) -> String {
        if let Some(rest) = self.rest.strip_prefix('$') {
            self.rest = rest;
            return "$".to_owned();
        }
        let Some(inner) = self.rest.strip_prefix('{') else { return self.bare() };
        if depth >= DEPTH_LIMIT {
            return self
                .fail(format!("has more than {DEPTH_LIMIT} references within each other; reduce them"));
        }
        self.rest = inner;
        let inner = self.text(depth + 1);
        match self.rest.strip_prefix('}') {
            Some(rest) => {
                self.rest = rest;
                self.resolve(&inner)
            }
            None => self.fail("a ${ has no closing }; write ${env:NAME}, or $$ for a literal $".to_owned()),
        }
    }

    /// Records an error, and ends the value.
    fn fail(&mut self, error: String) -> String {
        self.rest = "";
        // One cause may end several levels.
        if self.expanded.errors.is_empty() {
            self.expanded.errors.push(error);
        }
        String::new()
    }

    /// Expands `$NAME`, as collectors before 0.104 did.
    fn bare(&mut self) -> String {
        let end = self.rest.find(|c: char| !is_name_character(c)).unwrap_or(self.rest.len());
        let Some((name, rest)) = self.rest.split_at_checked(end).filter(|(name, _)| is_name(name)) else {
            return "$".to_owned();
        };
        self.rest = rest;
        let Some(value) = self.variables.get(name) else {
            // It may be part of a password.
            self.expanded.warnings.push(
                "has a $ before the name of a variable that is not set, so it is kept as it is; write ${env:NAME} for a \
                 variable, or $$ for a literal $"
                    .to_owned(),
            );
            return format!("${name}");
        };
        let name = shown(name);
        self.expanded
            .warnings
            .push(format!("${name} is expanded, but newer collectors refuse it; write ${{env:{name}}}"));
        value.clone()
    }

    /// Resolves the text in a `${…}`.
    fn resolve(&mut self, inner: &str) -> String {
        if inner.starts_with("arn:") {
            return format!("${{{inner}}}");
        }
        let (scheme, rest) = match inner.split_once(':') {
            // "${NAME:-default}" has no scheme.
            Some((_, rest)) if rest.starts_with('-') => ("env", inner),
            Some((scheme, rest)) => (scheme, rest),
            None => ("env", inner),
        };
        match scheme {
            "env" => self.variable(rest),
            "yaml" => rest.trim().to_owned(),
            // One of our own references.
            "secretsmanager" => format!("${{{inner}}}"),
            "file" | "http" | "https" | "s3" => self.refuse(
                scheme,
                "is not supported, because values are not fetched; set the value, or use ${env:NAME}",
            ),
            _ => self.refuse(scheme, "is not supported; set the value, or use ${env:NAME}"),
        }
    }

    fn refuse(&mut self, scheme: &str, reason: &str) -> String {
        let scheme = shown(scheme);
        self.expanded.errors.push(format!("${{{scheme}:…}} {reason}"));
        String::new()
    }

    fn variable(&mut self, reference: &str) -> String {
        let (name, default) =
            reference.split_once(":-").map_or((reference, None), |(name, default)| (name, Some(default)));
        if !is_name(name) {
            self.expanded.errors.push(
                "a ${…} has an invalid variable name; write ${env:NAME}, or $$ for a literal $".to_owned(),
            );
            return String::new();
        }
        match (self.variables.get(name), default) {
            (Some(value), _) => value.clone(),
            (None, Some(default)) => default.to_owned(),
            (None, None) => {
                let name = shown(name);
                self.expanded
                    .warnings
                    .push(format!("the variable {name} is not set, so it expands to nothing; set it"));
                String::new()
            }
        }
    }
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(is_name_character)
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
    fn values_of_variables_are_final_and_secrets_stay() {
        let variables = variables(&[("KEY", "a$b ${HOST}"), ("HOST", "host"), ("EMPTY", "")]);
        let text = |value| expand(value, &variables, usize::MAX).text;
        assert_eq!(text("http://${env:HOST}:4318/${KEY}"), "http://host:4318/a$b ${HOST}");
        assert_eq!(text("${env:NONE:-http://x:1} ${NONE:-y} ${EMPTY:-z}|"), "http://x:1 y |");
        assert_eq!(text("$$ $${env:HOST} 5$ $<arn:x> $1"), "$ ${env:HOST} 5$ $<arn:x> $1");
        let secret = "${arn:aws:ssm:us-east-1:123456789012:parameter/key}";
        assert_eq!(text(secret), secret);
        let warnings = expand("${env:NONE}x", &variables, usize::MAX).warnings;
        assert_eq!(warnings, ["the variable NONE is not set, so it expands to nothing; set it"]);
        for wrong in
            ["${env:HOST", "${file:/x}", "${s3://x}", "${}", "${env:}", "${a b}", "${1}", "${env:A:-${env:B}"]
        {
            assert_eq!(expand(wrong, &variables, usize::MAX).errors.len(), 1, "{wrong}");
        }
    }

    #[test]
    fn references_expand_inside_out() {
        const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:name-AbCdEf#key";
        let variables = variables(&[("B", "b}c"), ("NAME", "B"), ("SECRET", SECRET)]);
        let text = |value: &str| {
            let Expanded { text, warnings, errors, .. } = expand(value, &variables, usize::MAX);
            assert_eq!((warnings, errors), (Vec::new(), Vec::new()), "{value}");
            text
        };
        assert_eq!(text("${env:A:-${env:B}}|${env:A:-${C:-${env:D:-deep}}}"), "b}c|deep");
        assert_eq!(text("${env:${env:NAME}}"), "b}c");
        assert_eq!(text("${secretsmanager:${env:SECRET}}"), format!("${{secretsmanager:{SECRET}}}"));
        assert_eq!(text("x ${secretsmanager:name}"), "x ${secretsmanager:name}");
        assert_eq!(text("${yaml: [a, b]}"), "[a, b]");
        let deep = format!("{}x{}", "${env:A:-".repeat(100_000), "}".repeat(100_000));
        assert_eq!(expand(&deep, &variables, usize::MAX).errors.len(), 1);
    }

    #[test]
    fn names_without_braces_expand_with_a_warning() {
        let variables = variables(&[("INGEST_KEY", "0123")]);
        let expanded = expand("Bearer $INGEST_KEY", &variables, usize::MAX);
        assert_eq!(expanded.text, "Bearer 0123");
        assert_eq!(
            expanded.warnings,
            ["$INGEST_KEY is expanded, but newer collectors refuse it; write ${env:INGEST_KEY}"]
        );
        let expanded = expand("pa$word", &variables, usize::MAX);
        assert_eq!((expanded.text.as_str(), expanded.warnings.len()), ("pa$word", 1));
        assert!(!expanded.warnings.concat().contains("word"), "it may be a password");
    }

    #[test]
    fn single_references_are_recognized() {
        assert!(is_single_reference("${env:A}") && is_single_reference("${env:A:-${env:B}}"));
        for several in ["${env:A}${env:B}", "x${env:A}", "${env:A}}", "${env:A"] {
            assert!(!is_single_reference(several), "{several}");
        }
    }
}

//! The parser of the file named by `ROTEL_ENV_FILE`: dotenv syntax, where `${NAME}` is replaced by the value of a variable
//! of the environment or of an earlier line.
//!
//! Decides where an entry begins and ends, and the meaning of each `$` in it. Leaves quotes, escapes, `export` and comments
//! to dotenvy, and reading the file to `app`. dotenvy would also expand `${NAME}`, but from the process environment, which
//! core must not read, and it would treat `${arn:…}` as an unset variable. So expanded text is replaced by placeholders before
//! dotenvy parses an entry, and inserted into the parsed value.
//!
//! Promises that secret references survive every kind of quoting, that messages contain nothing of a value, because it may be
//! a credential, and that work and memory grow linearly with the text: expansion adds at most `EXPANSION_LIMIT` bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Problem, Variables};
use crate::echo;

/// The variable that names the file.
pub const VARIABLE: &str = "ROTEL_ENV_FILE";

/// Longer files are not read.
pub const SIZE_LIMIT: usize = 256 * 1024;

/// The maximum number of bytes that expansion adds to all values of a file; a single value gets at most a quarter of it.
const EXPANSION_LIMIT: usize = 256 * 1024;

/// The maximum number of errors, and of warnings, that are reported individually.
const REPORT_LIMIT: usize = 20;

/// Replaces text that dotenvy must not see. An environment variable cannot contain it, so it is unambiguous.
const PLACEHOLDER: char = '\0';

/// A parsed file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EnvFile {
    /// Its variables, which override the environment's.
    pub variables: Variables,
    /// The place of each variable: the file, the line and the name.
    pub locations: BTreeMap<String, String>,
    /// The variables whose only lines are malformed.
    pub broken: BTreeSet<String>,
    /// Lines that look wrong but are used.
    pub warnings: Vec<Problem>,
    /// Lines that are ignored.
    pub errors: Vec<Problem>,
}

/// Leaves out the variables, which may be credentials.
impl fmt::Debug for EnvFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvFile").field("warnings", &self.warnings).finish_non_exhaustive()
    }
}

/// Parses the text of a file of this name. A malformed line costs only itself.
pub fn parse(text: &str, name: &str, environment: &Variables) -> EnvFile {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let name = echo::file_name(name).text();
    let name = name.as_deref().unwrap_or("the env file");
    let mut file = EnvFile::default();
    let [mut malformed, mut too_long, mut unset] = [(); 3].map(|()| LineProblems::new(name));
    let mut cursor = Cursor { rest: &text, line: 1 };
    let mut room = EXPANSION_LIMIT;
    while !cursor.rest.is_empty() {
        let line = cursor.line;
        let first = cursor.rest_of_line().trim();
        if first.is_empty() || first.starts_with('#') {
            cursor.skip_line();
            continue;
        }
        let lookup =
            |name: &str| environment.get(name).or_else(|| file.variables.get(name)).map(String::as_str);
        match EnvEntry::scan(&mut cursor, lookup, room) {
            Ok(EnvEntry { name: variable, value, expanded_bytes, uses_unset }) => {
                if uses_unset {
                    unset.push(
                        line,
                        "uses a variable that is not set, which becomes empty; set it, or write \\$ for a literal dollar sign",
                    );
                }
                room = room.saturating_sub(expanded_bytes);
                file.broken.remove(&variable);
                file.locations.insert(variable.clone(), format!("{name}:{line}: {variable}"));
                file.variables.insert(variable, value);
            }
            Err(error) => {
                let (problems, variable, message) = match error {
                    EntryError::Malformed(variable, message) => {
                        (&mut malformed, variable, message.to_owned())
                    }
                    EntryError::TooLong(variable) => {
                        let message = format!(
                            "is ignored, because expanding variables adds more than {} bytes to {variable}, or more than \
                             {EXPANSION_LIMIT} bytes to all values; use fewer variables",
                            EXPANSION_LIMIT / 4
                        );
                        (&mut too_long, Some(variable), message)
                    }
                };
                problems.push(line, &message);
                file.broken.extend(variable.filter(|variable| !file.variables.contains_key(variable)));
            }
        }
    }
    file.warnings = unset.into_problems();
    file.errors = malformed.into_problems();
    file.errors.extend(too_long.into_problems());
    file
}

/// The lines with one kind of problem: the first ones, and a count of the others.
struct LineProblems<'n> {
    /// The name of the file.
    file: &'n str,
    problems: Vec<Problem>,
    last: usize,
    others: usize,
}

impl<'n> LineProblems<'n> {
    fn new(file: &'n str) -> Self {
        Self { file, problems: Vec::new(), last: 0, others: 0 }
    }

    fn push(&mut self, line: usize, message: &str) {
        if self.problems.len() < REPORT_LIMIT {
            let place = format!("{}:{line}", self.file);
            self.problems.push(Problem { variable: place, message: message.to_owned() });
        } else {
            self.last = line;
            self.others += 1;
        }
    }

    fn into_problems(mut self) -> Vec<Problem> {
        if self.others > 0 {
            let message = format!("the last of {} more lines with this problem", self.others);
            self.problems.push(Problem { variable: format!("{}:{}", self.file, self.last), message });
        }
        self.problems
    }
}

/// The reason why an entry sets no variable.
enum EntryError {
    /// The line is malformed: its variable, if it has one, and cause and remedy.
    Malformed(Option<String>, &'static str),
    /// Expansion makes the value of this variable too long.
    TooLong(String),
}

/// One parsed entry.
struct EnvEntry {
    name: String,
    value: String,
    /// The number of bytes added by expansion.
    expanded_bytes: usize,
    /// It uses a variable that is not set.
    uses_unset: bool,
}

impl EnvEntry {
    /// Parses the entry at the cursor and moves the cursor past it, even if it is malformed. Expansion may add `room` bytes.
    fn scan<'v>(
        cursor: &mut Cursor<'_>,
        lookup: impl Fn(&str) -> Option<&'v str>,
        room: usize,
    ) -> Result<Self, EntryError> {
        let first = cursor.rest_of_line();
        let Some((name, _)) = first.split_once('=') else {
            cursor.skip_line();
            return Err(EntryError::Malformed(
                None,
                "has no \"=\"; use the form NAME=value, or start a comment with #",
            ));
        };
        let exported =
            name.trim().strip_prefix("export").filter(|rest| rest.starts_with(char::is_whitespace));
        let bare = exported.unwrap_or(name).trim();
        if !is_name(bare, ".") {
            cursor.skip_line();
            return Err(EntryError::Malformed(
                None,
                "has an invalid name before \"=\"; use letters, digits and _",
            ));
        }
        let start = *cursor;
        let mut value = EnvValue { room: room.min(EXPANSION_LIMIT / 4), ..EnvValue::default() };
        while let Some(c) = cursor.next() {
            value.masked.push(c);
            if c == '=' {
                break;
            }
        }
        if value.scan(cursor, lookup) == ValueEnd::OpenQuote {
            // The quote costs its own line, not all others.
            *cursor = start;
            cursor.skip_line();
        }
        match value.error {
            Some(message) => Err(EntryError::Malformed(Some(bare.to_owned()), message)),
            None if value.is_too_long => Err(EntryError::TooLong(bare.to_owned())),
            None => value.parse(bare),
        }
    }
}

/// The end of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValueEnd {
    Regular,
    /// The text ends within quotes.
    OpenQuote,
}

/// The kind of quotes around a character.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Quoted {
    #[default]
    Not,
    Single,
    Double,
}

/// The state of parsing one value.
#[derive(Default)]
struct EnvValue {
    /// The entry for dotenvy, with placeholders.
    masked: String,
    /// The texts that the placeholders replace, concatenated.
    hidden: String,
    /// The end of each of these texts in `hidden`.
    ends: Vec<usize>,
    /// The number of bytes added by expansion.
    expanded_bytes: usize,
    /// The maximum of `expanded_bytes`.
    room: usize,
    is_too_long: bool,
    uses_unset: bool,
    /// The first error. The scan continues after it, up to the end of the entry.
    error: Option<&'static str>,
}

impl EnvValue {
    fn scan<'v>(&mut self, cursor: &mut Cursor<'_>, lookup: impl Fn(&str) -> Option<&'v str>) -> ValueEnd {
        let mut quoted = Quoted::Not;
        // A comment may follow the "=" directly.
        if cursor.rest_of_line().trim_start().starts_with('#') {
            cursor.skip_line();
            return ValueEnd::Regular;
        }
        cursor.skip_blanks();
        while let Some(c) = cursor.next() {
            match (quoted, c) {
                (_, PLACEHOLDER) => self.record_error("contains a NUL character; remove it"),
                (Quoted::Not, '\n') => return ValueEnd::Regular,
                (Quoted::Not, blank) if blank.is_whitespace() => {
                    // A run of blanks is handled at once: looking ahead at each blank would take quadratic time.
                    let after = cursor.rest.trim_start_matches(|c: char| c.is_whitespace() && c != '\n');
                    if after.is_empty() || after.starts_with(['\n', '#']) {
                        cursor.skip_line();
                        return ValueEnd::Regular;
                    }
                    // dotenvy ends an unquoted value here, but Rotel's guide has a value with blanks.
                    let (others, _) = cursor.rest.split_at(cursor.rest.len() - after.len());
                    self.hide(blank.encode_utf8(&mut [0; 4]));
                    self.hide(others);
                    cursor.rest = after;
                }
                (Quoted::Not | Quoted::Double, '\\') => self.scan_escape(cursor, quoted),
                (Quoted::Not | Quoted::Double, '$') => self.scan_dollar(cursor, &lookup),
                // The quote was forgotten, and that of a later line would close it.
                (_, '\n') if ["ROTEL_", "OTEL_"].iter().any(|prefix| cursor.rest.starts_with(prefix)) => {
                    break;
                }
                // dotenvy is inconsistent about a backslash before the closing quote.
                (Quoted::Single, '\\') => self.hide("\\"),
                (_, c) => {
                    quoted = match (quoted, c) {
                        (Quoted::Not, '\'') => Quoted::Single,
                        (Quoted::Not, '"') => Quoted::Double,
                        (Quoted::Single, '\'') | (Quoted::Double, '"') => Quoted::Not,
                        (same, _) => same,
                    };
                    self.masked.push(c);
                }
            }
        }
        if quoted == Quoted::Not {
            return ValueEnd::Regular;
        }
        self.record_error("has an opening quote that is never closed; close it");
        ValueEnd::OpenQuote
    }

    /// Reads a backslash. In double quotes it escapes what dotenv lets it escape. Outside of them, in a path or in a regular
    /// expression, it is a backslash, but before a quote or a dollar sign.
    fn scan_escape(&mut self, cursor: &mut Cursor<'_>, quoted: Quoted) {
        let escaped: &[char] =
            if quoted == Quoted::Double { &['\\', '\'', '"', '$', ' ', 'n'] } else { &['\'', '"', '$'] };
        match cursor.rest.chars().next() {
            Some(c) if escaped.contains(&c) => {
                cursor.next();
                self.masked.extend(['\\', c]);
            }
            _ => self.hide("\\"),
        }
    }

    fn scan_dollar<'v>(&mut self, cursor: &mut Cursor<'_>, lookup: &impl Fn(&str) -> Option<&'v str>) {
        let rest = cursor.rest;
        if ["{arn:", "<arn:", "{secretsmanager:", "<secretsmanager:"]
            .iter()
            .any(|start| rest.starts_with(start))
        {
            return self.hide("$");
        }
        let braced = rest.strip_prefix('{');
        let from = braced.unwrap_or(rest);
        let end = from.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(from.len());
        let (name, after) = from.split_at(end);
        let after = match braced {
            None if is_name(name, "") => after,
            None => return self.hide("$"),
            Some(_) => match after.strip_prefix('}') {
                Some(after) if is_name(name, "") => after,
                // The line is searched for "}" at most once.
                _ if self.error.is_some() => return,
                _ if cursor.rest_of_line().contains('}') => {
                    return self.record_error(
                        "has an invalid name between \"${\" and \"}\"; write ${NAME}, or \\$ for a literal dollar sign",
                    );
                }
                _ => {
                    return self.record_error(
                        "has a \"${\" without a closing \"}\"; write ${NAME}, or \\$ for a literal dollar sign",
                    );
                }
            },
        };
        cursor.rest = after;
        let value = lookup(name);
        self.uses_unset |= value.is_none();
        let value = value.unwrap_or_default();
        self.expanded_bytes = self.expanded_bytes.saturating_add(value.len());
        if self.expanded_bytes > self.room {
            self.is_too_long = true;
        } else {
            self.hide(value);
        }
    }

    fn hide(&mut self, text: &str) {
        self.hidden.push_str(text);
        // Adjacent hidden texts share one placeholder.
        if self.masked.ends_with(PLACEHOLDER) {
            self.ends.pop();
        } else {
            self.masked.push(PLACEHOLDER);
        }
        self.ends.push(self.hidden.len());
    }

    fn record_error(&mut self, message: &'static str) {
        self.error.get_or_insert(message);
    }

    /// Parses the entry with dotenvy and replaces the placeholders by the texts they stand for.
    fn parse(mut self, name: &str) -> Result<EnvEntry, EntryError> {
        // At the end of the text, dotenvy rejects an entry that a line break would complete.
        self.masked.push('\n');
        let Some(Ok((name, marked))) = dotenvy::from_read_iter(self.masked.as_bytes()).next() else {
            return Err(EntryError::Malformed(
                Some(name.to_owned()),
                "is not of the form NAME=value; put the value in single quotes",
            ));
        };
        let mut parts = marked.split(PLACEHOLDER);
        let mut value = parts.next().unwrap_or_default().to_owned();
        let mut start = 0;
        for (end, after) in self.ends.iter().zip(parts) {
            value.push_str(self.hidden.get(start..*end).unwrap_or_default());
            value.push_str(after);
            start = *end;
        }
        Ok(EnvEntry { name, value, expanded_bytes: self.expanded_bytes, uses_unset: self.uses_unset })
    }
}

/// A position in the text.
#[derive(Clone, Copy)]
struct Cursor<'t> {
    rest: &'t str,
    /// Counted from 1.
    line: usize,
}

impl<'t> Cursor<'t> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn rest_of_line(&self) -> &'t str {
        self.rest.split('\n').next().unwrap_or_default()
    }

    fn skip_line(&mut self) {
        while self.next().is_some_and(|c| c != '\n') {}
    }

    fn skip_blanks(&mut self) {
        while self.rest.starts_with(|c: char| c.is_whitespace() && c != '\n') {
            self.next();
        }
    }
}

/// Returns true if a text is a variable's name; `more` lists additional characters that it may contain.
fn is_name(text: &str, more: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || more.contains(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::secret_ref;

    const ARN: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123#key";

    fn environment() -> Variables {
        [("KEY", "a'b\"c\\d $KEY #e"), ("REGION", "us-east-1"), ("EMPTY", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    fn parsed(text: &str) -> EnvFile {
        let file = parse(text, "rotel.env", &environment());
        assert!(file.errors.iter().all(|error| error.message.starts_with("is ignored")), "{:?}", file.errors);
        file
    }

    /// The value of `A` in `A={text}`.
    fn value(text: &str) -> String {
        let mut file = parsed(&format!("A={text}"));
        assert_eq!(file.warnings, [], "{text}");
        file.variables.remove("A").expect("the variable")
    }

    #[test]
    fn published_file_works() {
        let file = parsed(
            "ROTEL_OTLP_EXPORTER_ENDPOINT=https://clickstack.example.com:4317\n\
             ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS=\"Authorization=<YOUR_INGESTION_API_KEY>\"\n\
             ROTEL_OTEL_RESOURCE_ATTRIBUTES=\"service.name=my-lambda-api,deployment.environment=production\"\n",
        );
        assert_eq!(file.warnings, []);
        let values: Vec<_> = file.variables.values().map(String::as_str).collect();
        assert_eq!(
            values,
            [
                "service.name=my-lambda-api,deployment.environment=production",
                "Authorization=<YOUR_INGESTION_API_KEY>",
                "https://clickstack.example.com:4317",
            ]
        );
    }

    #[test]
    fn dotenv_syntax_is_read() {
        let file = parsed(
            "\u{feff}# it's a comment\r\n\r\nexport A=1\r\nB = ' two  words ' # behind\r\nC=\"x\\\"y\\nz\"\r\n  D=\r\n\
             E=a#b\nF='line 1\nline 2'\nG=# nothing\nexport=x\nH='C:\\'\n\
             export\tJ=1\nI=tail ",
        );
        let shown: Vec<_> =
            file.variables.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        A = "1"
        B = " two  words "
        C = "x\"y\nz"
        D = ""
        E = "a#b"
        F = "line 1\nline 2"
        G = ""
        H = "C:\\"
        I = "tail"
        J = "1"
        export = "x"
        "#);
    }

    #[test]
    fn names_expand_from_the_environment() {
        let key = environment().remove("KEY").expect("the key");
        for text in ["${KEY}", "$KEY", "\"${KEY}\"", "\"$KEY\"", "${KEY} # comment"] {
            assert_eq!(value(text), key, "{text}");
        }
        assert_eq!(value("Bearer ${REGION},X=$REGION/1"), "Bearer us-east-1,X=us-east-1/1");
        assert_eq!(value("[$EMPTY]"), "[]");
    }

    #[test]
    fn names_expand_from_earlier_lines() {
        let file = parsed("HOST=h\nREGION=mine\nURL=http://${HOST}.${REGION}\n");
        assert_eq!(file.variables["URL"], "http://h.us-east-1");
        assert_eq!(file.variables["REGION"], "mine");
    }

    #[test]
    fn escaped_or_single_quoted_dollar_is_literal() {
        for text in [r"\${KEY}", r#""\${KEY}""#, "'${KEY}'"] {
            assert_eq!(value(text), "${KEY}", "{text}");
        }
        assert_eq!(value("5$ a$"), "5$ a$");
    }

    #[test]
    fn secret_references_survive_quoting() {
        for reference in [format!("${{{ARN}}}"), format!("$<{ARN}>")] {
            for text in [
                format!("Authorization={reference}"),
                format!("\"Authorization={reference}\""),
                format!("'Authorization={reference}'"),
                format!("Authorization=\"{reference}\""),
                format!("Authorization=\\{reference}"),
                format!("\"Authorization=\\{reference}\" # comment"),
            ] {
                assert_eq!(value(&text), format!("Authorization={reference}"), "{text}");
            }
        }
        assert_eq!(value(&format!("secret://{ARN}")), format!("secret://{ARN}"));
        let nested = value("${arn:aws:ssm:${REGION}:123456789012:parameter/key}");
        assert_eq!(nested, "${arn:aws:ssm:us-east-1:123456789012:parameter/key}");
    }

    #[test]
    fn unset_variable_is_empty_and_a_warning() {
        let file = parsed("A=x\nB=[${NOBODY}]\n");
        assert_eq!(file.variables["B"], "[]");
        let warnings: Vec<_> = file.warnings.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(warnings.join("\n"), @r#"rotel.env:2: uses a variable that is not set, which becomes empty; set it, or write \$ for a literal dollar sign"#);
    }

    #[test]
    fn bad_lines_are_reported_by_number_only() {
        let text = "A=1\nhunter2\nhunter 2=x\nB=${hunter2\nC=${hunter2:-x}\nD=\"hunter\\2\"\nE='a\nb'\nF=hunter\u{0}2\nG=\"hunter2\nH=1\n";
        let file = parse(text, "rotel.env", &environment());
        assert_eq!(file.variables.keys().collect::<Vec<_>>(), ["A", "D", "E", "H"]);
        assert_eq!(file.broken.into_iter().collect::<Vec<_>>(), ["B", "C", "F", "G"]);
        let errors: Vec<_> = file.errors.iter().map(ToString::to_string).collect();
        assert!(!errors.join("\n").contains("hunter"));
        insta::assert_snapshot!(errors.join("\n"), @r#"
        rotel.env:2: has no "="; use the form NAME=value, or start a comment with #
        rotel.env:3: has an invalid name before "="; use letters, digits and _
        rotel.env:4: has a "${" without a closing "}"; write ${NAME}, or \$ for a literal dollar sign
        rotel.env:5: has an invalid name between "${" and "}"; write ${NAME}, or \$ for a literal dollar sign
        rotel.env:9: contains a NUL character; remove it
        rotel.env:10: has an opening quote that is never closed; close it
        "#);
    }

    #[test]
    fn backslashes_outside_double_quotes_are_literal() {
        for (text, expected) in [
            (r"^GET /health\b", r"^GET /health\b"),
            (r"C:\certs\new.pem", r"C:\certs\new.pem"),
            (r"a\\b\", r"a\\b\"),
            (r#"say \"hi\" it\'s"#, r#"say "hi" it's"#),
            (r#""^GET /health\b \d+""#, r"^GET /health\b \d+"),
            (r#""a\\b\n""#, "a\\b\n"),
            (r"'\d\'", r"\d\"),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn an_open_quote_costs_its_line() {
        let text = "A=1\nB=\"open\nROTEL_C=\"x\ny\"\nD=it's\nE=2\n";
        let file = parse(text, "/var/task/rotel.env", &environment());
        let set: Vec<_> = file.variables.keys().collect();
        assert_eq!(set, ["A", "E", "ROTEL_C"]);
        insta::assert_snapshot!(file.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"), @"
        rotel.env:2: has an opening quote that is never closed; close it
        rotel.env:5: has an opening quote that is never closed; close it
        ");
        assert_eq!(file.locations["E"], "rotel.env:6: E");
        let many = format!("{}{}", "A=\"x\n".repeat(20_001), "B='x\n".repeat(20_001));
        assert!(parse(&many, "rotel.env", &environment()).variables.len() <= 2);
    }

    #[test]
    fn exponential_expansion_is_cut_off() {
        let doubled = |at| format!("A{at}=${{A{before}}}${{A{before}}}", before = at - 1);
        let lines: Vec<_> = (1..=30).map(doubled).collect();
        let file = parsed(&format!("A0=x\n{}\nB=${{A3}}\n", lines.join("\n")));
        let logged: Vec<_> = file.errors.iter().chain(&file.warnings).map(ToString::to_string).collect();
        insta::assert_snapshot!(logged.join("\n"), @r#"
        rotel.env:18: is ignored, because expanding variables adds more than 65536 bytes to A17, or more than 262144 bytes to all values; use fewer variables
        rotel.env:19: uses a variable that is not set, which becomes empty; set it, or write \$ for a literal dollar sign
        "#);
        assert_eq!(file.variables["A16"].len(), 65_536);
        assert_eq!(file.variables.get("A17"), None);
        assert_eq!(file.variables["B"], "xxxxxxxx");
    }

    #[test]
    fn expansion_is_bounded_in_total() {
        let block = "x".repeat(30_000);
        let text = format!("A={block}\n{}", "B=${A}${A}\n".repeat(10));
        let file = parsed(&text);
        assert_eq!(file.variables["B"].len(), 60_000);
        // The first four fit.
        assert_eq!(file.errors.len(), 6);
        assert!(
            parsed(&format!("A={block}\nB={block}{block}{block}\n")).errors.is_empty(),
            "nothing is expanded"
        );
    }

    #[test]
    fn large_file_takes_linear_time() {
        // Scanning the rest of the line at each of these would read more than 2 GB.
        for unit in
            ["a ", "  ", "$ ", "${", "${a ", "${a ${", "$a", "$", "${EMPTY}", "\\$ ", "' '", "\"a \" "]
        {
            for end in ["", "}", "x", "\n"] {
                let text = format!("A={}{end}", unit.repeat(SIZE_LIMIT / unit.len()));
                let file = parse(&text, "rotel.env", &environment());
                assert!(file.variables.get("A").is_none_or(|value| value.len() <= text.len()), "{unit}");
            }
        }
    }

    #[test]
    fn many_bad_lines_are_counted() {
        let errors = parse(&"x\n".repeat(100_000), "rotel.env", &environment()).errors;
        assert_eq!(errors.len(), REPORT_LIMIT + 1);
        let last = errors.last().map(ToString::to_string);
        insta::assert_snapshot!(last.unwrap_or_default(), @"rotel.env:100000: the last of 99980 more lines with this problem");
        assert_eq!(parsed(&"A=$x\n".repeat(100_000)).warnings.len(), REPORT_LIMIT + 1);
    }

    proptest! {
        #[test]
        fn no_text_causes_a_panic(text in r#"([A-C]=)?([$'"\\{}#= \n\r\x00a-c]|\PC|\$\{arn:|export ){0,40}"#) {
            let _ = parse(&text, "rotel.env", &environment());
        }

        #[test]
        fn single_quoted_text_is_unchanged(text in "[^'\x00\r]{0,20}") {
            prop_assert_eq!(value(&format!("'{text}'")), text);
        }

        #[test]
        fn secret_reference_survives_its_context(
            before in "[a-z=, ]{0,6}",
            quote in prop_oneof![Just(""), Just("'"), Just("\"")],
            after in "[a-z,]{0,6}",
        ) {
            let reference = format!("${{{ARN}}}");
            let value = value(&format!("{quote}{before}{reference}{after}{quote}"));
            prop_assert_eq!(secret_ref::find(&value), secret_ref::find(&reference));
        }
    }
}

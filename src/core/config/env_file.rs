//! The file that `ROTEL_ENV_FILE` names: dotenv syntax, with `${NAME}` filled from the environment or from earlier lines.
//!
//! Decides where an entry begins and ends and what each `$` in it means; quotes, escapes, `export` and comments are
//! dotenvy's. That would fill `${NAME}` too, but from the process environment, which is not ours to read here, and it
//! takes `${arn:…}` for a variable that nobody has set. So whatever is not for it to see is replaced by a mark before an
//! entry is handed over, and put back into the value that comes out. Promises that secret references survive every kind
//! of quoting, that no message shows anything of a value: it may be a credential, and that work and memory grow no faster
//! than the text: references may add `EXPANSION_LIMIT` bytes at most. Reading the file is left to `app`.

use std::fmt;

use super::{Problem, Variables};

/// The variable that names the file.
pub const VARIABLE: &str = "ROTEL_ENV_FILE";

/// Longer files are not read.
pub const SIZE_LIMIT: usize = 256 * 1024;

/// The most bytes that references may put into all values of a file together, and a quarter of it into one.
const EXPANSION_LIMIT: usize = 256 * 1024;

/// The most errors that are logged one by one, and the most warnings.
const FAULT_LIMIT: usize = 20;

/// Stands in an entry for what dotenvy is not to see. No environment can hold it, so that it never means itself.
const PLACEHOLDER: char = '\0';

/// What a file holds.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EnvFile {
    /// Its variables, which win over the environment's.
    pub variables: Variables,
    /// What is odd, but does no harm.
    pub warnings: Vec<Problem>,
    /// LineProblems that are ignored.
    pub errors: Vec<Problem>,
}

/// Without the variables, which may hold credentials.
impl fmt::Debug for EnvFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvFile").field("warnings", &self.warnings).finish_non_exhaustive()
    }
}

/// Parses a file's text. Fails with all malformed lines, each by its number, and then no variable of the file holds.
pub fn parse(text: &str, environment: &Variables) -> Result<EnvFile, Vec<Problem>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut file = EnvFile::default();
    let [mut malformed, mut too_long, mut unset] = [(); 3].map(|()| LineProblems::default());
    let mut cursor = Cursor { rest: &text, line: 1 };
    let mut room = EXPANSION_LIMIT;
    while !cursor.rest.is_empty() {
        let line = cursor.line;
        let first = cursor.rest_of_line().trim();
        if first.is_empty() || first.starts_with('#') {
            cursor.skip_line();
            continue;
        }
        let known =
            |name: &str| environment.get(name).or_else(|| file.variables.get(name)).map(String::as_str);
        match EnvEntry::scan(&mut cursor, known, room) {
            Ok(EnvEntry { name, value, filled_in, is_incomplete }) => {
                if is_incomplete {
                    unset.push(
                        line,
                        "uses a variable that is not set, and leaves it empty; set it, or write \\$ for a dollar sign itself",
                    );
                }
                room = room.saturating_sub(filled_in);
                file.variables.insert(name, value);
            }
            Err(EntryError::Malformed(message)) => malformed.push(line, message),
            Err(EntryError::TooLong(name)) => too_long.push(
                line,
                &format!(
                    "is ignored, because references make {name} longer than {} bytes, or all values longer than \
                     {EXPANSION_LIMIT}; use fewer references",
                    EXPANSION_LIMIT / 4
                ),
            ),
        }
    }
    file.warnings = unset.into_problems();
    file.errors = too_long.into_problems();
    let malformed = malformed.into_problems();
    if malformed.is_empty() { Ok(file) } else { Err(malformed) }
}

/// The lines that share a kind of problem: the first ones, and a count of the others.
#[derive(Default)]
struct LineProblems {
    errors: Vec<Problem>,
    last: usize,
    others: usize,
}

impl LineProblems {
    fn push(&mut self, line: usize, message: &str) {
        if self.errors.len() < FAULT_LIMIT {
            let message = format!("line {line} {message}");
            self.errors.push(Problem { variable: VARIABLE.to_owned(), message });
        } else {
            self.last = line;
            self.others += 1;
        }
    }

    fn into_problems(mut self) -> Vec<Problem> {
        if self.others > 0 {
            let message = format!("line {} is the last of {} more like these", self.last, self.others);
            self.errors.push(Problem { variable: VARIABLE.to_owned(), message });
        }
        self.errors
    }
}

/// The reason why an entry gives no variable.
enum EntryError {
    /// The line's text, cause and remedy.
    Malformed(&'static str),
    /// References make the value of this variable too long.
    TooLong(String),
}

/// One variable.
struct EnvEntry {
    name: String,
    value: String,
    /// The bytes that references put into the value.
    filled_in: usize,
    /// Whether it uses a variable that nobody has set.
    is_incomplete: bool,
}

impl EnvEntry {
    /// Takes the cursor behind the entry that begins there, whether it can be taken or not. References may put `room`
    /// bytes into it.
    fn scan<'v>(
        cursor: &mut Cursor<'_>,
        known: impl Fn(&str) -> Option<&'v str>,
        room: usize,
    ) -> Result<Self, EntryError> {
        let first = cursor.rest_of_line();
        let Some((name, _)) = first.split_once('=') else {
            cursor.skip_line();
            return Err(EntryError::Malformed("has no \"=\"; write NAME=value, or # before a comment"));
        };
        let exported =
            name.trim().strip_prefix("export").filter(|rest| rest.starts_with(char::is_whitespace));
        let bare = exported.unwrap_or(name).trim();
        if !is_name(bare, ".") {
            cursor.skip_line();
            return Err(EntryError::Malformed(
                "has something else than a name before its \"=\"; use letters, digits and _ there",
            ));
        }
        let mut value = EnvValue { room: room.min(EXPANSION_LIMIT / 4), ..EnvValue::default() };
        while let Some(c) = cursor.next() {
            value.given.push(c);
            if c == '=' {
                break;
            }
        }
        value.scan(cursor, known);
        match value.message {
            Some(message) => Err(EntryError::Malformed(message)),
            None if value.is_too_long => Err(EntryError::TooLong(bare.to_owned())),
            None => value.parse(),
        }
    }
}

/// Where in a value a character stands.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Quoted {
    #[default]
    Not,
    Single,
    Double,
}

/// A value on its way to dotenvy and back.
#[derive(Default)]
struct EnvValue {
    /// The entry as dotenvy gets it.
    given: String,
    /// The texts that the marks in it stand for, in a row.
    marked: String,
    /// Where in `marked` each of them ends.
    ends: Vec<usize>,
    /// The bytes of them that references gave.
    filled_in: usize,
    /// The most that they may give.
    room: usize,
    is_too_long: bool,
    is_incomplete: bool,
    /// The first thing that is wrong. The scan goes on behind it, to where the entry ends.
    message: Option<&'static str>,
}

impl EnvValue {
    fn scan<'v>(&mut self, cursor: &mut Cursor<'_>, known: impl Fn(&str) -> Option<&'v str>) {
        let mut quoted = Quoted::Not;
        // Behind the "=" a comment may begin at once.
        if cursor.rest_of_line().trim_start().starts_with('#') {
            return cursor.skip_line();
        }
        cursor.skip_blanks();
        while let Some(c) = cursor.next() {
            match (quoted, c) {
                (_, PLACEHOLDER) => self.wrong("holds a NUL character; remove it"),
                (Quoted::Not, '\n') => return,
                (Quoted::Not, blank) if blank.is_whitespace() => {
                    // All blanks in a row at once: to look behind them at each would take the square of their number.
                    let behind = cursor.rest.trim_start_matches(|c: char| c.is_whitespace() && c != '\n');
                    if behind.is_empty() || behind.starts_with(['\n', '#']) {
                        return cursor.skip_line();
                    }
                    // dotenvy ends an unquoted value here, but Rotel's own guide has a value like this one.
                    let (others, _) = cursor.rest.split_at(cursor.rest.len() - behind.len());
                    self.mark(blank.encode_utf8(&mut [0; 4]));
                    self.mark(others);
                    cursor.rest = behind;
                }
                (Quoted::Not | Quoted::Double, '\\') => self.escape(cursor),
                (Quoted::Not | Quoted::Double, '$') => self.dollar(cursor, &known),
                // To dotenvy a backslash before the closing quote is an escape in one place and none in another.
                (Quoted::Single, '\\') => self.mark("\\"),
                (_, c) => {
                    quoted = match (quoted, c) {
                        (Quoted::Not, '\'') => Quoted::Single,
                        (Quoted::Not, '"') => Quoted::Double,
                        (Quoted::Single, '\'') | (Quoted::Double, '"') => Quoted::Not,
                        (same, _) => same,
                    };
                    self.given.push(c);
                }
            }
        }
        if quoted != Quoted::Not {
            self.wrong("opens a quote that is never closed; close it");
        }
    }

    fn escape(&mut self, cursor: &mut Cursor<'_>) {
        match cursor.rest.chars().next() {
            Some(c @ ('\\' | '\'' | '"' | '$' | ' ' | 'n')) => {
                cursor.next();
                self.given.extend(['\\', c]);
            }
            _ => self.wrong("has a backslash before a character that needs none; write \\\\ for a backslash itself, or use single quotes"),
        }
    }

    fn dollar<'v>(&mut self, cursor: &mut Cursor<'_>, known: &impl Fn(&str) -> Option<&'v str>) {
        let rest = cursor.rest;
        if rest.starts_with("{arn:") || rest.starts_with("<arn:") {
            return self.mark("$");
        }
        let braced = rest.strip_prefix('{');
        let from = braced.unwrap_or(rest);
        let end = from.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(from.len());
        let (name, behind) = from.split_at(end);
        let behind = match braced {
            None if is_name(name, "") => behind,
            None => return self.mark("$"),
            Some(_) => match behind.strip_prefix('}') {
                Some(behind) if is_name(name, "") => behind,
                // The line is searched for its "}" once at most.
                _ if self.message.is_some() => return,
                _ if cursor.rest_of_line().contains('}') => {
                    return self.wrong(
                        "has something else than a name within \"${\" and \"}\"; write ${NAME}, or \\$ for a dollar sign itself",
                    );
                }
                _ => {
                    return self.wrong(
                        "has a \"${\" without its \"}\"; write ${NAME}, or \\$ for a dollar sign itself",
                    );
                }
            },
        };
        cursor.rest = behind;
        let value = known(name);
        self.is_incomplete |= value.is_none();
        let value = value.unwrap_or_default();
        self.filled_in = self.filled_in.saturating_add(value.len());
        if self.filled_in > self.room {
            self.is_too_long = true;
        } else {
            self.mark(value);
        }
    }

    fn mark(&mut self, stands_for: &str) {
        self.marked.push_str(stands_for);
        // Of marks in a row one does for all.
        if self.given.ends_with(PLACEHOLDER) {
            self.ends.pop();
        } else {
            self.given.push(PLACEHOLDER);
        }
        self.ends.push(self.marked.len());
    }

    fn wrong(&mut self, message: &'static str) {
        self.message.get_or_insert(message);
    }

    /// Has dotenvy read the entry, and puts back what the marks stand for.
    fn parse(mut self) -> Result<EnvEntry, EntryError> {
        // At the end of a text dotenvy refuses an entry that a line break would complete.
        self.given.push('\n');
        let Some(Ok((name, marked))) = dotenvy::from_read_iter(self.given.as_bytes()).next() else {
            return Err(EntryError::Malformed("is not NAME=value; put the value into single quotes"));
        };
        let mut parts = marked.split(PLACEHOLDER);
        let mut value = parts.next().unwrap_or_default().to_owned();
        let mut start = 0;
        for (end, behind) in self.ends.iter().zip(parts) {
            value.push_str(self.marked.get(start..*end).unwrap_or_default());
            value.push_str(behind);
            start = *end;
        }
        Ok(EnvEntry { name, value, filled_in: self.filled_in, is_incomplete: self.is_incomplete })
    }
}

/// A place in the text.
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

/// Whether a text is a variable's name; `more` are characters that it may hold besides the usual.
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
        parse(text, &environment()).expect("a good file")
    }

    /// The value that `A=` and the text give.
    fn value(text: &str) -> String {
        let mut file = parsed(&format!("A={text}"));
        assert_eq!(file.warnings, [], "{text}");
        file.variables.remove("A").expect("the variable")
    }

    #[test]
    fn the_published_file_works() {
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
    fn comments_quotes_and_export_are_read_as_elsewhere() {
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
    fn names_are_filled_from_the_environment_whatever_they_hold() {
        let key = environment().remove("KEY").expect("the key");
        for text in ["${KEY}", "$KEY", "\"${KEY}\"", "\"$KEY\"", "${KEY} # comment"] {
            assert_eq!(value(text), key, "{text}");
        }
        assert_eq!(value("Bearer ${REGION},X=$REGION/1"), "Bearer us-east-1,X=us-east-1/1");
        assert_eq!(value("[$EMPTY]"), "[]");
    }

    #[test]
    fn earlier_lines_fill_later_ones_and_the_environment_wins() {
        let file = parsed("HOST=h\nREGION=mine\nURL=http://${HOST}.${REGION}\n");
        assert_eq!(file.variables["URL"], "http://h.us-east-1");
        assert_eq!(file.variables["REGION"], "mine");
    }

    #[test]
    fn an_escaped_or_single_quoted_dollar_stays() {
        for text in [r"\${KEY}", r#""\${KEY}""#, "'${KEY}'"] {
            assert_eq!(value(text), "${KEY}", "{text}");
        }
        assert_eq!(value("5$ a$"), "5$ a$");
    }

    #[test]
    fn references_survive_every_kind_of_quoting() {
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
    fn what_is_not_set_is_empty_and_a_warning() {
        let file = parsed("A=x\nB=[${NOBODY}]\n");
        assert_eq!(file.variables["B"], "[]");
        let warnings: Vec<_> = file.warnings.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(warnings.join("\n"), @r"ROTEL_ENV_FILE: line 2 uses a variable that is not set, and leaves it empty; set it, or write \$ for a dollar sign itself");
    }

    #[test]
    fn every_bad_line_is_told_by_its_number_and_nothing_of_it() {
        let text = "A=1\nhunter2\nhunter 2=x\nB=${hunter2\nC=${hunter2:-x}\nD=\"hunter\\2\"\nE='a\nb'\nF=hunter\u{0}2\nG=\"hunter2\nH=1\n";
        let errors: Vec<_> =
            parse(text, &environment()).expect_err("errors").iter().map(ToString::to_string).collect();
        assert!(!errors.join("\n").contains("hunter"));
        insta::assert_snapshot!(errors.join("\n"), @r#"
        ROTEL_ENV_FILE: line 2 has no "="; write NAME=value, or # before a comment
        ROTEL_ENV_FILE: line 3 has something else than a name before its "="; use letters, digits and _ there
        ROTEL_ENV_FILE: line 4 has a "${" without its "}"; write ${NAME}, or \$ for a dollar sign itself
        ROTEL_ENV_FILE: line 5 has something else than a name within "${" and "}"; write ${NAME}, or \$ for a dollar sign itself
        ROTEL_ENV_FILE: line 6 has a backslash before a character that needs none; write \\ for a backslash itself, or use single quotes
        ROTEL_ENV_FILE: line 9 holds a NUL character; remove it
        ROTEL_ENV_FILE: line 10 opens a quote that is never closed; close it
        "#);
    }

    #[test]
    fn doubling_references_are_cut_off() {
        let doubled = |at| format!("A{at}=${{A{before}}}${{A{before}}}", before = at - 1);
        let lines: Vec<_> = (1..=30).map(doubled).collect();
        let file = parsed(&format!("A0=x\n{}\nB=${{A3}}\n", lines.join("\n")));
        let logged: Vec<_> = file.errors.iter().chain(&file.warnings).map(ToString::to_string).collect();
        insta::assert_snapshot!(logged.join("\n"), @r"
        ROTEL_ENV_FILE: line 18 is ignored, because references make A17 longer than 65536 bytes, or all values longer than 262144; use fewer references
        ROTEL_ENV_FILE: line 19 uses a variable that is not set, and leaves it empty; set it, or write \$ for a dollar sign itself
        ");
        assert_eq!(file.variables["A16"].len(), 65_536);
        assert_eq!(file.variables.get("A17"), None);
        assert_eq!(file.variables["B"], "xxxxxxxx");
    }

    #[test]
    fn all_values_together_are_bounded() {
        let block = "x".repeat(30_000);
        let text = format!("A={block}\n{}", "B=${A}${A}\n".repeat(10));
        let file = parsed(&text);
        assert_eq!(file.variables["B"].len(), 60_000);
        // The first four fit.
        assert_eq!(file.errors.len(), 6);
        assert!(
            parsed(&format!("A={block}\nB={block}{block}{block}\n")).errors.is_empty(),
            "nothing is filled in"
        );
    }

    #[test]
    fn large_file_is_read_in_linear_time() {
        // A look at the rest of the line at each of these would be a look at 2 GB and more.
        for unit in
            ["a ", "  ", "$ ", "${", "${a ", "${a ${", "$a", "$", "${EMPTY}", "\\$ ", "' '", "\"a \" "]
        {
            for end in ["", "}", "x", "\n"] {
                let text = format!("A={}{end}", unit.repeat(SIZE_LIMIT / unit.len()));
                if let Ok(file) = parse(&text, &environment()) {
                    assert!(file.variables["A"].len() <= text.len(), "{unit}");
                }
            }
        }
    }

    #[test]
    fn many_bad_lines_are_counted() {
        let errors = parse(&"x\n".repeat(100_000), &environment()).expect_err("errors");
        assert_eq!(errors.len(), FAULT_LIMIT + 1);
        let last = errors.last().map(ToString::to_string);
        insta::assert_snapshot!(last.unwrap_or_default(), @"ROTEL_ENV_FILE: line 100000 is the last of 99980 more like these");
        assert_eq!(parsed(&"A=$x\n".repeat(100_000)).warnings.len(), FAULT_LIMIT + 1);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"([A-C]=)?([$'"\\{}#= \n\r\x00a-c]|\PC|\$\{arn:|export ){0,40}"#) {
            let _ = parse(&text, &environment());
        }

        #[test]
        fn what_stands_in_single_quotes_comes_out_as_it_is(text in "[^'\x00\r]{0,20}") {
            prop_assert_eq!(value(&format!("'{text}'")), text);
        }

        #[test]
        fn a_reference_survives_whatever_stands_around_it(
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

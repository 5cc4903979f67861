//! The file that `ROTEL_ENV_FILE` names: dotenv syntax, with `${NAME}` filled from the environment or from earlier lines.
//!
//! Decides where an entry begins and ends and what each `$` in it means; quotes, escapes, `export` and comments are
//! dotenvy's. That would fill `${NAME}` too, but from the process environment, which is not ours to read here, and it
//! takes `${arn:…}` for a variable that nobody has set. So whatever is not for it to see is replaced by a mark before an
//! entry is handed over, and put back into the value that comes out. Promises that secret references survive every kind
//! of quoting, and that no message shows anything of a line: it may be a credential. Reading the file is left to `app`.

use std::fmt;

use super::{Fault, Variables};
use rotel_core::echo;

/// The variable that names the file.
const VARIABLE: &str = "ROTEL_ENV_FILE";

/// Stands in an entry for what dotenvy is not to see. No environment can hold it, so that it never means itself.
const MARK: char = '\0';

/// What a file holds.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EnvFile {
    /// Its variables, which win over the environment's.
    pub variables: Variables,
    /// What is odd, but does no harm.
    pub warnings: Vec<Fault>,
}

/// Without the variables, which may hold credentials.
impl fmt::Debug for EnvFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvFile").field("warnings", &self.warnings).finish_non_exhaustive()
    }
}

/// Why there is no text to parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// No such file.
    Missing,
    /// It is a directory.
    Directory,
    /// The extension may not read it.
    Denied,
    /// It is not UTF-8.
    NotText,
    /// It is larger than any such file.
    TooLarge,
    /// Anything else.
    Broken,
}

impl Unreadable {
    /// What to tell.
    pub fn fault(self, path: &str) -> Fault {
        let path = echo::path(path);
        let problem = match self {
            Self::Missing => format!(
                "{path} is not there; put the file into the bundle, whose files are in /var/task, or correct the path"
            ),
            Self::Directory => format!("{path} is a directory; write the path of the file in it"),
            Self::Denied => {
                format!("{path} may not be read; make it readable for everyone (chmod 644) in the bundle")
            }
            Self::TooLarge => format!("{path} is too large for a file of settings; check the path"),
            Self::NotText => format!("{path} is not UTF-8; save it as UTF-8"),
            Self::Broken => format!("{path} cannot be read; check that it is a file"),
        };
        Fault { variable: VARIABLE.to_owned(), problem }
    }
}

/// Parses a file's text. The faults are all there are, each with its line; where one is, no variable of the file holds.
pub fn parse(text: &str, environment: &Variables) -> Result<EnvFile, Vec<Fault>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let told = |line: usize, problem: &str| Fault {
        variable: VARIABLE.to_owned(),
        problem: format!("line {line} {problem}"),
    };
    let mut file = EnvFile::default();
    let mut faults = Vec::new();
    let mut cursor = Cursor { rest: &text, line: 1 };
    while !cursor.rest.is_empty() {
        let line = cursor.line;
        let first = cursor.rest.lines().next().unwrap_or_default().trim();
        if first.is_empty() || first.starts_with('#') {
            cursor.skip_line();
            continue;
        }
        let known = |name: &str| environment.get(name).or_else(|| file.variables.get(name)).cloned();
        match Entry::scan(&mut cursor, known) {
            Ok(Entry { name, value, unset }) => {
                if unset {
                    file.warnings.push(told(
                        line,
                        "uses a variable that is not set, and leaves it empty; set it, or write \\$ for a dollar sign itself",
                    ));
                }
                file.variables.insert(name, value);
            }
            Err(problem) => faults.push(told(line, problem)),
        }
    }
    if faults.is_empty() { Ok(file) } else { Err(faults) }
}

/// One variable.
struct Entry {
    name: String,
    value: String,
    /// Whether it uses a variable that nobody has set.
    unset: bool,
}

impl Entry {
    /// Takes the cursor behind the entry that begins there, whether it can be taken or not.
    fn scan(cursor: &mut Cursor<'_>, known: impl Fn(&str) -> Option<String>) -> Result<Self, &'static str> {
        let first = cursor.rest.split('\n').next().unwrap_or_default();
        let Some((name, _)) = first.split_once('=') else {
            cursor.skip_line();
            return Err("has no \"=\"; write NAME=value, or # before a comment");
        };
        let exported =
            name.trim().strip_prefix("export").filter(|rest| rest.starts_with(char::is_whitespace));
        if !is_name(exported.unwrap_or(name).trim(), ".") {
            cursor.skip_line();
            return Err("has something else than a name before its \"=\"; use letters, digits and _ there");
        }
        let mut value = Value::default();
        while let Some(c) = cursor.next() {
            value.given.push(c);
            if c == '=' {
                break;
            }
        }
        value.scan(cursor, known);
        match value.problem {
            Some(problem) => Err(problem),
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
struct Value {
    /// The entry as dotenvy gets it.
    given: String,
    /// What the marks in it stand for.
    marked: Vec<String>,
    unset: bool,
    /// The first thing that is wrong. The scan goes on behind it, to where the entry ends.
    problem: Option<&'static str>,
}

impl Value {
    fn scan(&mut self, cursor: &mut Cursor<'_>, known: impl Fn(&str) -> Option<String>) {
        let mut quoted = Quoted::Not;
        // Behind the "=" a comment may begin at once.
        if cursor.rest_of_line().trim_start().starts_with('#') {
            return cursor.skip_line();
        }
        cursor.skip_blanks();
        while let Some(c) = cursor.next() {
            match (quoted, c) {
                (_, MARK) => self.wrong("holds a NUL character; remove it"),
                (Quoted::Not, '\n') => return,
                (Quoted::Not, blank) if blank.is_whitespace() => {
                    let behind = cursor.rest_of_line().trim_start();
                    if behind.is_empty() || behind.starts_with('#') {
                        return cursor.skip_line();
                    }
                    // dotenvy ends an unquoted value here, but Rotel's own guide has a value like this one.
                    self.mark(blank);
                }
                (Quoted::Not | Quoted::Double, '\\') => self.escape(cursor),
                (Quoted::Not | Quoted::Double, '$') => self.dollar(cursor, &known),
                // To dotenvy a backslash before the closing quote is an escape in one place and none in another.
                (Quoted::Single, '\\') => self.mark(c),
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

    fn dollar(&mut self, cursor: &mut Cursor<'_>, known: impl Fn(&str) -> Option<String>) {
        let rest = cursor.rest;
        let name = match rest.strip_prefix('{') {
            _ if rest.starts_with("{arn:") || rest.starts_with("<arn:") => return self.mark('$'),
            Some(braced) => {
                let Some((name, _)) =
                    cursor.rest_of_line().strip_prefix('{').and_then(|rest| rest.split_once('}'))
                else {
                    return self.wrong(
                        "has a \"${\" without its \"}\"; write ${NAME}, or \\$ for a dollar sign itself",
                    );
                };
                if !is_name(name, "") {
                    return self.wrong(
                        "has something else than a name within \"${\" and \"}\"; write ${NAME}, or \\$ for a dollar sign itself",
                    );
                }
                cursor.rest = braced.get(name.len() + 1..).unwrap_or_default();
                name
            }
            None => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                let (name, behind) = rest.split_at_checked(end).unwrap_or_default();
                if !is_name(name, "") {
                    return self.mark('$');
                }
                cursor.rest = behind;
                name
            }
        };
        let value = known(name);
        self.unset |= value.is_none();
        self.mark(value.unwrap_or_default());
    }

    fn mark(&mut self, stands_for: impl Into<String>) {
        self.given.push(MARK);
        self.marked.push(stands_for.into());
    }

    fn wrong(&mut self, problem: &'static str) {
        self.problem.get_or_insert(problem);
    }

    /// Has dotenvy read the entry, and puts back what the marks stand for.
    fn parse(mut self) -> Result<Entry, &'static str> {
        // At the end of a text dotenvy refuses an entry that a line break would complete.
        self.given.push('\n');
        let Some(Ok((name, marked))) = dotenvy::from_read_iter(self.given.as_bytes()).next() else {
            return Err("is not NAME=value; put the value into single quotes");
        };
        let mut parts = marked.split(MARK);
        let mut value = parts.next().unwrap_or_default().to_owned();
        for (stands_for, behind) in self.marked.iter().zip(parts) {
            value.push_str(stands_for);
            value.push_str(behind);
        }
        Ok(Entry { name, value, unset: self.unset })
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
    use rotel_core::secret_ref;

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
        let faults: Vec<_> =
            parse(text, &environment()).expect_err("faults").iter().map(ToString::to_string).collect();
        assert!(!faults.join("\n").contains("hunter"));
        insta::assert_snapshot!(faults.join("\n"), @r#"
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
    fn a_file_that_cannot_be_read_is_told_with_its_path() {
        let told = [
            Unreadable::Missing,
            Unreadable::Directory,
            Unreadable::Denied,
            Unreadable::NotText,
            Unreadable::Broken,
        ]
        .map(|reason| reason.fault("/var/task/rotel.env").to_string());
        insta::assert_snapshot!(told.join("\n"), @r#"
        ROTEL_ENV_FILE: "/var/task/rotel.env" is not there; put the file into the bundle, whose files are in /var/task, or correct the path
        ROTEL_ENV_FILE: "/var/task/rotel.env" is a directory; write the path of the file in it
        ROTEL_ENV_FILE: "/var/task/rotel.env" may not be read; make it readable for everyone (chmod 644) in the bundle
        ROTEL_ENV_FILE: "/var/task/rotel.env" is not UTF-8; save it as UTF-8
        ROTEL_ENV_FILE: "/var/task/rotel.env" cannot be read; check that it is a file
        "#);
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

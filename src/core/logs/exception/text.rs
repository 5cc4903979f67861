//! Exceptions as languages and their runtimes print them.

use super::Exception;

const TRACEBACK: &str = "Traceback (most recent call last):";
/// The first words with which Go's `net/http` logs the panic of a handler.
const HTTP_PANIC: &str = "http: panic serving ";
const CPP_TERMINATE: &str = "terminate called after throwing an instance of '";
const GROUP_TRACEBACK: &str = "+ Exception Group Traceback (most recent call last):";

/// Returns true for the beginning of an uncaught error.
pub(in crate::logs) fn is_crash(text: &str) -> bool {
    let starts = |prefix: &str| text.starts_with(prefix);
    match text.as_bytes().first() {
        Some(b'T') => starts(TRACEBACK),
        Some(b' ') => text.trim_start_matches(' ').starts_with(GROUP_TRACEBACK),
        Some(b'E') => starts("Exception in thread \""),
        Some(b'p') => starts("panic: "),
        Some(b'h') => starts(HTTP_PANIC),
        Some(b'f') => {
            starts("fatal error: ")
                && (text.contains("\ngoroutine ") || starts("fatal error: all goroutines are asleep"))
        }
        Some(b'F') => starts("Fatal error: ") || starts("Fatal Python error: ") || starts("FATAL ERROR: "),
        Some(b't') => rust_thread(text).is_some() || starts(CPP_TERMINATE),
        Some(b'g') => starts("goroutine ") && text.lines().next().is_some_and(|line| line.ends_with("]:")),
        Some(b'n') => starts("node:internal/process/promises"),
        Some(b'U') => starts("Unhandled exception. ") || starts("Unhandled Exception: "),
        Some(b'*') => elixir_kind(text).is_some(),
        Some(b'<') => starts("<--- Last few GCs --->"),
        _ => false,
    }
}

/// Returns true for an uncaught error that nothing else begins like. It is an error whatever level the console gave it.
pub(in crate::logs) fn is_certain_crash(text: &str) -> bool {
    is_java_trace(text)
        || is_crash(text)
            && match text.as_bytes().first() {
                Some(b'p') => text.contains("\ngoroutine "),
                Some(b'F' | b'g' | b'n') => false,
                _ => true,
            }
}

/// Returns true for a text that is nothing but a Java stack trace.
fn is_java_trace(text: &str) -> bool {
    let (first, frames) =
        text.split_at_checked(text.bytes().position(|byte| byte == b'\n').unwrap_or(0)).unwrap_or_default();
    frames.starts_with("\n\tat ") && type_and_message(first).is_some_and(|(kind, _)| kind.contains('.'))
}

/// Finds an exception in a text.
pub(super) fn find(text: &str) -> Option<Exception> {
    let first = text.bytes().position(|byte| byte == b'\n');
    match text.as_bytes().first()? {
        b'p' | b'f' if let Some(exception) = go_panic(text) => return Some(exception),
        b't' if let Some(exception) = rust_panic(text).or_else(|| cpp_terminate(text)) => {
            return Some(exception);
        }
        b'h' if let Some(exception) = http_panic(text) => return Some(exception),
        b' ' if first.is_some() && text.starts_with("  File \"") => {
            return Some(of_traceback(text, 0)).filter(|exception| exception.kind.is_some());
        }
        _ => {}
    }
    let Some(first) = first else { return of_one_line(text) };
    let found = match Trace::of(text) {
        Some(Trace::Python(at)) => return Some(of_traceback(text, at)),
        Some(Trace::PythonGroup(at)) => return Some(of_group(text, at)),
        Some(Trace::Frames) => java_or_javascript(text, first),
        Some(Trace::Ruby) => ruby(text),
        Some(Trace::Php) => php(text),
        Some(Trace::Elixir) => elixir(text),
        None => None,
    };
    found.or_else(|| of_one_line(text))
}

/// The kind of a stack trace, by the first line that only such a trace has.
enum Trace {
    /// With the offset of the trace in the text.
    Python(usize),
    PythonGroup(usize),
    Frames,
    Ruby,
    Php,
    Elixir,
}

impl Trace {
    fn of(text: &str) -> Option<Self> {
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let inner = line.trim_start_matches([' ', '\t']);
            let indent = line.len() - inner.len();
            let found = match inner.as_bytes().first() {
                Some(b'T') if inner.starts_with(TRACEBACK) => Some(Self::Python(start + indent)),
                // `format_exc()` behind a text
                _ if line.trim_end().ends_with(TRACEBACK) && !inner.starts_with('+') => {
                    Some(Self::Python(start + line.trim_end().len() - TRACEBACK.len()))
                }
                Some(b'+') if inner.starts_with(GROUP_TRACEBACK) => Some(Self::PythonGroup(start + indent)),
                Some(b'a') if start > 0 && indent > 0 && inner.starts_with("at ") => Some(Self::Frames),
                Some(b'f') if start > 0 && indent > 0 && inner.starts_with("from ") => Some(Self::Ruby),
                Some(b'#') if start > 0 && indent == 0 && inner.starts_with("#0 ") => Some(Self::Php),
                Some(b'/') if start > 0 && indent == 0 && is_ruby_frame(inner) => Some(Self::Ruby),
                Some(b'*') if indent == 0 && inner.starts_with("** (") => Some(Self::Elixir),
                _ => None,
            };
            if found.is_some() {
                return found;
            }
            start += line.len();
        }
        None
    }
}

/// Reads what Java and .NET print before an exception that nobody caught, with nothing after it.
fn of_one_line(text: &str) -> Option<Exception> {
    let first = text.lines().next()?;
    // These ends are looked at first, because they are rare and quickly seen.
    if text.ends_with(['}', ']']) && first.contains("[object] (") {
        return php(text);
    }
    if first.ends_with(')') && is_ruby_frame(first) {
        return ruby(text);
    }
    let introduced = after_introduction(first);
    let (kind, message) = type_and_message(introduced.unwrap_or(first))?;
    // Without an introduction, only a qualified name is certain: `java.lang.OutOfMemoryError: Java heap space`.
    let is_qualified =
        || kind.matches('.').count() >= 2 && (kind.ends_with("Error") || kind.ends_with("Exception"));
    if introduced.is_none() && !is_qualified() {
        return None;
    }
    Some(Exception { kind: Some(kind.to_owned()), message: message.map(str::to_owned), stacktrace: None })
}

/// Reads a stack trace as Java, .NET and JavaScript print it: `Type: message`, then frames. `first` is the end of the first line.
fn java_or_javascript(text: &str, first: usize) -> Option<Exception> {
    let mut breaks = text.bytes().enumerate().skip(first).filter(|(_, byte)| *byte == b'\n');
    let (frames, _) = breaks.find(|(at, _)| text.get(at + 1..).is_some_and(is_frame))?;
    let head = text.get(..frames)?;
    // The message may have several lines, so the first line that begins with a type is the start.
    let mut start = 0;
    for line in head.split_inclusive('\n') {
        let stripped = line.trim_end();
        let introduced = after_introduction(stripped);
        if let Some((kind, message)) = type_and_message(introduced.unwrap_or(stripped)) {
            let after = head.get(start + line.len()..).unwrap_or_default();
            let message = message.map(|first| without_inner(first, after));
            let stacktrace = text.get(start..).map(|stack| stack.trim_end().to_owned());
            return Some(Exception { kind: Some(kind.to_owned()), message, stacktrace });
        }
        start += line.len();
    }
    let at = type_within(head)?;
    let stack = text.get(at..)?;
    let (first, after) =
        stack.get(..frames - at)?.split_once('\n').unwrap_or((stack.get(..frames - at)?, ""));
    let (kind, message) = type_and_message(first)?;
    Some(Exception {
        kind: Some(kind.to_owned()),
        message: message.map(|message| without_inner(message, after)),
        stacktrace: Some(stack.trim_end().to_owned()),
    })
}

/// Finds the type of an exception that follows the text of a line: `charge refused: java.io.IOException: closed`.
fn type_within(head: &str) -> Option<usize> {
    let mut from = 0;
    let ends = std::iter::from_fn(|| {
        let end = from + colon(head.get(from..)?)?;
        from = end + 1;
        Some(end)
    });
    ends.chain([head.len()]).find_map(|end| {
        let before = head.get(..end)?;
        // Node.js prints the code of an error beside its type.
        let word = before
            .strip_suffix(']')
            .and_then(|before| before.rsplit_once(" ["))
            .map_or(before, |(word, _)| word);
        let start = word.rfind([' ', '\n', '|']).map_or(0, |space| space + 1);
        let (kind, _) = type_and_message(word.get(start..)?)?;
        let is_type = !kind.ends_with("Warning") && kind.len() == word.len() - start;
        is_type.then_some(start)
    })
}

/// Joins the lines of a message, without .NET's inner exception.
fn without_inner(first: &str, after: &str) -> String {
    let whole = if after.is_empty() { first.to_owned() } else { format!("{first}\n{after}") };
    let inner = whole.find("\n ---> ").or_else(|| whole.find(" ---> "));
    inner.and_then(|inner| whole.get(..inner)).map(str::to_owned).unwrap_or(whole)
}

/// Removes what stands before the type of an exception that nobody caught.
fn after_introduction(line: &str) -> Option<&str> {
    if let Some(rest) = line.strip_prefix("Exception in thread \"") {
        return rest.split_once("\" ").map(|(_, rest)| rest);
    }
    [
        "Unhandled exception. ",
        "Unhandled Exception: ",
        "Fatal error: Uncaught ",
        "Uncaught exception: ",
        "Uncaught ",
    ]
    .iter()
    .find_map(|introduction| line.strip_prefix(introduction))
}

/// Reads a Python traceback. Python prints the exception after it, and Python's Lambda runtime before it. Of several, the
/// last is the one that was raised.
fn of_traceback(text: &str, at: usize) -> Exception {
    let (before, stack) = text.split_at_checked(at).unwrap_or((text, ""));
    // Tornado indents it.
    let indent = before.len() - before.trim_end_matches(' ').len();
    let unindented = |line: &'_ str| line.get(..indent).is_some_and(|start| start.trim().is_empty());
    let lines = stack
        .lines()
        .map(move |line| if unindented(line) { line.get(indent..).unwrap_or(line) } else { line });
    let lines: Vec<&str> = lines.collect();
    let last = lines.iter().rposition(|line| type_and_message(line).is_some());
    let after = last.and_then(|last| type_and_message(lines.get(last)?));
    let found = after.or_else(|| before.lines().find_map(type_and_message));
    let found = found.or_else(|| stack.lines().rev().find_map(any_type_and_message));
    let (kind, message) = found.unzip();
    // The message may have several lines. `logging` adds the stack of its call after it.
    let more = last.filter(|_| after.is_some()).and_then(|last| lines.get(last + 1..)).unwrap_or_default();
    let more = more.iter().take_while(|line| **line != "Call stack:").copied().collect::<Vec<_>>().join(
        "
",
    );
    let message = message.flatten().map(|first| [first, more.trim_end()].join("\n").trim_end().to_owned());
    Exception { kind: kind.map(str::to_owned), message, stacktrace: Some(stack.trim_end().to_owned()) }
}

/// Reads the traceback of a Python exception group.
fn of_group(text: &str, at: usize) -> Exception {
    let start = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
    let stack = text.get(start..).unwrap_or_default();
    let own = stack.lines().take_while(|line| !line.trim_start().starts_with("+-+"));
    let found = own.filter_map(|line| type_and_message(line.trim_start().strip_prefix("| ")?)).last();
    let (kind, message) = found.unzip();
    Exception {
        kind: kind.map(str::to_owned),
        message: message.flatten().map(str::to_owned),
        stacktrace: Some(stack.trim_end().to_owned()),
    }
}

/// Reads `panic: message` and, if they are there, the goroutines.
fn go_panic(text: &str) -> Option<Exception> {
    let kind = if text.starts_with("panic: ") { "panic" } else { "fatal error" };
    let message = text.strip_prefix(kind)?.strip_prefix(": ")?;
    let goroutines = message.find("\ngoroutine ");
    if kind != "panic" {
        goroutines?;
    }
    let end = goroutines.unwrap_or(message.len());
    Some(Exception {
        kind: Some(kind.to_owned()),
        message: message.get(..end).map(|message| message.trim_end().to_owned()),
        stacktrace: goroutines.map(|_| text.trim_end().to_owned()),
    })
}

/// Reads `thread 'main' panicked at src/main.rs:14:5:` and the message after it, which may be a record of its own.
fn rust_panic(text: &str) -> Option<Exception> {
    let at = rust_thread(text)?;
    let (first, after) = at.split_once('\n').unwrap_or((at, ""));
    // Before Rust 1.73 the message came first: `'no stock', src/main.rs:14:5`.
    let old =
        first.strip_prefix('\'').and_then(|quoted| quoted.rsplit_once("', ")).map(|(message, _)| message);
    let message = old.or_else(|| after.split("\nstack backtrace:").next()?.split("\nnote: ").next());
    Some(Exception {
        kind: Some("panic".to_owned()),
        message: message.filter(|message| !message.is_empty()).map(|message| message.trim_end().to_owned()),
        stacktrace: (!after.is_empty()).then(|| text.trim_end().to_owned()),
    })
}

/// Reads `http: panic serving <address>: <message>` and the goroutines.
fn http_panic(text: &str) -> Option<Exception> {
    let (_, message) = text.strip_prefix(HTTP_PANIC)?.split_once(": ")?;
    let goroutines = message.find("\ngoroutine ");
    Some(Exception {
        kind: Some("panic".to_owned()),
        message: message.get(..goroutines.unwrap_or(message.len())).map(str::to_owned),
        stacktrace: goroutines.map(|_| text.trim_end().to_owned()),
    })
}

/// Reads what C++'s runtime prints for an exception: its type, and its message on the next line.
fn cpp_terminate(text: &str) -> Option<Exception> {
    let (kind, rest) = text.strip_prefix(CPP_TERMINATE)?.split_once('\'')?;
    let message = rest.split_once("what():").and_then(|(_, message)| message.lines().next());
    Some(Exception {
        kind: Some(kind.to_owned()),
        message: message.map(|message| message.trim().to_owned()),
        stacktrace: None,
    })
}

/// The rest of a panic's first line, after the thread's name and, since Rust 1.91, its id.
fn rust_thread(text: &str) -> Option<&str> {
    let (_, rest) = text.strip_prefix("thread '")?.split_once("' ")?;
    let rest = rest.strip_prefix('(').and_then(|rest| rest.split_once(") ")).map_or(rest, |(_, rest)| rest);
    rest.strip_prefix("panicked at ")
}

/// Reads Ruby's ``app.rb:3:in `handle': message (Type)`` and the frames below it, or its logger's `message (Type)` and the
/// frames.
fn ruby(text: &str) -> Option<Exception> {
    let head = text.split('\n').next()?;
    let exception = |kind: &str, message: &str| Exception {
        kind: Some(kind.to_owned()),
        message: Some(message.to_owned()),
        stacktrace: Some(text.trim_end().to_owned()),
    };
    // Semantic Logger
    if let Some((_, described)) = head.split_once("Exception: ")
        && let Some((kind, message)) = any_type_and_message(described)
    {
        return Some(exception(kind, message.unwrap_or_default()));
    }
    let described =
        if is_ruby_frame(head) { head.split_once("': ").map(|(_, described)| described)? } else { head };
    let (message, kind) = described.strip_suffix(')')?.rsplit_once(" (")?;
    is_ruby_constant(kind).then(|| exception(kind, message))
}

/// Returns true for ``/var/task/app.rb:3:in `handle'``.
fn is_ruby_frame(line: &str) -> bool {
    let at = line.find(":in `").or_else(|| line.find(":in '"));
    let place = at.and_then(|at| line.get(..at)).unwrap_or_default();
    place
        .rsplit_once(':')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_ruby_constant(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte))
}

/// Reads PHP's `Uncaught Type: message in file:line` and Monolog's `[object] (Type(code: 0): message at file:line)`.
fn php(text: &str) -> Option<Exception> {
    let stacktrace = text.contains("\n#0 ").then(|| text.trim_end().to_owned());
    let (kind, message) = if let Some((_, object)) = text.split_once("[object] (") {
        let (kind, after) = object.split_once("(code: ")?;
        let (_, after) = after.split_once("): ")?;
        (kind, after.split_once(" at /").map_or(after, |(message, _)| message))
    } else {
        // Of several exceptions, the last printed is the outer one.
        let next = text.rfind("\n\nNext ").and_then(|at| text.get(at + "\n\nNext ".len()..));
        let described = next.or_else(|| text.split_once("Uncaught ").map(|(_, rest)| rest)).unwrap_or(text);
        let (kind, message) = any_type_and_message(described.split('\n').next()?)?;
        let message = message.unwrap_or_default();
        (kind, message.rsplit_once(" in /").map_or(message, |(message, _)| message))
    };
    Some(Exception { kind: Some(kind.to_owned()), message: Some(message.to_owned()), stacktrace })
}

/// Reads Elixir's `** (RuntimeError) message` and the frames below it.
fn elixir(text: &str) -> Option<Exception> {
    let start = if text.starts_with("** (") { 0 } else { text.find("\n** (")? + 1 };
    let stack = text.get(start..)?;
    let (kind, rest) = elixir_kind(stack)?;
    let message = rest.split('\n').next().unwrap_or(rest);
    Some(Exception {
        kind: Some(kind.to_owned()),
        message: Some(message.to_owned()),
        stacktrace: rest.contains("\n    ").then(|| stack.trim_end().to_owned()),
    })
}

/// Splits `** (Type) message`. The kinds of exits are written in small letters.
fn elixir_kind(text: &str) -> Option<(&str, &str)> {
    let (kind, rest) = text.strip_prefix("** (")?.split_once(") ")?;
    let is_kind = matches!(kind, "exit" | "throw")
        || kind.starts_with("EXIT")
        || is_ruby_constant(&kind.replace('.', "::"));
    is_kind.then_some((kind, rest))
}

/// Returns true for a stack frame as Java, .NET and JavaScript print it: it has a call, a path or a place in the code.
fn is_frame(line: &str) -> bool {
    let unindented = line.trim_start_matches([' ', '\t']);
    let call = unindented.strip_prefix("at ").filter(|_| unindented.len() < line.len());
    let end = call.and_then(|call| call.split('\n').next());
    end.is_some_and(|call| call.contains(['(', '.', ':', '<']))
}

/// Parses `java.lang.IllegalStateException: boom`, or the type alone.
pub(in crate::logs) fn type_and_message(line: &str) -> Option<(&str, Option<&str>)> {
    let (kind, message) = any_type_and_message(line)?;
    // A word before a colon is a type only if it looks like one.
    let last = kind.rsplit(['.', '$']).next()?;
    let named = last.contains("Error")
        || last.contains("Exception")
        || ["Interrupt", "Exit", "Warning", "Failure", "Fault", "Timeout", "Expired"]
            .iter()
            .any(|end| last.ends_with(end))
        || (kind.contains('.') && message.is_some());
    named.then_some((kind, message))
}

/// Parses `Type: message`, or the type alone, where nothing else can stand.
fn any_type_and_message(line: &str) -> Option<(&str, Option<&str>)> {
    let (kind, message) = match colon(line) {
        Some(at) => (line.get(..at)?, line.get(at + 2..)),
        None => (line, None),
    };
    // Node.js prints the code of an error beside its type.
    let kind = kind.split_once(" [").filter(|(_, code)| code.ends_with(']')).map_or(kind, |(kind, _)| kind);
    let word = kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._$`".contains(&byte));
    (word && kind.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_'))
        .then_some((kind, message))
}

/// The place of the first colon with a space after it.
fn colon(text: &str) -> Option<usize> {
    text.as_bytes().array_windows().position(|pair| pair == b": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> String {
        find(text).map_or("–".to_owned(), |Exception { kind, message, stacktrace }| {
            let stack = stacktrace.unwrap_or_default();
            format!(
                "{} | {} | {}",
                kind.unwrap_or_default(),
                message.unwrap_or_default(),
                stack.lines().next().unwrap_or_default()
            )
        })
    }

    #[test]
    fn exceptions_of_all_languages_are_found() {
        let texts = [
            "failed\nTraceback (most recent call last):\n  File \"a.py\", line 1, in h\n    1/0\nZeroDivisionError: division by zero",
            "Error: boom: x\nTraceback (most recent call last):\n\u{a0}\u{a0}File \"a.py\", line 1, in h\n\u{a0}\u{a0}\u{a0}\u{a0}raise",
            "Traceback (most recent call last):\n  File \"a.py\", line 1, in h\nbotocore.exceptions.ClientError: An error\nof two lines",
            "stopped\nTraceback (most recent call last):\n  File \"a.py\", line 1, in h\nKeyboardInterrupt",
            "  + Exception Group Traceback (most recent call last):\n  |   File \"a.py\", line 10, in main\n  | ExceptionGroup: two tasks (2 sub-exceptions)\n  +-+---------------- 1 ----------------\n    | Traceback (most recent call last):\n    | ZeroDivisionError: division by zero\n    +------------------------------------",
            "failed\njava.lang.IllegalStateException: boom\n\tat L.main(L.java:4) [j/:?]\nCaused by: java.io.IOException: x\n\tat L.a(L.java:2)",
            "java.lang.NullPointerException\n\tat L.main(L.java:4)",
            "Exception in thread \"pool-1-thread-1\" java.lang.OutOfMemoryError: Java heap space\n\tat L.main(L.java:4)",
            "Exception in thread \"main\" java.lang.OutOfMemoryError",
            "failed\nSystem.InvalidOperationException: boom\n   at Function.Handler() in /src/F.cs:line 3",
            "Unhandled exception. System.InvalidOperationException: boom\n ---> System.IO.IOException: closed\n   at F.G() in /src/F.cs:line 3\n   --- End of inner exception stack trace ---",
            "TypeError: no stock\n    at file:///var/task/index.mjs:6:47",
            "TypeError [ERR_INVALID_ARG_TYPE]: no stock\nat all\n    at file:///var/task/index.mjs:6:47",
            "panic: runtime error: index out of range\n\ngoroutine 1 [running]:\nmain.main()",
            "panic: no stock",
            "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [select (no cases)]:",
            "thread 'main' panicked at src/main.rs:14:5:\nno stock\nnote: run with",
            "thread 'main' (8) panicked at src/main.rs:14:5:",
            "charge refused: java.io.IOException: closed\n\tat L.main(L.java:4)",
            "  File \"app.py\", line 2\n    print(1)\n    ^\nIndentationError: expected an indented block",
            "thread 'main' panicked at 'no stock', src/main.rs:14:5",
            "app.rb:3:in `handle': no stock (RuntimeError)\n\tfrom app.rb:7:in `<main>'",
            "PHP Fatal error:  Uncaught RuntimeException: no stock in /var/task/index.php:3\nStack trace:\n#0 /var/task/index.php(7): f()\n#1 {main}",
            "failed {\"exception\":\"[object] (RuntimeException(code: 0): no stock at /var/task/index.php:3)\n[stacktrace]\n#0 {main}",
            "** (RuntimeError) no stock\n    (app 0.1.0) lib/app.ex:3: App.run/0",
        ];
        insta::assert_snapshot!(texts.map(found).join("\n"), @r#"
        ZeroDivisionError | division by zero | Traceback (most recent call last):
        Error | boom: x | Traceback (most recent call last):
        botocore.exceptions.ClientError | An error
        of two lines | Traceback (most recent call last):
        KeyboardInterrupt |  | Traceback (most recent call last):
        ExceptionGroup | two tasks (2 sub-exceptions) |   + Exception Group Traceback (most recent call last):
        java.lang.IllegalStateException | boom | java.lang.IllegalStateException: boom
        java.lang.NullPointerException |  | java.lang.NullPointerException
        java.lang.OutOfMemoryError | Java heap space | Exception in thread "pool-1-thread-1" java.lang.OutOfMemoryError: Java heap space
        java.lang.OutOfMemoryError |  | 
        System.InvalidOperationException | boom | System.InvalidOperationException: boom
        System.InvalidOperationException | boom | Unhandled exception. System.InvalidOperationException: boom
        TypeError | no stock | TypeError: no stock
        TypeError | no stock
        at all | TypeError [ERR_INVALID_ARG_TYPE]: no stock
        panic | runtime error: index out of range | panic: runtime error: index out of range
        panic | no stock | 
        fatal error | all goroutines are asleep - deadlock! | fatal error: all goroutines are asleep - deadlock!
        panic | no stock | thread 'main' panicked at src/main.rs:14:5:
        panic |  | 
        java.io.IOException | closed | java.io.IOException: closed
        IndentationError | expected an indented block |   File "app.py", line 2
        panic | no stock | 
        RuntimeError | no stock | app.rb:3:in `handle': no stock (RuntimeError)
        RuntimeException | no stock | PHP Fatal error:  Uncaught RuntimeException: no stock in /var/task/index.php:3
        RuntimeException | no stock | failed {"exception":"[object] (RuntimeException(code: 0): no stock at /var/task/index.php:3)
        RuntimeError | no stock | ** (RuntimeError) no stock
        "#);
    }

    #[test]
    fn similar_text_has_no_exception() {
        for text in [
            "TypeError: no stock",
            "we met\n    at noon",
            "note: we met\n    at noon",
            "two\nlines",
            "fatal error: in the text",
            "thread 'main' is at work",
            "1. first\n#0 of the list",
            "",
        ] {
            assert_eq!(find(text), None, "{text}");
        }
    }

    #[test]
    fn crash_is_known_by_its_beginning() {
        for text in [
            "Traceback (most recent call last):",
            "panic: x",
            "thread 'main' panicked at a.rs:1:1:",
            "** (exit) x",
        ] {
            assert!(is_crash(text), "{text}");
        }
        for text in ["Traceback", "don't panic: x", "thread 'main' is at work", "fatal error: x", ""] {
            assert!(!is_crash(text), "{text}");
        }
    }
}

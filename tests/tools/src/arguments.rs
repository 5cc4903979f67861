//! The arguments of the command.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use lambda_sandbox::collector::Protocol;

use super::{bench, fleet, gates};

pub(crate) const HELP: &str = "\
Runs a Lambda extension in an emulated execution environment, with an OTLP collector for it to send to.

usage:
  lambda-sandbox demo --extension PATH [--protocol grpc|http] [--env K=V]...
      Runs a sample function: cold start, a few invocations, a freeze, a shutdown. Fails unless everything that the
      function emitted reached the collector exactly once.
  lambda-sandbox run --extension PATH [options]
      Runs your function with your events and settings.
  lambda-sandbox bench --extension PATH [--runs N] [--against [NAME=]PATH [--against-env K=V]...]... [--zip PATH]
      [--docs FOLDER] [--gate]
      Measures what an extension costs, against targets and beside a minimal extension and any other.
  lambda-sandbox bench startup --extension PATH [--runs N]
      Measures the time from exec to the first /next, without secrets and with three that AWS answers in 300 ms.
      Fails if the secrets add more than 1 ms to the median.
  lambda-sandbox bench functions --extension PATH --into FILE
      Records with valgrind which functions of an extension with symbols run in ordinary use.
  lambda-sandbox fleet [options]
      Simulates what each flush strategy costs a fleet: requests and bytes at the backend, age of the data, and the time
      and dollars billed on top of the functions.
  lambda-sandbox gates --extension PATH --paths PATH --baseline FILE [--accept]
      Counts instructions, allocations and bytes with valgrind. Fails if they exceed the baseline by more than 3 %.

options:
  --extension PATH      the extension's executable; its file name is its name
  --function COMMAND    a shell command that speaks the Runtime API, such as \"python3 -m awslambdaric app.handler\";
                        without it, the sample function
  --invocations N       number of invocations (default 3)
  --events FILE         a JSON array of payloads, one invocation each
  --protocol grpc|http  protocol from the extension to the collector (default grpc)
  --env K=V             an environment variable of the function and the extension; {ip} in the value stands for
                        the environment's address
  --freeze MS           freeze between invocations (default 0; demo 1000)
  --timeout MS          the function's timeout (default 15000)
  --memory MB           the function's memory size (default 128)
  --json                the JSON log format
  --runs N              number of runs of each kind (default 20)
  --against [NAME=]PATH another extension to measure; may be repeated
  --against-env K=V     an environment variable of the --against before it; {endpoint} and {ca} in the value stand for the
                        endpoint and its certificate in PEM
  --zip PATH            the published zip
  --into FILE           the file for the names of the functions
  --docs FOLDER         writes the table into FOLDER/docs/performance.md; with --against, also the short table into
                        FOLDER/README.md and the chart into FOLDER/docs/comparison.svg
  --gate                fails if a target is missed
  --paths PATH          the built example `paths` of rotel-core
  --baseline FILE       the accepted figures
  --accept              writes the measured figures to the baseline

options of fleet:
  --environments N      1 to 100000 (default 1000)
  --arrivals poisson|in-step|bursts
                        arrival pattern of invocations in each environment (default: a choice of loads)
  --every MS            mean time between invocations in each environment
  --for S               time in which invocations arrive (default 1200)
  --function MS         duration of the function (default 100)
  --memory MB           the function's memory (default 128)
  --round-trip MS       round trip to the endpoint (default 20)
  --seed N              seed of the random numbers (default 1)";

/// The command to run.
#[derive(Debug, PartialEq)]
pub(crate) enum Request {
    Help,
    Run(Arguments),
    Bench(bench::Arguments),
    BenchFunctions(bench::functions::Arguments),
    BenchStartup(bench::startup::Arguments),
    Fleet(fleet::Arguments),
    Gates(gates::Arguments),
}

/// A session to run.
#[derive(Debug, PartialEq)]
pub(crate) struct Arguments {
    pub(crate) demo: bool,
    pub(crate) extension: PathBuf,
    pub(crate) function: Option<String>,
    pub(crate) invocations: Option<usize>,
    pub(crate) events: Option<PathBuf>,
    pub(crate) protocol: Protocol,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) freeze: Duration,
    pub(crate) timeout: Duration,
    pub(crate) memory_mb: u32,
    pub(crate) json: bool,
}

/// An error in the arguments.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum ArgumentError {
    #[error("no command; write \"demo\", \"run\", \"bench\", \"fleet\" or \"gates\"")]
    NoCommand,
    #[error("{0:?}: no such command; write \"demo\", \"run\", \"bench\", \"fleet\" or \"gates\"")]
    UnknownCommand(String),
    #[error("bench {0:?}: no such bench; write \"bench\" for all, \"bench startup\" or \"bench functions\"")]
    UnknownBench(String),
    #[error("{0:?}: no such option")]
    UnknownOption(String),
    #[error("{0}: missing value")]
    NoValue(String),
    #[error("{option}: {value:?} is not {wanted}")]
    BadValue { option: String, value: String, wanted: &'static str },
    #[error("{option}: write a number from {least} to {most}")]
    OutOfRange { option: String, least: u32, most: u32 },
    #[error("{0}: missing; give a path")]
    NoPath(&'static str),
    #[error("--against-env: no --against before it; give the path of the extension that it is for")]
    NoOther,
    #[error("--extension: missing; give the path of the extension's executable")]
    NoExtension,
}

impl Arguments {
    /// Reads the arguments, without the program's name.
    pub(crate) fn parse(arguments: Vec<String>) -> Result<Request, ArgumentError> {
        if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
            return Ok(Request::Help);
        }
        let mut arguments = arguments.into_iter();
        let demo = match arguments.next().as_deref() {
            Some("demo") => true,
            Some("run") => false,
            Some("bench") => return bench(arguments),
            Some("fleet") => return fleet(arguments),
            Some("gates") => return gates(arguments),
            Some("help") => return Ok(Request::Help),
            Some(other) => return Err(ArgumentError::UnknownCommand(other.to_owned())),
            None => return Err(ArgumentError::NoCommand),
        };
        let mut parsed = Self {
            demo,
            extension: PathBuf::new(),
            function: None,
            invocations: None,
            events: None,
            protocol: Protocol::Grpc,
            variables: Vec::new(),
            freeze: if demo { Duration::from_secs(1) } else { Duration::ZERO },
            timeout: Duration::from_secs(15),
            memory_mb: 128,
            json: false,
        };
        let mut options = Options::of(arguments);
        while let Some(option) = options.next() {
            match option.as_str() {
                "--json" => parsed.json = true,
                "--extension" => parsed.extension = options.value()?.into(),
                "--function" => parsed.function = Some(options.value()?),
                "--events" => parsed.events = Some(options.value()?.into()),
                "--invocations" => parsed.invocations = Some(number(&option, options.value()?)?),
                "--freeze" => parsed.freeze = Duration::from_millis(number(&option, options.value()?)?),
                "--timeout" => parsed.timeout = Duration::from_millis(number(&option, options.value()?)?),
                "--memory" => parsed.memory_mb = number(&option, options.value()?)?,
                "--protocol" => parsed.protocol = protocol(&option, options.value()?)?,
                "--env" => parsed.variables.push(variable(&option, options.value()?)?),
                _ => return Err(ArgumentError::UnknownOption(option)),
            }
        }
        if parsed.extension.as_os_str().is_empty() {
            return Err(ArgumentError::NoExtension);
        }
        Ok(Request::Run(parsed))
    }
}

fn bench(arguments: impl Iterator<Item = String>) -> Result<Request, ArgumentError> {
    let mut arguments = arguments.peekable();
    let startup = match arguments.peek().map(String::as_str) {
        Some("functions") => return functions(arguments.skip(1)),
        Some("startup") => arguments.next().is_some(),
        Some(option) if option.starts_with('-') => false,
        Some(other) => return Err(ArgumentError::UnknownBench(other.to_owned())),
        None => false,
    };
    let mut parsed = bench::Arguments { runs: 20, ..bench::Arguments::default() };
    let mut options = Options::of(arguments);
    while let Some(option) = options.next() {
        match (option.as_str(), startup) {
            ("--extension", _) => parsed.extension = options.value()?.into(),
            ("--runs", _) => parsed.runs = number(&option, options.value()?)?,
            ("--against", false) => parsed.against.push(bench::Other::parse(&options.value()?)),
            ("--against-env", false) => {
                let variable = variable(&option, options.value()?)?;
                parsed.against.last_mut().ok_or(ArgumentError::NoOther)?.variables.push(variable);
            }
            ("--zip", false) => parsed.zip = Some(options.value()?.into()),
            ("--docs", false) => parsed.docs = Some(options.value()?.into()),
            ("--gate", false) => parsed.gate = true,
            _ => return Err(ArgumentError::UnknownOption(option)),
        }
    }
    if parsed.extension.as_os_str().is_empty() {
        return Err(ArgumentError::NoExtension);
    }
    if startup {
        let bench::Arguments { extension, runs, .. } = parsed;
        return Ok(Request::BenchStartup(bench::startup::Arguments { extension, runs }));
    }
    Ok(Request::Bench(parsed))
}

fn functions(arguments: impl Iterator<Item = String>) -> Result<Request, ArgumentError> {
    let [mut extension, mut into] = [const { PathBuf::new() }; 2];
    let mut options = Options::of(arguments);
    while let Some(option) = options.next() {
        match option.as_str() {
            "--extension" => extension = options.value()?.into(),
            "--into" => into = options.value()?.into(),
            _ => return Err(ArgumentError::UnknownOption(option)),
        }
    }
    if extension.as_os_str().is_empty() {
        return Err(ArgumentError::NoExtension);
    }
    if into.as_os_str().is_empty() {
        return Err(ArgumentError::NoPath("--into"));
    }
    Ok(Request::BenchFunctions(bench::functions::Arguments { extension, into }))
}

fn gates(arguments: impl Iterator<Item = String>) -> Result<Request, ArgumentError> {
    let [mut extension, mut paths, mut baseline] = [const { PathBuf::new() }; 3];
    let mut accept = false;
    let mut options = Options::of(arguments);
    while let Some(option) = options.next() {
        match option.as_str() {
            "--extension" => extension = options.value()?.into(),
            "--paths" => paths = options.value()?.into(),
            "--baseline" => baseline = options.value()?.into(),
            "--accept" => accept = true,
            _ => return Err(ArgumentError::UnknownOption(option)),
        }
    }
    if extension.as_os_str().is_empty() {
        return Err(ArgumentError::NoExtension);
    }
    for (name, path) in [("--paths", &paths), ("--baseline", &baseline)] {
        if path.as_os_str().is_empty() {
            return Err(ArgumentError::NoPath(name));
        }
    }
    Ok(Request::Gates(gates::Arguments { extension, paths, baseline, accept }))
}

fn fleet(arguments: impl Iterator<Item = String>) -> Result<Request, ArgumentError> {
    let mut parsed = fleet::Arguments::default();
    let mut options = Options::of(arguments);
    while let Some(option) = options.next() {
        let model = &mut parsed.model;
        match option.as_str() {
            "--environments" => model.environments = within(&option, options.value()?, 1..=100_000)?,
            "--arrivals" => parsed.pattern = Some(pattern(&option, options.value()?)?),
            "--every" => parsed.mean_gap = Some(milliseconds(&option, options.value()?)?),
            "--for" => {
                model.span = Duration::from_secs(within(&option, options.value()?, 1..=1_000_000)?.into());
            }
            "--function" => model.function = milliseconds(&option, options.value()?)?,
            "--memory" => model.memory_mb = within(&option, options.value()?, 128..=10_240)?,
            "--round-trip" => model.round_trip = milliseconds(&option, options.value()?)?,
            "--seed" => model.seed = number(&option, options.value()?)?,
            _ => return Err(ArgumentError::UnknownOption(option)),
        }
    }
    Ok(Request::Fleet(parsed))
}

/// Options and their values, written `--option=value` or `--option value`.
struct Options<I> {
    arguments: I,
    /// The option being read, and the value attached to it.
    option: String,
    attached: Option<String>,
}

impl<I: Iterator<Item = String>> Options<I> {
    fn of(arguments: I) -> Self {
        Self { arguments, option: String::new(), attached: None }
    }

    /// The name of the next one.
    fn next(&mut self) -> Option<String> {
        let argument = self.arguments.next()?;
        (self.option, self.attached) = match argument.split_once('=') {
            Some((option, value)) => (option.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        Some(self.option.clone())
    }

    /// The value of that one.
    fn value(&mut self) -> Result<String, ArgumentError> {
        let value = self.attached.take().or_else(|| self.arguments.next());
        value.ok_or_else(|| ArgumentError::NoValue(self.option.clone()))
    }
}

fn number<N: std::str::FromStr>(option: &str, value: String) -> Result<N, ArgumentError> {
    value.parse().map_err(|_| ArgumentError::BadValue {
        option: option.to_owned(),
        value,
        wanted: "a whole number",
    })
}

/// A whole number within a range.
fn within(option: &str, value: String, range: RangeInclusive<u32>) -> Result<u32, ArgumentError> {
    let number = number(option, value)?;
    if range.contains(&number) {
        return Ok(number);
    }
    let (least, most) = range.into_inner();
    Err(ArgumentError::OutOfRange { option: option.to_owned(), least, most })
}

/// A number of milliseconds that is not zero: time has to pass.
fn milliseconds(option: &str, value: String) -> Result<Duration, ArgumentError> {
    within(option, value, 1..=u32::MAX).map(|number| Duration::from_millis(number.into()))
}

fn pattern(option: &str, value: String) -> Result<fleet::Pattern, ArgumentError> {
    fleet::Pattern::named(&value).ok_or_else(|| ArgumentError::BadValue {
        option: option.to_owned(),
        value,
        wanted: "poisson, in-step or bursts",
    })
}

fn protocol(option: &str, value: String) -> Result<Protocol, ArgumentError> {
    match value.as_str() {
        "grpc" => Ok(Protocol::Grpc),
        "http" => Ok(Protocol::Http),
        _ => Err(ArgumentError::BadValue { option: option.to_owned(), value, wanted: "grpc or http" }),
    }
}

fn variable(option: &str, value: String) -> Result<(String, String), ArgumentError> {
    match value.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(ArgumentError::BadValue { option: option.to_owned(), value, wanted: "NAME=VALUE" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, ArgumentError> {
        Arguments::parse(line.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn options_are_read_with_and_without_an_equals_sign() {
        let line = "run --extension=/opt/x --protocol http --env=A=b=c --env D=e --freeze 20 --json";
        let Ok(Request::Run(parsed)) = parse(line) else { panic!("{line}") };
        assert_eq!(parsed.extension, PathBuf::from("/opt/x"));
        assert_eq!(parsed.protocol, Protocol::Http);
        assert_eq!(parsed.variables, [("A".into(), "b=c".into()), ("D".into(), "e".into())]);
        assert_eq!(parsed.freeze, Duration::from_millis(20));
        assert!(parsed.json && !parsed.demo);
    }

    #[test]
    fn errors_name_option_and_remedy() {
        for (line, error) in [
            ("", r#"no command; write "demo", "run", "bench", "fleet" or "gates""#),
            ("walk", r#""walk": no such command; write "demo", "run", "bench", "fleet" or "gates""#),
            ("bench", "--extension: missing; give the path of the extension's executable"),
            (
                "bench beauty",
                r#"bench "beauty": no such bench; write "bench" for all, "bench startup" or "bench functions""#,
            ),
            (
                "bench --extension x --against-env A=b",
                "--against-env: no --against before it; give the path of the extension that it is for",
            ),
            ("bench startup --gate", r#""--gate": no such option"#),
            ("bench startup --runs 3", "--extension: missing; give the path of the extension's executable"),
            ("fleet --environments 0", "--environments: write a number from 1 to 100000"),
            ("fleet --arrivals rain", r#"--arrivals: "rain" is not poisson, in-step or bursts"#),
            ("bench functions --extension x", "--into: missing; give a path"),
            ("gates --extension x --paths y", "--baseline: missing; give a path"),
            ("bench startup --json", r#""--json": no such option"#),
            ("demo", "--extension: missing; give the path of the extension's executable"),
            ("run --extension", "--extension: missing value"),
            ("run --speed 3", r#""--speed": no such option"#),
            ("run --invocations many", r#"--invocations: "many" is not a whole number"#),
            ("run --protocol udp", r#"--protocol: "udp" is not grpc or http"#),
            ("run --env NAME", r#"--env: "NAME" is not NAME=VALUE"#),
        ] {
            assert_eq!(parse(line).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn other_extensions_keep_their_own_variables() {
        let line = "bench --extension x --against A=/opt/a --against-env B=c --against /opt/d";
        let Ok(Request::Bench(parsed)) = parse(line) else { panic!("{line}") };
        let other = |label: &str, path: &str, variables| bench::Other {
            label: label.to_owned(),
            path: path.into(),
            variables,
        };
        let variables = vec![("B".to_owned(), "c".to_owned())];
        assert_eq!(parsed.against, [other("A", "/opt/a", variables), other("/opt/d", "/opt/d", Vec::new())]);
    }

    #[test]
    fn help_is_shown_from_any_command() {
        assert_eq!(parse("--help"), Ok(Request::Help));
        assert_eq!(parse("run --speed --help"), Ok(Request::Help));
    }
}

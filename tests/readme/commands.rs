//! Every documented command is run as written: by a test here or, if it calls make, by CI. If neither runs a command,
//! [`every_command_is_run`] fails.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use lambda_sandbox::collector::{Collector, Protocol};
use rotel_core::config;
use tempfile::TempDir;

use crate::page::{Page, block, blocks, commands, guide, spans};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The endpoint in the settings shown.
const ENDPOINT: &str = "https://clickstack.example.com:4317";
/// Goals of make that CI does not run.
const NOT_IN_CI: [&str; 7] = [
    // It measures a ratio of times, which needs an idle machine; `make gates` counts the instructions.
    "bench-logs",
    // It takes ten minutes, and fails nothing.
    "bench",
    // The test of its table in docs/delivery.md runs the same command.
    "fleet",
    // It takes minutes and changes a file; a link with any list must work.
    "layer-functions",
    // It takes as many minutes as it is given.
    "soak",
    // Run here, with an AWS CLI that publishes nothing.
    "publish",
    // It fails for a millisecond, so nothing else may run at the same time.
    "startup",
];

/// The test that runs a command.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trial {
    /// By CI, or [`publishing_works_as_shown`].
    Make,
    /// By [`settings_shown_are_valid`].
    Setting,
    /// By [`the_aws_cli_accepts_every_command_shown`].
    Aws,
    /// By [`check_prints_the_report_shown`].
    Check,
    /// By `attach::commands_shown_work`, of `make e2e`.
    RotelLambda,
    /// By `the_sandbox_runs_a_python_function`, which `make guide` builds.
    Sandbox,
}

impl Trial {
    fn of(command: &str) -> Self {
        let mut words = command.split_whitespace().filter(|word| !is_assignment(word));
        match words.next() {
            None => Self::Setting,
            Some("make") => Self::Make,
            Some("aws") => Self::Aws,
            Some("rotel-lambda") => Self::RotelLambda,
            Some("target/release/rotel-extension") => Self::Check,
            Some("cargo" | "target/debug/lambda-sandbox") => Self::Sandbox,
            Some(_) => panic!("no test runs this command: {command}"),
        }
    }
}

/// The commands that this trial runs.
fn tried(trial: Trial) -> Vec<String> {
    commands().into_iter().filter(|command| Trial::of(command) == trial).collect()
}

#[test]
fn every_command_is_run() {
    for trial in [Trial::Make, Trial::Setting, Trial::Aws, Trial::Check, Trial::RotelLambda, Trial::Sandbox] {
        assert_ne!(tried(trial), Vec::<String>::new(), "{trial:?}");
    }
    let languages: Vec<_> = blocks().into_iter().map(|block| block.language).collect();
    let known = ["ini", "json", "rust", "sh", "text", "yaml"];
    let unknown: Vec<_> = languages.iter().filter(|name| !known.contains(&name.as_str())).collect();
    assert_eq!(unknown, Vec::<&String>::new());
    let inline = ["aws ", "docker ", "pip ", "npm ", "sam ", "target/"];
    for page in guide() {
        let spans = spans(&page).into_iter();
        let untried: Vec<_> =
            spans.filter(|span| inline.iter().any(|program| span.starts_with(program))).collect();
        assert_eq!(untried, Vec::<String>::new(), "{}: put commands into a block", page.path.display());
    }
}

#[test]
fn every_test_target_named_exists() {
    let mut count = 0;
    for page in guide() {
        for span in spans(&page).into_iter().filter(|span| span.contains("cargo ")) {
            count += 1;
            let words: Vec<_> = span.split_whitespace().collect();
            for pair in words.windows(2).filter(|pair| pair.first() == Some(&"--test")) {
                let name = pair.last().expect("two words");
                let is_there = ["tests/{}.rs", "tests/{}/main.rs"]
                    .iter()
                    .any(|path| Path::new(ROOT).join(path.replace("{}", name)).exists());
                assert!(is_there, "{}: no such test: {span}", page.path.display());
            }
        }
    }
    assert!(count > 1, "{count}");
}

#[test]
fn every_goal_of_make_exists_and_runs_in_ci() {
    let makefile = fs::read_to_string("Makefile").expect("Makefile");
    let in_ci = in_ci();
    assert!(in_ci.len() > 10, "{} calls of make", in_ci.len());
    let inline = guide().iter().flat_map(spans).filter(|span| span.starts_with("make ")).collect::<Vec<_>>();
    let named: Vec<_> = tried(Trial::Make).into_iter().chain(inline).collect();
    assert!(named.len() > 20, "{named:?}");
    for command in &named {
        let (_, arguments) = command.split_once("make ").expect("a call of make");
        let wanted = Make::of(arguments);
        for goal in &wanted.goals {
            assert!(
                makefile.lines().any(|line| line.starts_with(&format!("{goal}:"))),
                "no such goal: {command}"
            );
            let is_in_ci = in_ci.iter().any(|ci| ci.goals.contains(goal) && wanted.is_like(ci));
            assert!(is_in_ci || NOT_IN_CI.contains(&goal.as_str()), "CI does not run: {command}");
        }
    }
}

/// The calls of make in `.ci/run` and the workflows.
fn in_ci() -> Vec<Make> {
    let mut calls = Vec::new();
    let workflows = fs::read_dir(".github/workflows").expect("workflows");
    let workflows = workflows.map(|entry| entry.expect("an entry").path());
    for path in [Path::new(".ci/run").to_owned()].into_iter().chain(workflows) {
        let text = fs::read_to_string(path).expect("a script");
        let lines = text.lines().map(|line| line.trim().trim_start_matches("- ").trim_start_matches("run: "));
        for call in lines.filter_map(|line| line.strip_prefix("make ")) {
            // The layers' jobs have a matrix of both architectures.
            for arch in ["amd64", "arm64"] {
                calls.push(Make::of(&call.replace("${{ matrix.arch }}", arch)));
            }
        }
    }
    calls
}

/// A call of make.
struct Make {
    goals: Vec<String>,
    variables: Vec<String>,
}

impl Make {
    fn of(arguments: &str) -> Self {
        let words = arguments.split_whitespace().take_while(|word| !word.starts_with(['#', '>', '&']));
        let (mut variables, goals): (Vec<String>, _) =
            words.map(str::to_owned).partition(|word| is_assignment(word));
        // The default.
        variables.retain(|variable| variable != "ARCH=amd64");
        Self { goals, variables }
    }

    /// Returns true if both have the same variables, apart from `ACCEPT`, which writes a file.
    fn is_like(&self, other: &Self) -> bool {
        let variables = self.variables.iter().filter(|variable| *variable != "ACCEPT=1");
        variables.eq(&other.variables)
    }
}

#[test]
fn publishing_works_as_shown() {
    let publish: Vec<_> =
        tried(Trial::Make).into_iter().filter(|command| command.contains("make publish")).collect();
    assert!(!publish.is_empty());
    for command in publish {
        let folder = Scratch::with_layers();
        let printed = folder.run(&command);
        for arch in ["amd64", "arm64"] {
            assert!(printed.contains(&arn(arch)), "{printed}");
        }
        assert_eq!(folder.calls().len(), 4);
    }
}

#[test]
fn publishing_writes_the_arns_into_readme() {
    let folder = Scratch::with_layers();
    let readme = Page::open("README.md").text;
    fs::write(folder.path("README.md"), &readme).expect("a copy");
    let written = || {
        folder.run(r#"make publish README=README.md REGIONS="eu-central-1""#);
        fs::read_to_string(folder.path("README.md")).expect("README.md")
    };
    let new = written();
    let (head, rest) = readme.split_once("make publish README=README.md writes it -->\n").expect("a mark");
    let (_, tail) = rest.split_once("<!-- end of the layers -->\n").expect("a mark");
    assert!(new.starts_with(head) && new.ends_with(tail), "{new}");
    assert!(new.contains(&arn("amd64")) && new.contains(&arn("arm64")), "{new}");
    assert_eq!(written(), new);
}

#[test]
fn publishing_needs_the_marks_in_readme() {
    let folder = Scratch::with_layers();
    fs::write(folder.path("README.md"), "# No marks\n").expect("a file");
    let output = folder.output("make publish README=README.md");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && errors.contains("README.md: the marks for the table are missing"),
        "{errors}"
    );
    assert!(!folder.path("calls").exists());
}

fn arn(arch: &str) -> String {
    format!("arn:aws:lambda:eu-central-1:123456789012:layer:rotel-extension-{arch}:7")
}

#[test]
fn the_aws_cli_accepts_every_command_shown() {
    let folder = Scratch::new();
    let commands = tried(Trial::Aws);
    for command in &commands {
        folder.run(command);
    }
    let calls = folder.calls();
    assert_eq!(calls.len(), commands.len(), "{calls:?}");
    for value in calls.iter().flatten().filter(|value| value.starts_with('{')) {
        serde_json::from_str::<serde_json::Value>(value).expect("JSON");
    }
}

#[test]
fn settings_shown_are_valid() {
    let settings = tried(Trial::Setting);
    assert!(settings.len() >= 5, "{settings:?}");
    for setting in settings {
        let (name, value) = setting.split_once('=').expect("a setting");
        let mut variables = vec![(name, value)];
        if name != "ROTEL_OTLP_EXPORTER_ENDPOINT" {
            variables.push(("ROTEL_OTLP_EXPORTER_ENDPOINT", ENDPOINT));
        }
        let variables =
            variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let read = config::read(&variables);
        assert_eq!((read.errors, read.warnings), (Vec::new(), Vec::new()), "{setting}");
    }
}

#[test]
fn files_of_settings_shown_are_valid() {
    let shown: Vec<_> = blocks().into_iter().filter(|block| block.language == "ini").collect();
    assert!(!shown.is_empty());
    for block in shown {
        let setting =
            |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut variables: config::Variables = block.text.lines().filter_map(setting).collect();
        if !variables.keys().any(|name| name.ends_with("_ENDPOINT")) {
            variables.insert("ROTEL_OTLP_EXPORTER_ENDPOINT".to_owned(), ENDPOINT.to_owned());
        }
        let read = config::read(&variables);
        assert_eq!((read.errors, read.warnings), (Vec::new(), Vec::new()), "{}", block.text);
    }
}

#[test]
fn policy_shown_grants_what_secrets_need() {
    let policy: serde_json::Value = serde_json::from_str(&block("json", "{")).expect("JSON");
    let statements = policy["Statement"].as_array().expect("statements");
    let granted: Vec<_> = statements.iter().filter_map(|statement| statement["Action"].as_str()).collect();
    assert_eq!(
        granted,
        ["secretsmanager:GetSecretValue", "secretsmanager:BatchGetSecretValue", "ssm:GetParameters"]
    );
    assert!(statements.iter().all(|statement| statement["Effect"] == "Allow"), "{statements:?}");
}

/// Uses the env file shown in the documents, except for the key and the endpoint, which is this test's own.
#[tokio::test(flavor = "multi_thread")]
async fn check_prints_the_report_shown() {
    const KEY: &str = "an-ingestion-key";
    let collector = Collector::builder().authorization(KEY).start().await.expect("a collector");
    let endpoint = collector.url(Protocol::Grpc);
    let (_, host) = endpoint.split_once("://").expect("a URL");
    let shown = block("sh", "# rotel.env\n");
    assert!(shown.contains(ENDPOINT), "{shown}");
    let [command] = tried(Trial::Check).try_into().expect("one command");

    let folder = Scratch::new();
    fs::create_dir_all(folder.path("target/release")).expect("a folder");
    symlink(support::binary(), folder.path("target/release/rotel-extension")).expect("a link");
    let check = |authorization: &str| {
        let file = format!(
            "{}\nROTEL_OTLP_EXPORTER_CUSTOM_HEADERS=Authorization={authorization}\n",
            shown.replace(ENDPOINT, &endpoint)
        );
        fs::write(folder.path("rotel.env"), file).expect("an env file");
        let output = folder.output(&command);
        let said = String::from_utf8(output.stdout).expect("text");
        let said = said.replace(&endpoint, ENDPOINT).replace(host, "clickstack.example.com:4317");
        let (_, account) = said.split_once("\n\n").expect("an account after the variables");
        (output.status.code(), account.to_owned())
    };
    let (code, account) = check(&format!("Bearer {KEY}"));
    assert_eq!((code, account.trim_end()), (Some(1), block("text", "Test records").as_str()));
    let (code, account) = check(KEY);
    assert_eq!(code, Some(0), "{account}");
}

/// The stand-in knows the operations from their documentation; this test checks them against AWS's own models in botocore.
#[cfg(feature = "e2e")]
#[test]
fn options_shown_are_in_the_models_of_aws() {
    let folder = Scratch::new();
    let commands = tried(Trial::Aws);
    for command in &commands {
        folder.run(command);
    }
    let script = Path::new(ROOT).join("tests/readme/models.py");
    let calls = fs::File::open(folder.path("calls")).expect("calls");
    let output = Command::new("python3").arg(script).stdin(calls).output().expect("python3");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let checked: usize = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a count");
    // `aws logs tail` is the CLI's own.
    assert_eq!(checked, commands.len() - 1);
}

/// Runs the commands as written, if the release binary and awslambdaric are installed.
#[cfg(feature = "e2e")]
#[test]
fn the_sandbox_runs_a_python_function() {
    let folder = Scratch::new();
    fs::write(folder.path("app.py"), "def handler(event, context):\n    print('hello')\n")
        .expect("a function");
    let [build, run] = tried(Trial::Sandbox).try_into().expect("two commands");
    #[expect(clippy::disallowed_methods, reason = "of this test, not of the extension")]
    let path = std::env::var("PATH").expect("PATH");
    // The build needs the workspace, and the function is found in the working folder.
    symlink(Path::new(ROOT).join("target"), folder.path("target")).expect("a link");
    for (command, place) in [(build, Path::new(ROOT).to_owned()), (run, folder.path("."))] {
        let mut shell = Command::new("bash");
        shell.args(["-euc", &command]).current_dir(place).env("PATH", &path);
        let output = shell.output().expect("bash");
        println!(
            "{command}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "{command}");
    }
}

/// An empty folder with an AWS CLI that changes nothing.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).expect("a folder");
        symlink(Path::new(ROOT).join("tests/support/aws"), bin.join("aws")).expect("a link");
        Self(folder)
    }

    /// Adds the files that `make publish` needs.
    fn with_layers() -> Self {
        let folder = Self::new();
        fs::create_dir_all(folder.path("layer/dist")).expect("a folder");
        for file in ["Makefile", "Cargo.toml", "layer/publish"] {
            fs::copy(Path::new(ROOT).join(file), folder.path(file)).expect("a copy");
        }
        for arch in ["amd64", "arm64"] {
            let zip = format!("rotel-extension-{arch}.zip");
            fs::write(folder.path(&format!("layer/dist/{zip}")), "a zip").expect("a zip");
            let checksum =
                format!("9a44557465efc644b7117e93eaf13c33cd956f5f4f12ca21bd51ae94ea97169a  {zip}\n");
            fs::write(folder.path(&format!("layer/dist/{zip}.sha256")), checksum).expect("a checksum");
        }
        folder
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn output(&self, command: &str) -> Output {
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.path("bin").display());
        let mut shell = Command::new("bash");
        shell.args(["-euc", command]).current_dir(self.0.path()).env_clear();
        shell.env("PATH", path).env("CALLS", self.path("calls")).env("REVISION", "0123456789ab");
        shell.output().expect("bash")
    }

    /// Runs a command, which must succeed; returns its output.
    fn run(&self, command: &str) -> String {
        let output = self.output(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}\n{said}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// The calls of the AWS CLI, with their arguments.
    fn calls(&self) -> Vec<Vec<String>> {
        let calls = fs::read_to_string(self.path("calls")).expect("calls");
        calls.lines().map(|call| call.split('\t').map(str::to_owned).collect()).collect()
    }
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map_or("", |(name, _)| name);
    !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

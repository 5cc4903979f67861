//! Every command of README is run as it is written there, by a test here or, as a goal of make, by `.ci/run`. A command that
//! is neither fails [`every_command_is_tried`].

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use lambda_sandbox::collector::{Collector, Protocol};
use rotel_lambda_extension::core::config;
use tempfile::TempDir;

use crate::page::{block, blocks, commands, readme, spans};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The one that the settings shown have.
const ENDPOINT: &str = "https://clickstack.example.com:4317";
/// The goals of make that `.ci/run` does not have.
const NOT_IN_CI: [&str; 6] = [
    // A ratio of times, for a quiet machine; `make gates` holds the instructions.
    "bench-logs",
    // It takes ten minutes to tell times, which fail nothing.
    "bench", // The sandbox's tests hold its table in README against its command.
    "fleet",
    // It takes the minutes that it is given.
    "soak", // Run here, with an AWS CLI that publishes nothing.
    "publish",
    // It fails for a millisecond, and so beside anything else that the machine has to do.
    "startup",
];

/// What tries a command.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trial {
    /// `.ci/run`, or [`the_layers_are_published_as_shown`].
    Make,
    /// [`the_settings_shown_are_taken_without_a_word`].
    Setting,
    /// [`the_aws_cli_takes_every_command_shown`].
    Aws,
    /// [`a_check_says_what_is_shown`].
    Check,
    /// `the_sandbox_runs_a_function_of_others`, which `make guide` builds.
    Sandbox,
}

impl Trial {
    fn of(command: &str) -> Self {
        let mut words = command.split_whitespace().filter(|word| !is_assignment(word));
        match words.next() {
            None => Self::Setting,
            Some("make") => Self::Make,
            Some("aws") => Self::Aws,
            Some("target/release/rotel-extension") => Self::Check,
            Some("cargo" | "target/debug/lambda-sandbox") => Self::Sandbox,
            Some(_) => panic!("nothing tries this command of README.md: {command}"),
        }
    }
}

/// The commands of README that are tried in one way.
fn tried(trial: Trial) -> Vec<String> {
    commands(&readme()).into_iter().filter(|command| Trial::of(command) == trial).collect()
}

#[test]
fn every_command_is_tried() {
    let readme = readme();
    for trial in [Trial::Make, Trial::Setting, Trial::Aws, Trial::Check, Trial::Sandbox] {
        assert_ne!(tried(trial), Vec::<String>::new(), "{trial:?}");
    }
    let languages: Vec<_> = blocks(&readme).into_iter().map(|block| block.language).collect();
    let unknown: Vec<_> =
        languages.iter().filter(|name| !["ini", "json", "sh", "text"].contains(&name.as_str())).collect();
    assert_eq!(unknown, Vec::<&String>::new());
    let inline = ["aws ", "cargo ", "docker ", "pip ", "npm ", "sam ", "target/", "UPDATE_README"];
    let untried: Vec<_> = spans(&readme)
        .into_iter()
        .filter(|span| inline.iter().any(|program| span.starts_with(program)))
        .collect();
    assert_eq!(untried, Vec::<String>::new(), "commands belong into a block");
}

#[test]
fn every_goal_of_make_is_one_that_ci_reaches() {
    let makefile = fs::read_to_string("Makefile").expect("Makefile");
    let ci = fs::read_to_string(".ci/run").expect(".ci/run");
    let in_ci: Vec<_> = ci.lines().filter_map(|line| line.strip_prefix("make ")).map(Make::of).collect();
    let inline = spans(&readme()).into_iter().filter(|span| span.starts_with("make "));
    let named: Vec<_> = tried(Trial::Make).into_iter().chain(inline).collect();
    assert!(named.len() > 8, "{named:?}");
    for command in &named {
        let (_, arguments) = command.split_once("make ").expect("a call of make");
        let wanted = Make::of(arguments);
        for goal in &wanted.goals {
            assert!(
                makefile.lines().any(|line| line.starts_with(&format!("{goal}:"))),
                "no such goal: {command}"
            );
            let is_in_ci = in_ci.iter().any(|ci| ci.goals.contains(goal) && ci.variables == wanted.variables);
            assert!(is_in_ci || NOT_IN_CI.contains(&goal.as_str()), ".ci/run does not do: {command}");
        }
    }
}

/// A call of make.
struct Make {
    goals: Vec<String>,
    variables: Vec<String>,
}

impl Make {
    fn of(arguments: &str) -> Self {
        let words = arguments.split_whitespace().take_while(|word| !word.starts_with('#'));
        let (variables, goals) = words.map(str::to_owned).partition(|word| is_assignment(word));
        Self { goals, variables }
    }
}

#[test]
fn the_layers_are_published_as_shown() {
    let folder = Scratch::new();
    fs::create_dir_all(folder.path("layer/dist")).expect("a folder");
    for file in ["Makefile", "Cargo.toml", "layer/publish"] {
        fs::copy(Path::new(ROOT).join(file), folder.path(file)).expect("a copy");
    }
    for arch in ["amd64", "arm64"] {
        let zip = format!("rotel-extension-{arch}.zip");
        fs::write(folder.path(&format!("layer/dist/{zip}")), "a zip").expect("a zip");
        let checksum = format!("9a44557465efc644b7117e93eaf13c33cd956f5f4f12ca21bd51ae94ea97169a  {zip}\n");
        fs::write(folder.path(&format!("layer/dist/{zip}.sha256")), checksum).expect("a checksum");
    }
    let publish: Vec<_> =
        tried(Trial::Make).into_iter().filter(|command| command.contains("make publish")).collect();
    assert_eq!(publish.len(), 1, "{publish:?}");
    for command in publish {
        let printed = folder.run(&command);
        for arch in ["amd64", "arm64"] {
            let arn = format!("arn:aws:lambda:eu-central-1:123456789012:layer:rotel-extension-{arch}:7");
            assert!(printed.contains(&arn), "{printed}");
        }
        assert_eq!(folder.calls().len(), 4);
    }
}

#[test]
fn the_aws_cli_takes_every_command_shown() {
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
fn the_settings_shown_are_taken_without_a_word() {
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
        assert_eq!((read.faults, read.warnings), (Vec::new(), Vec::new()), "{setting}");
    }
}

#[test]
fn the_files_of_settings_shown_are_taken_without_a_word() {
    let shown: Vec<_> = blocks(&readme()).into_iter().filter(|block| block.language == "ini").collect();
    assert!(!shown.is_empty());
    for block in shown {
        let setting =
            |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let read = config::read(&block.text.lines().filter_map(setting).collect());
        assert_eq!((read.faults, read.warnings), (Vec::new(), Vec::new()), "{}", block.text);
    }
}

#[test]
fn the_policy_shown_is_one() {
    let policy: serde_json::Value = serde_json::from_str(&block(&readme(), "json", "{")).expect("JSON");
    let statements = policy["Statement"].as_array().expect("statements");
    let granted: Vec<_> = statements.iter().filter_map(|statement| statement["Action"].as_str()).collect();
    assert_eq!(
        granted,
        ["secretsmanager:GetSecretValue", "secretsmanager:BatchGetSecretValue", "ssm:GetParameters"]
    );
    assert!(statements.iter().all(|statement| statement["Effect"] == "Allow"), "{statements:?}");
}

/// With the env file that is shown, but for the endpoint, which is one of this test, and the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_is_shown() {
    const KEY: &str = "an-ingestion-key";
    let collector = Collector::builder().authorization(KEY).start().await.expect("a collector");
    let endpoint = collector.url(Protocol::Grpc);
    let (_, host) = endpoint.split_once("://").expect("a URL");
    let readme = readme();
    let shown = block(&readme, "sh", "# rotel.env\n");
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
    assert_eq!((code, account.trim_end()), (Some(1), block(&readme, "text", "Test records").as_str()));
    let (code, account) = check(KEY);
    assert_eq!(code, Some(0), "{account}");
}

/// The stand-in knows the operations from their documentation; here AWS's own models have their say, which botocore brings.
#[cfg(feature = "e2e")]
#[test]
fn the_options_shown_are_those_of_aws_itself() {
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

/// As they stand, where the release binary and awslambdaric are.
#[cfg(feature = "e2e")]
#[test]
fn the_sandbox_runs_a_function_of_others() {
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

    /// Runs a command, which must succeed; what it prints.
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

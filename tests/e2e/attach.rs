//! `rotel-lambda` against moto: the changes that Lambda sees, and the words that people see.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::ROOT;
use crate::moto::Moto;

/// `tests/e2e/run` builds it.
const ROTEL_LAMBDA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/debug/rotel-lambda");
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/e2e/bin/python");
const ENDPOINT: &str = "https://clickstack.example.com:4317";
const KEY: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:clickstack-key-abc123";
const ARM64: &str = "arn:aws:lambda:eu-central-1:123456789012:layer:rotel-extension-arm64";

/// An account with three functions, and two versions of the layer for each architecture.
struct Account {
    moto: Moto,
}

impl Account {
    fn seeded() -> Self {
        let account = Self { moto: Moto::start() };
        account.python(&["seed"]);
        account
    }

    fn python(&self, arguments: &[&str]) -> String {
        let script = format!("{ROOT}/tests/e2e/attach/account.py");
        let output = Command::new(PYTHON).arg(script).arg(&self.moto.url).args(arguments).output();
        let output = output.unwrap_or_else(|error| panic!("{PYTHON}: {error}; `make e2e` installs it"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The layers and variables of a function, read by another way than the one under test.
    fn function(&self, name: &str) -> Value {
        serde_json::from_str(&self.python(&["show", name])).expect("JSON")
    }

    /// Runs a command; returns its exit code and all that it printed.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(ROTEL_LAMBDA)
            .args(arguments)
            .env_clear()
            .envs([
                ("AWS_ENDPOINT_URL", self.moto.url.as_str()),
                ("AWS_ACCESS_KEY_ID", "key"),
                ("AWS_SECRET_ACCESS_KEY", "secret"),
                ("AWS_REGION", "eu-central-1"),
                ("CLICKHOUSE_PASSWORD", "hunter2"),
            ])
            .output()
            .unwrap_or_else(|error| panic!("{ROTEL_LAMBDA}: {error}; `make e2e` builds it"));
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(printed).expect("UTF-8"))
    }

    fn attach(&self, arguments: &[&str]) -> (Option<i32>, String) {
        self.run(
            &[&["attach", "--function", "orders", "--endpoint", ENDPOINT, "--key-secret", KEY], arguments]
                .concat(),
        )
    }
}

#[test]
fn detaching_undoes_attaching() {
    let account = Account::seeded();
    let before = account.function("orders");
    let shown = format!(
        "\
orders (nodejs20.x, arm64, eu-central-1)
  + layer {ARM64}:2
  + ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS=Authorization=${{{KEY}}}
  + ROTEL_OTLP_EXPORTER_ENDPOINT={ENDPOINT}

note: the function's role must allow secretsmanager:GetSecretValue on {KEY}
"
    );
    let dry = format!("{shown}nothing was changed, because of --dry-run\n");
    assert_eq!(account.attach(&["--dry-run"]), (Some(0), dry));
    let unanswered = "rotel-lambda: cannot ask for confirmation, because standard input is not a terminal; add --yes to make \
                      the change, or --dry-run to only see it\n";
    assert_eq!(account.attach(&[]), (Some(1), format!("{shown}{unanswered}")));
    assert_eq!(account.function("orders"), before);

    assert_eq!(account.attach(&["--yes"]), (Some(0), format!("{shown}orders: changed\n")));
    let attached = json!({
        "layers": ["arn:aws:lambda:eu-central-1:123456789012:layer:shared-code:1", format!("{ARM64}:2")],
        "variables": {
            "TABLE": "orders",
            "ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS": format!("Authorization=${{{KEY}}}"),
            "ROTEL_OTLP_EXPORTER_ENDPOINT": ENDPOINT,
        },
    });
    assert_eq!(account.function("orders"), attached);
    assert_eq!(account.attach(&["--yes"]), (Some(0), "orders: there is nothing to change\n".to_owned()));

    let (code, _) = account.run(&["detach", "--function", "orders", "--yes"]);
    assert_eq!(code, Some(0));
    assert_eq!(account.function("orders"), before);
}

#[test]
fn a_list_has_the_versions() {
    let account = Account::seeded();
    let none = "0 of 3 functions have the layer\n";
    assert_eq!(account.run(&["list"]), (Some(0), none.to_owned()));
    // The newest version, and an older one by its ARN.
    assert_eq!(account.attach(&["--yes"]).0, Some(0));
    let amd64 = "arn:aws:lambda:eu-central-1:123456789012:layer:rotel-extension-amd64:1";
    let older = ["attach", "--function", "plain", "--endpoint", ENDPOINT, "--layer", amd64, "--yes"];
    assert_eq!(account.run(&older).0, Some(0));
    let listed = format!(
        "\
FUNCTION  ARCHITECTURE  VERSION  LAYER
orders    arm64         0.2.0    {ARM64}:2
plain     x86_64        0.1.0    {amd64}

2 of 3 functions have the layer
"
    );
    assert_eq!(account.run(&["list"]), (Some(0), listed));
}

#[test]
fn a_status_has_what_arrived() {
    let account = Account::seeded();
    let (code, printed) = account.run(&["status", "--function", "orders"]);
    assert_eq!(code, Some(1));
    assert!(printed.contains("layer: none; `rotel-lambda attach --function orders` adds it\n"), "{printed}");
    assert_eq!(account.attach(&["--yes"]).0, Some(0));
    let expected = format!(
        "\
orders (nodejs20.x, arm64, eu-central-1)
  state: Active
  layer: {ARM64}:2, version 0.2.0
  variables: no problems
"
    );
    assert_eq!(account.run(&["status", "--function", "orders"]), (Some(0), expected.clone()));

    let (url, asked) = clickhouse("3\t2\n");
    let (code, printed) = account.run(&["status", "--function", "orders", "--invoke", "--clickhouse", &url]);
    let invoked = printed.strip_prefix(&expected).unwrap_or_else(|| panic!("{printed}"));
    let (id, rest) =
        invoked.strip_prefix("  invocation ").and_then(|rest| rest.split_once(": ")).expect("an id");
    assert_eq!((code, rest), (Some(0), "succeeded\n  arrived: 3 log records, 2 spans\n"));
    let asked = asked.join().expect("a question");
    assert!(asked.contains(&format!("param_id={id}&param_database=default")), "{asked}");
    assert!(asked.contains("x-clickhouse-user: default\r\n"), "{asked}");
    assert!(asked.contains("x-clickhouse-key: hunter2\r\n"), "{asked}");
}

#[test]
fn what_cannot_be_done_is_named() {
    let account = Account::seeded();
    let (code, printed) = account.run(&["status", "--function", "absent"]);
    assert_eq!(code, Some(1));
    assert!(printed.starts_with("rotel-lambda: GetFunction: ResourceNotFoundException: "), "{printed}");
    let (code, printed) =
        account.run(&["--layer-prefix", "other", "attach", "--function", "plain", "--endpoint", ENDPOINT]);
    assert_eq!(code, Some(1));
    assert!(printed.contains("there is no layer other-amd64 in this account and region"), "{printed}");
}

#[test]
fn commands_shown_work() {
    let account = Account::seeded();
    let before = account.function("my-function");
    let guide = std::fs::read_to_string(format!("{ROOT}/docs/layer.md")).expect("docs/layer.md");
    let guide = guide.replace("\\\n", "");
    let commands: Vec<_> = guide.lines().filter_map(|line| line.strip_prefix("rotel-lambda ")).collect();
    let names: Vec<_> = commands.iter().filter_map(|command| command.split(' ').next()).collect();
    assert_eq!(names, ["attach", "status", "list", "detach"]);
    for command in commands {
        let mut arguments: Vec<_> = command.split_whitespace().collect();
        if command.starts_with("attach") || command.starts_with("detach") {
            // Nobody is there to answer.
            arguments.push("--yes");
        }
        let (code, printed) = account.run(&arguments);
        assert_eq!(code, Some(0), "{command}: {printed}");
    }
    assert_eq!(account.function("my-function"), before);
}

/// A ClickHouse that gives an answer twice; its thread returns the last question.
fn clickhouse(answer: &'static str) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = thread::spawn(move || {
        let mut asked = Vec::new();
        for _ in 0..2 {
            let (mut connection, _) = listener.accept().expect("a connection");
            asked.clear();
            let mut part = [0; 4096];
            while !asked.ends_with(b"TabSeparated") {
                let length = connection.read(&mut part).expect("a question");
                assert_ne!(length, 0, "the question ends early");
                asked.extend_from_slice(part.get(..length).unwrap_or_default());
            }
            let length = answer.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{answer}");
            connection.write_all(answer.as_bytes()).expect("a reader");
        }
        String::from_utf8(asked).expect("UTF-8")
    });
    (url, asked)
}

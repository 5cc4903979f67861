//! The functions of an extension that run in most environments, found by callgrind: `layer/record` lists them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lambda_sandbox::collector::Protocol;
use lambda_sandbox::{Function, Sandbox, Status, Transport};
use serde_json::{Value, json};

use super::BenchError;
use super::subject::{Setting, Subject, World};
use crate::account::{complain, say};
use crate::rest;
use crate::valgrind::{self, CountError};

/// The extension to profile, and the output file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// The binary with its symbols.
    pub(crate) extension: PathBuf,
    /// The output file. It lists the functions that run in an init only, in both, in invocations only, and those that
    /// each of the less usual lives adds. A line of `--` separates the groups.
    pub(crate) into: PathBuf,
}

/// A life to profile.
#[derive(Clone, Copy, Debug)]
struct Life {
    setting: Setting,
    /// The extension's protocol.
    protocol: Protocol,
    /// The transport of the function's SDK.
    transport: Transport,
    /// True if metrics are sent to a host given by name, where nobody listens.
    named: bool,
    /// True if the backend is down for a while.
    outage: bool,
    invocations: usize,
}

/// The load of most Lambda functions on the extension.
const USUAL: [Life; 2] = [ORDINARY, Life { setting: Setting::Https, ..ORDINARY }];
/// The load of some functions; first those to be placed next to the usual ones.
const UNUSUAL: [Life; 4] = [
    Life { outage: true, ..ORDINARY },
    Life { named: true, ..ORDINARY },
    Life { protocol: Protocol::Grpc, transport: Transport::Grpc, ..ORDINARY },
    Life { setting: Setting::Secrets, ..ORDINARY },
];
const ORDINARY: Life = Life {
    setting: Setting::Http,
    protocol: Protocol::Http,
    transport: Transport::HttpProtobuf,
    named: false,
    outage: false,
    invocations: 3,
};
/// The maximum number of further invocations until everything has arrived.
const ATTEMPTS: usize = 200;
/// The timeout of an invocation, which valgrind slows down.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs the lives and writes the functions that ran.
pub(crate) async fn run(arguments: &Arguments) -> Result<bool, BenchError> {
    let mut ran = Ran::default();
    let mut number = 0;
    let mut live = async |life| {
        number += 1;
        complain(&format!("life {number} of {} …", 2 * USUAL.len() + UNUSUAL.len()));
        live(&arguments.extension, life).await
    };
    for life in USUAL {
        let init = live(Life { invocations: 0, ..life }).await?;
        ran.usual(&init, &live(life).await?);
    }
    for life in UNUSUAL {
        ran.unusual(live(life).await?);
    }
    if !ran.in_invocations.iter().any(|name| name.contains("rotel_core")) {
        return Err(BenchError::NoNames { path: arguments.extension.clone() });
    }
    let file = |source| BenchError::File { path: arguments.into.clone(), source };
    std::fs::write(&arguments.into, ran.text()).map_err(file)?;
    say(&format!("{} functions: {}", ran.functions(), arguments.into.display()));
    Ok(true)
}

/// The functions that ran, by phase.
#[derive(Debug, Default)]
struct Ran {
    in_inits: BTreeSet<String>,
    in_invocations: BTreeSet<String>,
    /// The functions that each less usual life adds.
    elsewhere: Vec<BTreeSet<String>>,
}

impl Ran {
    /// Adds the functions of an init, and of a life that begins with the same init.
    fn usual(&mut self, init: &Profile, life: &Profile) {
        // One that runs in inits alone takes as much in both, but for how often something was looked for in vain.
        let more = |name: &&String| 10 * life.took(name) > 11 * init.took(name);
        self.in_invocations.extend(life.took.keys().filter(more).cloned());
        self.in_inits.extend(init.took.keys().cloned());
    }

    /// Adds the functions of another life.
    fn unusual(&mut self, mut life: Profile) {
        life.took.retain(|name, _| !self.has(name));
        self.elsewhere.push(life.took.into_keys().collect());
    }

    fn has(&self, name: &str) -> bool {
        let mut known = [&self.in_inits, &self.in_invocations].into_iter().chain(&self.elsewhere);
        known.any(|names| names.contains(name))
    }

    fn functions(&self) -> usize {
        let elsewhere: usize = self.elsewhere.iter().map(BTreeSet::len).sum();
        self.in_inits.union(&self.in_invocations).count() + elsewhere
    }

    fn text(&self) -> String {
        let (inits, invocations) = (&self.in_inits, &self.in_invocations);
        let line = |name: &String| format!("{name}\n");
        let mut parts: Vec<String> = vec![
            inits.difference(invocations).map(line).collect(),
            inits.intersection(invocations).map(line).collect(),
            invocations.difference(inits).map(line).collect(),
        ];
        parts.extend(self.elsewhere.iter().map(|names| names.iter().map(line).collect()));
        parts.join("--\n")
    }
}

/// Runs this life under callgrind and returns its profile.
async fn live(path: &Path, life: Life) -> Result<Profile, BenchError> {
    let world = World::new(life.setting).await?;
    let variables = variables(life).into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let subject =
        Subject { label: String::new(), path: path.into(), variables: variables.collect(), is_floor: false };
    let extension =
        world.extension(&subject).env("ROTEL_OTLP_EXPORTER_ENDPOINT", world.collector.url(life.protocol));
    let function = Function::sample(life.transport);
    let builder = |extension| {
        Sandbox::builder().extension(extension).function(function).timeout(PATIENCE).without_freeze()
    };
    let folder = tempfile::tempdir().map_err(CountError::Log)?;
    let profile = folder.path().join("profile");
    let sandbox = valgrind::start(extension, &profile, builder).await?;
    for _ in 0..life.invocations {
        invoke(&sandbox, path).await?;
        sandbox.invoke(json!({"fail": true})).await?;
    }
    if life.invocations == 0 {
        // What is put off past the init is part of it.
        rest::until_at_rest(&sandbox).await;
    }
    // The sample function makes more than one.
    until_arrived(&sandbox, &world, path, life.invocations).await?;
    if life.outage {
        world.collector.refuse_connections().await;
        invoke(&sandbox, path).await?;
        world.collector.come_back().await?;
        until_arrived(&sandbox, &world, path, world.collector.counts().spans + 1).await?;
    }
    sandbox.interrupt().await;
    Ok(Profile::of(&std::fs::read_to_string(profile).map_err(CountError::Log)?))
}

async fn invoke(sandbox: &Sandbox, path: &Path) -> Result<(), BenchError> {
    let invocation = sandbox.invoke(Value::Null).await?;
    if invocation.status == Status::Success {
        return Ok(());
    }
    let answer = format!("{:?}", invocation.answer);
    Err(BenchError::Invocation { path: path.into(), answer })
}

/// Invokes until this many spans have arrived. Under valgrind secrets arrive late, and everything waits for them.
async fn until_arrived(
    sandbox: &Sandbox,
    world: &World,
    path: &Path,
    spans: usize,
) -> Result<(), BenchError> {
    let arrived = || world.collector.counts().spans;
    for _ in 0..ATTEMPTS {
        if arrived() >= spans {
            return Ok(());
        }
        invoke(sandbox, path).await?;
    }
    Err(BenchError::Lost { path: path.into(), arrived: arrived(), spans })
}

/// The variables that users set besides the endpoint, and a flush timeout long enough for valgrind.
fn variables(life: Life) -> Vec<(&'static str, &'static str)> {
    let protocol = match life.protocol {
        Protocol::Grpc => "grpc",
        Protocol::Http => "http",
    };
    let mut variables = vec![
        ("ROTEL_OTLP_EXPORTER_PROTOCOL", protocol),
        ("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "service.name=my-lambda-api,service.version=1.0.0"),
        ("ROTEL_FLUSH_TIMEOUT", "30s"),
    ];
    // Secrets are headers as well.
    if life.setting != Setting::Secrets {
        variables.push(("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", "Authorization=<YOUR_INGESTION_API_KEY>"));
    }
    if life.outage {
        variables.push(("ROTEL_OTLP_EXPORTER_RETRY_INITIAL_BACKOFF", "10ms"));
        variables.push(("ROTEL_OTLP_EXPORTER_RETRY_MAX_BACKOFF", "10ms"));
    }
    if life.named {
        variables.push(("ROTEL_OTLP_EXPORTER_METRICS_ENDPOINT", "http://localhost:9"));
    }
    variables
}

/// The functions that ran, by callgrind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Profile {
    /// The instructions that each function took, without those of the functions it called.
    took: BTreeMap<String, u64>,
}

impl Profile {
    /// Reads callgrind's output. A function is `fn=(7) name`, followed by lines of a place and a cost; a function that it calls
    /// is `cfn=(8) name`, and the line after `calls=3 …` has the cost of those calls. Each number has its name once.
    fn of(text: &str) -> Self {
        let mut profile = Self::default();
        let mut names = HashMap::new();
        let mut running = None;
        let mut is_of_call = false;
        for line in text.lines() {
            match line.split_once('=') {
                Some(("fn", value)) => running = name(value, &mut names),
                Some(("cfn", value)) => {
                    name(value, &mut names);
                }
                Some(("calls", _)) => is_of_call = true,
                Some(_) => {}
                None => {
                    let cost = line.split_once(' ').and_then(|(_, cost)| cost.parse::<u64>().ok());
                    if let (Some(running), Some(cost), false) = (&running, cost, is_of_call) {
                        *profile.took.entry(running.clone()).or_default() += cost;
                    }
                    is_of_call = false;
                }
            }
        }
        profile
    }

    /// The instructions that a function took.
    fn took(&self, name: &str) -> u64 {
        self.took.get(name).copied().unwrap_or_default()
    }
}

/// The function that `(7) name`, or `(7)` once it was named, stands for, if it has a symbol.
fn name<'a>(text: &'a str, names: &mut HashMap<&'a str, Option<String>>) -> Option<String> {
    let (number, name) = text.split_once(' ').map_or((text, None), |(number, name)| (number, Some(name)));
    if let Some(name) = name {
        // One that calls itself is `name'2` within itself.
        let symbol = name.split('\'').next().unwrap_or_default();
        let is_symbol = symbol.starts_with(|first: char| first == '_' || first.is_ascii_alphabetic());
        names.insert(number, is_symbol.then(|| symbol.to_owned()));
    }
    names.get(number).cloned().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: &str = "_RNvNtCs7BliBxkEZsN_4core3fmt5write";

    #[test]
    fn functions_with_symbols_take_instructions() {
        let text = "version: 1\nsummary: 99\n\nfl=(1) ???\nfn=(1) memcpy\n1 2\n\
            cfn=(2) _RNvNtCs7BliBxkEZsN_4core3fmt5write\ncalls=3 0\n5 600\n+1 4\n\nfn=(2)\n* 5\ncfn=(1)\ncalls=1 0\n1 2\n\
            \nfn=(5) memcpy'2\n-3 10\ncfn=(4) 0x00000000003e4100\ncalls=2 0\n7 8\n\nfn=(3) (below main)\n1 1\ncfn=(2)\n\
            calls=9 0\n7 8\n";
        let took = [(WRITE.to_owned(), 5), ("memcpy".to_owned(), 16)].into();
        assert_eq!(Profile::of(text), Profile { took });
    }

    #[test]
    fn functions_are_grouped_by_when_they_run() {
        let life = |took: &[(&str, u64)]| Profile {
            took: took.iter().map(|(name, cost)| ((*name).to_owned(), *cost)).collect(),
        };
        let mut ran = Ran::default();
        let init = life(&[("main", 40), ("bind", 30), ("read", 20)]);
        // The loop is called once, and goes on.
        ran.usual(&init, &life(&[("main", 90), ("bind", 31), ("read", 50), ("send", 9)]));
        ran.unusual(life(&[("main", 90), ("bind", 30), ("retry", 1)]));
        assert_eq!(ran.text(), "bind\n--\nmain\nread\n--\nsend\n--\nretry\n");
    }
}

//! The functions of an extension that run in an ordinary life, by callgrind: `layer/record` makes a list of them.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lambda_sandbox::collector::Protocol;
use lambda_sandbox::{Function, Sandbox, Status, Transport};
use serde_json::{Value, json};

use super::BenchError;
use super::subject::{Setting, Subject, World};
use crate::cli::account::{complain, say};
use crate::cli::valgrind::{self, CountError};

/// What to look at, and where to write what is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// With its symbols.
    pub(crate) extension: PathBuf,
    /// Those of an init, an empty line, the rest.
    pub(crate) into: PathBuf,
}

/// A life, of which something is to be learned.
#[derive(Clone, Copy, Debug)]
struct Life {
    setting: Setting,
    /// How the extension sends.
    protocol: Protocol,
    /// How the function's SDK does.
    transport: Transport,
    /// Whether its metrics go to a host that has a name, where nobody listens.
    named: bool,
    /// Whether the endpoint is away for a while.
    outage: bool,
    invocations: usize,
}

/// Those come first whose functions are to stand first.
const LIVES: [Life; 8] = [
    Life { invocations: 0, ..ORDINARY },
    Life { invocations: 0, setting: Setting::Https, ..ORDINARY },
    ORDINARY,
    Life { named: true, ..ORDINARY },
    Life { protocol: Protocol::Grpc, transport: Transport::Grpc, ..ORDINARY },
    Life { setting: Setting::Https, ..ORDINARY },
    Life { setting: Setting::Secrets, ..ORDINARY },
    Life { outage: true, ..ORDINARY },
];
const ORDINARY: Life = Life {
    setting: Setting::Http,
    protocol: Protocol::Http,
    transport: Transport::HttpProtobuf,
    named: false,
    outage: false,
    invocations: 3,
};
/// So many invocations more may pass until something has arrived.
const ATTEMPTS: usize = 200;
/// Of what valgrind makes slow.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs the lives and writes the names.
pub(crate) async fn run(arguments: &Arguments) -> Result<bool, BenchError> {
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    for (number, life) in (1..).zip(LIVES) {
        complain(&format!("life {number} of {} …", LIVES.len()));
        let profile = live(&arguments.extension, life).await?;
        if names.len() == seen.len() && life.invocations > 0 {
            // So ends what an init needs.
            names.push(String::new());
        }
        names.extend(ran(&profile).into_iter().filter(|name| seen.insert(name.clone())));
    }
    if !names.iter().any(|name| name.contains("rotel_core")) {
        return Err(BenchError::NoNames { path: arguments.extension.clone() });
    }
    let file = |source| BenchError::File { path: arguments.into.clone(), source };
    std::fs::write(&arguments.into, names.join("\n") + "\n").map_err(file)?;
    say(&format!("{} functions: {}", seen.len(), arguments.into.display()));
    Ok(true)
}

/// What callgrind has written at the end of such a life.
async fn live(path: &Path, life: Life) -> Result<String, BenchError> {
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
        valgrind::until_at_rest(&sandbox).await;
    }
    // The sample function makes more than one.
    until_arrived(&sandbox, &world, path, life.invocations).await?;
    if life.outage {
        world.collector.refuse_connections().await;
        invoke(&sandbox, path).await?;
        world.collector.come_back().await?;
        until_arrived(&sandbox, &world, path, world.collector.counts().spans + 1).await?;
    }
    sandbox.terminate().await;
    Ok(std::fs::read_to_string(profile).map_err(CountError::Log)?)
}

async fn invoke(sandbox: &Sandbox, path: &Path) -> Result<(), BenchError> {
    let invocation = sandbox.invoke(Value::Null).await?;
    if invocation.status == Status::Success {
        return Ok(());
    }
    let answer = format!("{:?}", invocation.answer);
    Err(BenchError::Invocation { path: path.into(), answer })
}

/// Invokes until so many spans have arrived. Under valgrind secrets come late, and until then all waits.
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

/// What people set beside the endpoint; and that there is time for a flush under valgrind.
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

/// The names in a profile of callgrind, where `fn=(7) name` and `cfn=(7) name` stand once for each.
fn ran(profile: &str) -> BTreeSet<String> {
    let named = |line: &str| {
        let rest = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn="))?;
        // One that calls itself is `name'2` within itself.
        let name = rest.split_once(' ')?.1.split('\'').next()?;
        name.starts_with(|first: char| first == '_' || first.is_ascii_alphabetic()).then(|| name.to_owned())
    };
    profile.lines().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_functions_each_once() {
        let profile = "version: 1\nfl=(1) ???\nfn=(1) memcpy\n1 2\ncfn=(2) _ZN4core3fmt5write17h0123456789abcdefE\n\
            calls=1 0\nfn=(2)\n3 4\nfn=(5) memcpy'2\nfn=(3) (below main)\nfn=(4) 0x00000000003e4100\n";
        assert_eq!(Vec::from_iter(ran(profile)), ["_ZN4core3fmt5write17h0123456789abcdefE", "memcpy"]);
    }
}

//! The files of `collector_yaml/`, read by the extension and by a real OpenTelemetry Collector: both send on the same telemetry.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lambda_sandbox::collector::{Collector, Item, Protocol, Received};
use lambda_sandbox::{Exporter, Function, Sandbox, Signal};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use serde::Serialize;
use serde_json::{Value, json};
use support::{end, invoke, unconfigured};

use crate::ROOT;
use crate::otelcol::Process;

const KEY: &str = "5b6f1c7e-ingestion-key";

/// The variables that the files use.
fn variables(backend: &Collector) -> [(&'static str, String); 5] {
    [
        ("BACKEND", backend.url(Protocol::Http)),
        ("INGESTION_KEY", KEY.to_owned()),
        ("STAGE", "prod".to_owned()),
        ("RECEIVERS", "[otlp]".to_owned()),
        ("EXPORTERS", "[otlphttp]".to_owned()),
    ]
}

fn folder() -> PathBuf {
    Path::new(ROOT).join("tests/e2e/collector_yaml")
}

/// One request of each signal, in OTLP/JSON.
fn telemetry() -> Vec<(Signal, Vec<u8>)> {
    let file = |signal: Signal| folder().join("telemetry").join(format!("{}.json", signal.name()));
    Signal::ALL.into_iter().map(|signal| (signal, fs::read(file(signal)).expect("a file"))).collect()
}

async fn send(exporter: &Exporter, telemetry: &[(Signal, Vec<u8>)]) {
    for (signal, body) in telemetry {
        let path = format!("/v1/{}", signal.name());
        exporter.send_http(&path, "application/json", body.clone().into()).await.expect("it is taken");
    }
}

/// The telemetry that a real collector with this file sends on.
async fn of_collector(path: &Path, telemetry: &[(Signal, Vec<u8>)]) -> Received {
    let backend = Collector::builder().authorization(KEY).start().await.expect("a backend");
    // An address of its own, whose ports are free.
    let address = Collector::start().await.expect("an address");
    address.refuse_connections().await;
    let host = address.address(Protocol::Http).ip().to_string();
    let variables = variables(&backend);
    let variables = variables.iter().map(|(name, value)| (*name, value.as_str()));
    let process = Process::start([path.to_owned()], variables.chain([("ADDRESS", host.as_str())]));
    let exporter = Exporter::new(format!("{host}:4317"), format!("{host}:4318"));
    send(&exporter, telemetry).await;
    process.stop();
    backend.received()
}

/// The telemetry that the extension with this file sends on.
async fn of_extension(path: &Path, telemetry: &[(Signal, Vec<u8>)]) -> (Received, Vec<String>) {
    let backend = Collector::builder().authorization(KEY).start().await.expect("a backend");
    let path = path.to_str().expect("a path");
    let extension = variables(&backend)
        .into_iter()
        .fold(unconfigured(), |extension, (name, value)| extension.env(name, value));
    let extension = extension
        .env("OPENTELEMETRY_COLLECTOR_CONFIG_URI", path)
        // The sandbox sets the addresses of the receivers.
        .env("ADDRESS", "localhost")
        .env("ROTEL_FLUSH_TIMEOUT", "60s");
    let telemetry = telemetry.to_vec();
    let function = Function::builtin(move |context| {
        let telemetry = telemetry.clone();
        async move {
            send(context.exporter(), &telemetry).await;
            Ok(Value::Null)
        }
    });
    let sandbox = Sandbox::builder().extension(extension).function(function);
    let sandbox = sandbox.timeout(Duration::from_mins(5)).start().await.expect("a sandbox");
    invoke(&sandbox, Value::Null).await;
    end(&sandbox).await;
    (backend.received(), sandbox.extension_output())
}

/// The function's items, each with its resource and scope. No two items are the same.
fn comparable(received: &Received) -> BTreeSet<String> {
    fn texts<'a, T: Serialize + 'a>(
        items: impl Iterator<Item = Item<'a, T>>,
    ) -> impl Iterator<Item = String> {
        // Not what the extension makes itself.
        let own = |scope: &InstrumentationScope| scope.name.starts_with("rotel-lambda-extension");
        let items = items.filter(move |item| !item.scope.is_some_and(own));
        let text = |item: Item<'_, T>| {
            // The extension adds these where they are missing.
            let added = |key: &str| key.starts_with("cloud.") || key.starts_with("faas.");
            let resource: Vec<_> = item.resource.iter().filter(|attribute| !added(&attribute.key)).collect();
            let mut value = json!({"resource": resource, "scope": item.scope, "item": item.item});
            sort_attributes(&mut value);
            value.to_string()
        };
        items.map(text)
    }
    texts(received.spans()).chain(texts(received.metrics())).chain(texts(received.logs())).collect()
}

/// Sorts lists of attributes by key: their order has no meaning.
fn sort_attributes(value: &mut Value) {
    match value {
        Value::Array(elements) => {
            elements.iter_mut().for_each(sort_attributes);
            if elements.iter().all(|element| element.get("key").is_some()) {
                elements.sort_by_key(|element| element.get("key").map(Value::to_string));
            }
        }
        Value::Object(fields) => fields.values_mut().for_each(sort_attributes),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extension_and_collector_send_the_same() {
    let telemetry = telemetry();
    let files = fs::read_dir(folder()).expect("the files").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    paths.sort();
    assert!(paths.len() >= 15, "{paths:?}");
    let mut different = Vec::new();
    for path in paths {
        let expected = comparable(&of_collector(&path, &telemetry).await);
        let (received, output) = of_extension(&path, &telemetry).await;
        let received = comparable(&received);
        if received != expected {
            let missing: Vec<_> = expected.difference(&received).collect();
            let surplus: Vec<_> = received.difference(&expected).collect();
            different.push(format!(
                "{}: missing {missing:#?}, surplus {surplus:#?}; the extension's log: {output:#?}",
                path.display()
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n\n"));
}

//! `rotel-lambda`: attaches the layer to functions, for people at a terminal.
//!
//! A crate of its own, so that the layer contains nothing of it. [`change`] decides, [`lambda`] and [`clickhouse`] call, and
//! this file has the order of the steps and what is printed.

mod arguments;
mod change;
mod clickhouse;
mod function;
mod lambda;
mod layer;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use rotel_core::config;
use rustls::crypto::ring;

use crate::arguments::{Arguments, Attach, Command, Detach, Status, Target};
use crate::change::{Additions, Change, Refusal, VariableRemoval};
use crate::clickhouse::{ClickHouse, QueryError};
use crate::function::{Function, has_settings_in_bundle};
use crate::lambda::{CallError, Lambda};
use crate::layer::{ExtensionLayers, InvalidLayerArn, LayerArn};

/// A command that could not be carried out.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Refusal(#[from] Refusal),
    #[error("--layer: {0}")]
    Layer(#[from] InvalidLayerArn),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(
        "--layer: there is no layer {0} in this account and region; publish it with `make publish`, or give the ARN of a layer version in another account"
    )]
    NoLayer(String),
    #[error("--layer: {0} has no version that you may use")]
    NoVersion(LayerArn),
    #[error(
        "cannot ask for confirmation, because standard input is not a terminal; add --yes to make the change, or --dry-run to only see it"
    )]
    NotATerminal,
    #[error("the output: {0}")]
    Output(#[from] io::Error),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // It fails only if there is one already.
    let _ = ring::default_provider().install_default();
    match run(arguments).await {
        Ok(exit_code) => exit_code,
        Err(error) => {
            // Nothing is left to do if nobody reads it.
            let _ = writeln!(io::stderr(), "rotel-lambda: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let Arguments { command, region, profile, layer_prefix: prefix } = arguments;
    let lambda = Lambda::connect(region, profile).await?;
    match command {
        Command::Attach(options) => attach(&lambda, prefix, &options).await,
        Command::Detach(options) => detach(&lambda, prefix, &options).await,
        Command::List => list(&lambda, prefix).await,
        Command::Status(options) => status(&lambda, prefix, &options).await,
    }
}

async fn attach(lambda: &Lambda, prefix: String, options: &Attach) -> Result<ExitCode, CommandError> {
    let function = lambda.function(&options.target.function).await?;
    let extension = extension_layers(prefix, options.layer.as_deref())?;
    let layer = newest(lambda, &extension, &function).await?;
    let additions = Additions {
        endpoint: options.endpoint.as_deref(),
        key_secret: options.key_secret.as_deref(),
        assignments: &options.set,
    };
    let change = change::attach(function, &layer, &extension, &additions)?;
    confirm_and_apply(lambda, &change, &options.target).await
}

async fn detach(lambda: &Lambda, prefix: String, options: &Detach) -> Result<ExitCode, CommandError> {
    let function = lambda.function(&options.target.function).await?;
    let extension = extension_layers(prefix, options.layer.as_deref())?;
    let removal = match options {
        Detach { keep_variables: true, .. } => VariableRemoval::Nothing,
        Detach { all_variables: true, .. } => VariableRemoval::All,
        _ => VariableRemoval::Attached,
    };
    let change = change::detach(function, &extension, removal)?;
    confirm_and_apply(lambda, &change, &options.target).await
}

fn extension_layers(prefix: String, given: Option<&str>) -> Result<ExtensionLayers, CommandError> {
    Ok(ExtensionLayers { prefix, given: given.map(str::parse).transpose()? })
}

/// The layer version to attach: the given one, or the newest.
async fn newest(
    lambda: &Lambda,
    extension: &ExtensionLayers,
    function: &Function,
) -> Result<LayerArn, CommandError> {
    match &extension.given {
        Some(given) if given.version.is_some() => Ok(given.clone()),
        Some(given) => {
            let newest = lambda.newest(&given.layer).await?;
            newest.ok_or_else(|| CommandError::NoVersion(given.clone()))
        }
        None => {
            let name = format!("{}-{}", extension.prefix, layer::architecture_suffix(&function.architecture));
            lambda.newest(&name).await?.ok_or(CommandError::NoLayer(name))
        }
    }
}

/// Shows a change, asks, and makes it.
async fn confirm_and_apply(
    lambda: &Lambda,
    change: &Change,
    target: &Target,
) -> Result<ExitCode, CommandError> {
    let mut out = io::stdout();
    let function = change.function();
    if !change.is_empty() {
        writeln!(out, "{}\n{change}", heading(function))?;
    }
    for note in &change.notes {
        writeln!(out, "note: {note}")?;
    }
    if change.is_empty() {
        writeln!(out, "{}: there is nothing to change", function.name)?;
        return Ok(ExitCode::SUCCESS);
    }
    if target.dry_run {
        writeln!(out, "nothing was changed, because of --dry-run")?;
        return Ok(ExitCode::SUCCESS);
    }
    if !target.yes && !is_confirmed()? {
        writeln!(out, "nothing was changed")?;
        return Ok(ExitCode::FAILURE);
    }
    lambda.apply(change).await?;
    writeln!(out, "{}: changed", function.name)?;
    Ok(ExitCode::SUCCESS)
}

/// Asks the person at the terminal.
fn is_confirmed() -> Result<bool, CommandError> {
    if !io::stdin().is_terminal() {
        return Err(CommandError::NotATerminal);
    }
    let mut out = io::stdout();
    write!(out, "make this change? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn list(lambda: &Lambda, prefix: String) -> Result<ExitCode, CommandError> {
    let extension = ExtensionLayers { prefix, given: None };
    let functions = lambda.functions().await?;
    let mut rows = Vec::new();
    let mut versions: BTreeMap<String, String> = BTreeMap::new();
    for function in &functions {
        let Some(layer) = function.extension_layer(&extension) else { continue };
        let arn = layer.to_string();
        if !versions.contains_key(&arn) {
            versions.insert(arn.clone(), version(lambda, &layer).await);
        }
        let version = versions.get(&arn).cloned().unwrap_or_default();
        rows.push([function.name.clone(), function.architecture.clone(), version, arn]);
    }
    rows.sort();
    let mut out = io::stdout();
    if !rows.is_empty() {
        rows.insert(0, ["FUNCTION", "ARCHITECTURE", "VERSION", "LAYER"].map(str::to_owned));
        write!(out, "{}", table(&rows))?;
        writeln!(out)?;
    }
    let images = functions.iter().filter(|function| function.is_image).count();
    writeln!(out, "{} of {} functions have the layer", rows.len().saturating_sub(1), functions.len())?;
    if images > 0 {
        writeln!(out, "{images} are container images; Lambda does not show which extensions they contain")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The version of the extension in a layer, from the description that `make publish` writes.
async fn version(lambda: &Lambda, layer: &LayerArn) -> String {
    let description = lambda.description(layer).await.unwrap_or_default();
    let version = description.strip_prefix("rotel-lambda-extension ").and_then(|rest| rest.split(',').next());
    version.unwrap_or("unknown").to_owned()
}

/// Rows in columns.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

async fn status(lambda: &Lambda, prefix: String, options: &Status) -> Result<ExitCode, CommandError> {
    let function = lambda.function(&options.function).await?;
    let extension = extension_layers(prefix, options.layer.as_deref())?;
    let mut out = io::stdout();
    writeln!(out, "{}", heading(&function))?;
    writeln!(out, "  state: {}", function.state)?;
    let layer = function.extension_layer(&extension);
    match &layer {
        Some(layer) => writeln!(out, "  layer: {layer}, version {}", version(lambda, layer).await)?,
        None if function.is_image => writeln!(out, "  layer: none, because it is a container image")?,
        None => writeln!(out, "  layer: none; `rotel-lambda attach --function {}` adds it", function.name)?,
    }
    let mut is_healthy = function.is_image || layer.is_some();
    is_healthy &= settings(&function)?;
    if options.invoke {
        is_healthy &= invoke(lambda, &function, options).await?;
    }
    Ok(if is_healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the problems in a function's variables; returns true if there is no error.
fn settings(function: &Function) -> Result<bool, CommandError> {
    let mut out = io::stdout();
    if function.variables_hidden {
        writeln!(out, "  variables: Lambda could not decrypt them for you")?;
        return Ok(true);
    }
    if has_settings_in_bundle(&function.variables) {
        writeln!(out, "  variables: the bundle has more; run `rotel-extension --check` where that file is")?;
        return Ok(true);
    }
    let parsed = config::read(&function.environment(&function.variables));
    if parsed.errors.is_empty() && parsed.warnings.is_empty() {
        writeln!(out, "  variables: no problems")?;
    }
    for warning in &parsed.warnings {
        writeln!(out, "  warning: {warning}")?;
    }
    for error in &parsed.errors {
        writeln!(out, "  error: {error}")?;
    }
    Ok(parsed.errors.is_empty())
}

/// Invokes the function and prints what is known about its telemetry; returns true if nothing failed.
async fn invoke(lambda: &Lambda, function: &Function, options: &Status) -> Result<bool, CommandError> {
    let invocation = lambda.invoke(&function.id, &options.payload).await?;
    let mut out = io::stdout();
    let request_id = &invocation.request_id;
    match &invocation.function_error {
        None => writeln!(out, "  invocation {request_id}: succeeded")?,
        Some(error) => writeln!(out, "  invocation {request_id}: the function failed ({error})")?,
    }
    for line in invocation.log.lines().filter(|line| is_notable(line)) {
        writeln!(out, "  log: {}", rotel_core::echo::one_line(line))?;
    }
    let mut is_healthy = invocation.function_error.is_none();
    if let Some(url) = &options.clickhouse {
        let clickhouse = ClickHouse {
            url,
            database: &options.clickhouse_database,
            user: &options.clickhouse_user,
            password: &options.clickhouse_password,
        };
        let arrived = clickhouse.wait_for(request_id).await?;
        writeln!(out, "  arrived: {} log records, {} spans", arrived.logs, arrived.spans)?;
        is_healthy &= arrived.is_any();
    } else {
        writeln!(out, "  search in ClickStack: LogAttributes.faas.invocation_id:\"{request_id}\"")?;
        writeln!(out, "  (with --clickhouse URL, it is counted here)")?;
    }
    Ok(is_healthy)
}

/// True for the platform's line about the extension, and for warnings and errors, in text and JSON.
fn is_notable(line: &str) -> bool {
    let Ok(record) = serde_json::from_str::<serde_json::Value>(line) else {
        let line = line.trim_start();
        return line.starts_with("EXTENSION\tName: rotel-extension\t")
            || line.starts_with("WARN ")
            || line.starts_with("ERROR ");
    };
    let text = |pointer: &str| record.pointer(pointer).and_then(serde_json::Value::as_str);
    let is_extension =
        text("/type") == Some("platform.extension") && text("/record/name") == Some("rotel-extension");
    is_extension || matches!(text("/level"), Some("WARN" | "ERROR"))
}

/// The name of a function and what it is.
fn heading(function: &Function) -> String {
    let runtime = if function.is_image { "container image" } else { &function.runtime };
    format!("{} ({runtime}, {}, {})", function.name, function.architecture, function.region)
}

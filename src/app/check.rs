//! `--check`: reads the settings like the extension does, prints errors and warnings, fetches the secrets, sends one item of
//! each signal, and prints the results.
//!
//! Promises that no secret is printed, and that the check succeeds only if every signal with an endpoint was accepted. Leaves
//! the diagnosis of failures to `core::config::diagnosis`.

use std::fmt::Display;
use std::io::{self, Write};

use crate::app::reported_errors::ReportedErrors;
use crate::app::settings::{self, Settings};
use crate::edge::clock;
use crate::edge::exporter::Exporter;
use crate::edge::secrets::CredentialSources;
use rotel_core::config::diagnosis::ConfiguredRoute;
use rotel_core::config::resource;
use rotel_core::config::{
    self, Destination, Export, Exports, ParsedConfig, SourceLocations, Variables, exporter_variable,
};
use rotel_core::delivery::verdict::Verdict;
use rotel_core::echo;
use rotel_core::otlp::canary;
use rotel_core::signal::{PerSignal, Signal};

/// The extent of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckScope {
    /// Fetches secrets and sends test records.
    Full,
    /// Uses no network.
    Offline,
}

/// Checks the settings in `environment` and writes a report to `out`; returns true if the check passes.
pub async fn run(environment: Variables, scope: CheckScope, out: &mut impl Write) -> io::Result<bool> {
    let settings = Settings::read(environment);
    let mut report = CheckReport { out, errors: ReportedErrors::default(), failures: Vec::new() };
    report.configuration(&settings)?;
    report.list("Warnings", settings.warnings())?;
    let filter_errors = settings.parsed.config.log_filter.compile().1;
    report.errors("Errors", settings.errors().chain(&filter_errors))?;
    let Settings { variables, locations, mut parsed, .. } = settings;
    let shows_service = !parsed.resource_attributes_pending;
    if !parsed.references.is_empty() {
        parsed = report.secrets(&variables, &locations, parsed, scope).await?;
    }
    if parsed.blackhole {
        let variable =
            if variables.contains_key("ROTEL_EXPORTERS") { "ROTEL_EXPORTERS" } else { "ROTEL_EXPORTER" };
        let place = locations.get(variable).unwrap_or(variable);
        return report.verdict(&format!("{place} disables sending (blackhole)"));
    }
    let function_name = variables.get("AWS_LAMBDA_FUNCTION_NAME").filter(|name| !name.is_empty());
    let service_name = function_name.map_or_else(
        || canary::SERVICE.to_owned(),
        |function_name| resource::service_name(&parsed.config, function_name),
    );
    let context = CheckContext {
        variables: &variables,
        locations: &locations,
        service_name: &service_name,
        shows_service,
    };
    for destination in &parsed.config.destinations {
        report.destination(&context, destination, scope).await?;
    }
    report.verdict(match scope {
        CheckScope::Full => "all signals with an endpoint were accepted",
        CheckScope::Offline => "no errors found offline",
    })
}

/// Sends one item of each signal concurrently. Each uses its own connection, because only the first request on a shared one
/// would get the connection's error.
async fn send(exporter: &Exporter, service_name: &str) -> PerSignal<Verdict> {
    let now = clock::epoch_nanos();
    let PerSignal { logs, metrics, traces } = PerSignal::from_fn(|signal| {
        let request = canary::request(signal, service_name, now);
        let exporter = exporter.with_new_connections();
        async move { exporter.attempt(signal, vec![request]).await }
    });
    let (logs, metrics, traces) = tokio::join!(logs, metrics, traces);
    PerSignal { logs, metrics, traces }
}

/// The context that all destinations share.
struct CheckContext<'a> {
    variables: &'a Variables,
    locations: &'a SourceLocations,
    service_name: &'a str,
    /// The service name may be printed, because it does not come from a secret.
    shows_service: bool,
}

/// The report that is being written, and its failures.
struct CheckReport<'a, W> {
    out: &'a mut W,
    /// The errors that were printed.
    errors: ReportedErrors,
    /// Other reasons why telemetry does not arrive, for the last line.
    failures: Vec<String>,
}

impl<W: Write> CheckReport<'_, W> {
    fn configuration(&mut self, settings: &Settings) -> io::Result<()> {
        writeln!(self.out, "Configuration")?;
        let mut rows = config::describe(&settings.environment, &settings.file, &settings.collector);
        rows.retain(|row| !row.has_no_value());
        let width = rows.iter().map(|row| row.variable.len()).max().unwrap_or(0);
        for row in rows {
            let value = echo::one_line(&row.value);
            writeln!(self.out, "  {:width$}  {:11}  {value}", row.variable, row.source)?;
        }
        Ok(())
    }

    fn heading(&mut self, heading: &str) -> io::Result<()> {
        writeln!(self.out, "\n{heading}")
    }

    fn list<T: Display>(&mut self, heading: &str, items: impl IntoIterator<Item = T>) -> io::Result<()> {
        let mut items = items.into_iter().peekable();
        if items.peek().is_some() {
            self.heading(heading)?;
        }
        items.try_for_each(|item| writeln!(self.out, "  {}", echo::one_line(&item.to_string())))
    }

    /// Prints the errors that are new.
    fn errors<T: Display>(&mut self, heading: &str, errors: impl IntoIterator<Item = T>) -> io::Result<()> {
        let new = self.errors.add_new(errors);
        self.list(heading, new)
    }

    /// Fetches the secrets, unless offline; returns the variables parsed with them.
    async fn secrets(
        &mut self,
        variables: &Variables,
        locations: &SourceLocations,
        parsed: ParsedConfig,
        scope: CheckScope,
    ) -> io::Result<ParsedConfig> {
        let mut arns: Vec<_> =
            parsed.references.iter().map(|reference| reference.arn.text.as_str()).collect();
        arns.dedup();
        if scope == CheckScope::Offline {
            self.list("Secrets (not fetched)", arns)?;
            return Ok(parsed);
        }
        let resolved =
            settings::resolve(variables, locations, &parsed.references, CredentialSources::Cli).await;
        self.heading("Secrets")?;
        for arn in arns {
            match resolved.errors.iter().find(|error| error.arn == arn) {
                None => writeln!(self.out, "  ok      {arn}")?,
                Some(error) => writeln!(self.out, "  FAILED  {}", echo::one_line(&error.to_string()))?,
            }
        }
        match resolved.errors.len() {
            0 => {}
            failed => self.failures.push(counted(failed, "secret not fetched", "secrets not fetched")),
        }
        self.errors("Errors in settings with secrets", &resolved.parsed.errors)?;
        Ok(resolved.parsed)
    }

    /// Creates the exporter and, unless offline, sends one item of each signal.
    async fn destination(
        &mut self,
        context: &CheckContext<'_>,
        destination: &Destination,
        scope: CheckScope,
    ) -> io::Result<()> {
        let name = &destination.exporter;
        let is_unset =
            |signal: &Signal| exporter_variable(context.variables, name, *signal, "ENDPOINT").is_none();
        if Signal::ALL.iter().all(is_unset) {
            if name.is_unnamed() {
                self.failures
                    .push("no endpoint, so nothing is sent; set ROTEL_OTLP_EXPORTER_ENDPOINT".to_owned());
            }
            return Ok(());
        }
        let Exports::Known(exports) = &destination.exports else { return Ok(()) };
        let (exporter, unusable) = Exporter::new(exports);
        self.errors("TLS errors", unusable)?;
        if scope == CheckScope::Offline {
            return Ok(());
        }
        let usable = |signal| exports.of(signal).clone().filter(|_| exporter.route(signal).is_some());
        let usable = PerSignal::from_fn(usable);
        let verdicts = send(&exporter, context.service_name).await;
        let of_exporter = name.name().map_or_else(String::new, |name| format!(" for exporter {name}"));
        // Someone may have set a key in place of the service name.
        let shown = echo::value(context.service_name).text().filter(|_| context.shows_service);
        let service = shown.map_or_else(String::new, |name| format!(", service.name = {name}"));
        self.heading(&format!("Test records{of_exporter}{service}"))?;
        self.signals(context, destination, (&usable, &verdicts))
    }

    /// Prints one line per signal, then the distinct diagnoses.
    fn signals(
        &mut self,
        context: &CheckContext<'_>,
        destination: &Destination,
        (exports, verdicts): (&PerSignal<Option<Export>>, &PerSignal<Verdict>),
    ) -> io::Result<()> {
        let mut failures: Vec<(Vec<&str>, String)> = Vec::new();
        for signal in Signal::ALL {
            let Some(export) = exports.of(signal) else {
                if !destination.signals.of(signal) {
                    writeln!(self.out, "  {signal:7}  –       not sent by this exporter")?;
                } else if exporter_variable(context.variables, &destination.exporter, signal, "ENDPOINT")
                    .is_none()
                {
                    writeln!(self.out, "  {signal:7}  –       no endpoint, so it is received and dropped")?;
                } else {
                    writeln!(self.out, "  {signal:7}  FAILED  not sent because of the errors above")?;
                    failures.push((vec![signal.as_str()], String::new()));
                }
                continue;
            };
            let route = ConfiguredRoute::new(signal, export, context.variables, context.locations);
            let failure = match verdicts.of(signal) {
                Verdict::Accepted { rejected: 0, .. } => None,
                Verdict::Accepted { message, .. } => Some(route.rejected(message.as_ref())),
                Verdict::Retry { failure, .. } | Verdict::TooLarge(failure) | Verdict::Refused(failure) => {
                    Some(route.diagnosis(failure))
                }
            };
            let result = if failure.is_none() { "ok" } else { "FAILED" };
            writeln!(self.out, "  {signal:7}  {result:6}  {}  {}", route.protocol(), route.endpoint())?;
            let Some(failure) = failure else { continue };
            match failures.iter_mut().find(|(_, known)| *known == failure) {
                Some((signals, _)) => signals.push(signal.as_str()),
                None => failures.push((vec![signal.as_str()], failure)),
            }
        }
        match failures.iter().map(|(signals, _)| signals.len()).sum() {
            0 => {}
            failed => self.failures.push(counted(failed, "signal not accepted", "signals not accepted")),
        }
        failures.retain(|(_, failure)| !failure.is_empty());
        if !failures.is_empty() {
            self.heading("Diagnosis")?;
        }
        failures
            .iter()
            .try_for_each(|(signals, failure)| writeln!(self.out, "  {}: {failure}", signals.join(", ")))
    }

    /// Prints the last line: `success`, or the failures. Returns true on success.
    fn verdict(mut self, success: &str) -> io::Result<bool> {
        if let known @ 1.. = self.errors.len() {
            self.failures.insert(0, counted(known, "error", "errors"));
        }
        let is_ok = self.failures.is_empty();
        self.heading(&if is_ok {
            format!("OK: {success}")
        } else {
            format!("FAILED: {}", self.failures.join(", "))
        })?;
        self.out.flush()?;
        Ok(is_ok)
    }
}

fn counted(count: usize, one: &str, several: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {several}") }
}

//! `--check`: reads what people have set as the extension would, tells what is wrong with it, fetches the secrets, sends one
//! item of each signal, and says what became of each.
//!
//! Promises that nothing of a secret is written, and that all is well only if every signal that has an endpoint was
//! accepted there. What a failure means is left to `core::diagnosis`.

use std::fmt::Display;
use std::io::{self, Write};

use crate::app::reported_errors::ReportedErrors;
use crate::app::settings::{self, Settings};
use crate::core::config::diagnosis::ConfiguredRoute;
use crate::core::config::resource;
use crate::core::config::{
    self, Destination, Export, Exports, ParsedConfig, SourceLocations, Variables, exporter_variable,
};
use crate::core::delivery::verdict::Verdict;
use crate::core::echo;
use crate::core::otlp::canary;
use crate::core::signal::{PerSignal, Signal};
use crate::edge::clock;
use crate::edge::exporter::Exporter;
use crate::edge::secrets::CredentialSources;

/// How much is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckScope {
    /// Secrets are fetched and telemetry is sent.
    Full,
    /// Nothing leaves the machine.
    Offline,
}

/// Checks what `environment` sets and writes the report of it to `out`; says whether all is well.
pub async fn run(environment: Variables, scope: CheckScope, out: &mut impl Write) -> io::Result<bool> {
    let settings = Settings::read(environment);
    let mut report = CheckReport { out, errors: ReportedErrors::default(), wrong: Vec::new() };
    report.configuration(&settings)?;
    report.list("Warnings", settings.warnings())?;
    let of_filter = settings.parsed.config.log_filter.compile().1;
    report.errors("ReportedErrors", settings.errors().chain(&of_filter))?;
    let Settings { variables, locations, mut parsed, .. } = settings;
    let shows_service = !parsed.resource_attributes_pending;
    if !parsed.references.is_empty() {
        parsed = report.secrets(&variables, &locations, parsed, scope).await?;
    }
    if parsed.blackhole {
        let variable =
            if variables.contains_key("ROTEL_EXPORTERS") { "ROTEL_EXPORTERS" } else { "ROTEL_EXPORTER" };
        let place = locations.get(variable).map_or(variable, String::as_str);
        return report.verdict(&format!("{place} is blackhole, so nothing is sent"));
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
        CheckScope::Full => "every signal that has an endpoint was accepted there",
        CheckScope::Offline => "nothing is wrong as far as that shows offline",
    })
}

/// Sends one item of each signal, side by side. Each has a connection of its own: of those that wait for a common one,
/// only the first is told why there is none.
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

/// What is the same for every destination.
struct CheckContext<'a> {
    variables: &'a Variables,
    locations: &'a SourceLocations,
    service_name: &'a str,
    /// What comes from a secret is not shown.
    shows_service: bool,
}

/// The text on its way to a person, and what of it is not well.
struct CheckReport<'a, W> {
    out: &'a mut W,
    /// Those that were told.
    errors: ReportedErrors,
    /// What else keeps telemetry from arriving.
    wrong: Vec<String>,
}

impl<W: Write> CheckReport<'_, W> {
    fn configuration(&mut self, settings: &Settings) -> io::Result<()> {
        writeln!(self.out, "Configuration")?;
        let mut rows = config::describe(&settings.environment, &settings.file, &settings.collector);
        rows.retain(|row| !row.is_unset());
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

    /// Tells the errors that are new.
    fn errors<T: Display>(&mut self, heading: &str, errors: impl IntoIterator<Item = T>) -> io::Result<()> {
        let new = self.errors.add_new(errors);
        self.list(heading, new)
    }

    /// Fetches the secrets, unless nothing may be fetched; answers with what the variables mean then.
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
            self.list("Secrets, to be fetched", arns)?;
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
            failed => self.wrong.push(counted(failed, "secret not fetched", "secrets not fetched")),
        }
        self.errors("ReportedErrors with the secrets", &resolved.parsed.errors)?;
        Ok(resolved.parsed)
    }

    /// Makes the exporter, and sends it something of each signal unless nothing may be sent.
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
            if name.is_only() {
                self.wrong
                    .push("no endpoint, so nothing can be sent; set ROTEL_OTLP_EXPORTER_ENDPOINT".to_owned());
            }
            return Ok(());
        }
        let Exports::Known(exports) = &destination.exports else { return Ok(()) };
        let (exporter, unusable) = Exporter::new(exports);
        self.errors("ReportedErrors of TLS", unusable)?;
        if scope == CheckScope::Offline {
            return Ok(());
        }
        let usable = |signal| exports.of(signal).clone().filter(|_| exporter.route(signal).is_some());
        let usable = PerSignal::from_fn(usable);
        let verdicts = send(&exporter, context.service_name).await;
        let of_exporter = name.name().map_or_else(String::new, |name| format!(" of exporter {name}"));
        // A key may stand where the name of a service belongs.
        let shown = echo::value(context.service_name).text().filter(|_| context.shows_service);
        let service = shown.map_or_else(String::new, |name| format!(", service.name = {name}"));
        self.heading(&format!("Test records{of_exporter}{service}"))?;
        self.signals(context, destination, (&usable, &verdicts))
    }

    /// A line a signal, and below them what each failure means, once.
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
                    writeln!(self.out, "  {signal:7}  –       not for this exporter")?;
                } else if exporter_variable(context.variables, &destination.exporter, signal, "ENDPOINT")
                    .is_none()
                {
                    writeln!(
                        self.out,
                        "  {signal:7}  –       no endpoint is set for it, so it is received and dropped"
                    )?;
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
            failed => self.wrong.push(counted(failed, "signal not accepted", "signals not accepted")),
        }
        failures.retain(|(_, failure)| !failure.is_empty());
        if !failures.is_empty() {
            self.heading("Why")?;
        }
        failures
            .iter()
            .try_for_each(|(signals, failure)| writeln!(self.out, "  {}: {failure}", signals.join(", ")))
    }

    /// The last line; `well` is what it says if there is nothing worse.
    fn verdict(mut self, well: &str) -> io::Result<bool> {
        if let known @ 1.. = self.errors.len() {
            self.wrong.insert(0, counted(known, "error", "errors"));
        }
        let is_well = self.wrong.is_empty();
        self.heading(&if is_well {
            format!("OK: {well}")
        } else {
            format!("FAILED: {}", self.wrong.join(", "))
        })?;
        self.out.flush()?;
        Ok(is_well)
    }
}

fn counted(count: usize, one: &str, several: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {several}") }
}

//! `--check`: reads what people have set as the extension would, tells what is wrong with it, fetches the secrets, sends one
//! item of each signal, and says what became of each.
//!
//! Promises that nothing of a secret is written, and that all is well only if every signal that has an endpoint was
//! accepted there. What a failure means is left to `core::diagnosis`.

use std::fmt::Display;
use std::io::{self, Write};

use crate::app::faults::Faults;
use crate::app::settings::{self, Settings};
use crate::core::config::diagnosis::Way;
use crate::core::config::resource;
use crate::core::config::{
    self, Destination, Export, Exports, Outcome, Places, Variables, exporter_variable,
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
pub enum Extent {
    /// Secrets are fetched and telemetry is sent.
    Whole,
    /// Nothing leaves the machine.
    Offline,
}

/// Checks what `environment` sets and writes the account of it to `out`; says whether all is well.
pub async fn run(environment: Variables, extent: Extent, out: &mut impl Write) -> io::Result<bool> {
    let settings = Settings::read(environment);
    let mut account = Account { out, faults: Faults::default(), wrong: Vec::new() };
    account.configuration(&settings)?;
    account.list("Warnings", settings.warnings())?;
    let of_filter = settings.outcome.config.log_filter.compile().1;
    account.faults("Faults", settings.faults().chain(&of_filter))?;
    let Settings { variables, places, mut outcome, .. } = settings;
    let shows_service = !outcome.resource_attributes_pending;
    if !outcome.references.is_empty() {
        outcome = account.secrets(&variables, &places, outcome, extent).await?;
    }
    if outcome.blackhole {
        let variable =
            if variables.contains_key("ROTEL_EXPORTERS") { "ROTEL_EXPORTERS" } else { "ROTEL_EXPORTER" };
        let place = places.get(variable).map_or(variable, String::as_str);
        return account.verdict(&format!("{place} is blackhole, so nothing is sent"));
    }
    let function_name = variables.get("AWS_LAMBDA_FUNCTION_NAME").filter(|name| !name.is_empty());
    let service_name = function_name.map_or_else(
        || canary::SERVICE.to_owned(),
        |function_name| resource::service_name(&outcome.config, function_name),
    );
    let given = Given { variables: &variables, places: &places, service_name: &service_name, shows_service };
    for destination in &outcome.config.destinations {
        account.destination(&given, destination, extent).await?;
    }
    account.verdict(match extent {
        Extent::Whole => "every signal that has an endpoint was accepted there",
        Extent::Offline => "nothing is wrong as far as that shows offline",
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
struct Given<'a> {
    variables: &'a Variables,
    places: &'a Places,
    service_name: &'a str,
    /// What comes from a secret is not shown.
    shows_service: bool,
}

/// The text on its way to a person, and what of it is not well.
struct Account<'a, W> {
    out: &'a mut W,
    /// Those that were told.
    faults: Faults,
    /// What else keeps telemetry from arriving.
    wrong: Vec<String>,
}

impl<W: Write> Account<'_, W> {
    fn configuration(&mut self, settings: &Settings) -> io::Result<()> {
        writeln!(self.out, "Configuration")?;
        let mut rows = config::describe(&settings.environment, &settings.file, &settings.collector);
        rows.retain(|row| !row.is_nothing());
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

    /// Tells the faults that are new.
    fn faults<T: Display>(&mut self, heading: &str, faults: impl IntoIterator<Item = T>) -> io::Result<()> {
        let new = self.faults.take_in(faults);
        self.list(heading, new)
    }

    /// Fetches the secrets, unless nothing may be fetched; answers with what the variables mean then.
    async fn secrets(
        &mut self,
        variables: &Variables,
        places: &Places,
        outcome: Outcome,
        extent: Extent,
    ) -> io::Result<Outcome> {
        let mut arns: Vec<_> =
            outcome.references.iter().map(|reference| reference.arn.text.as_str()).collect();
        arns.dedup();
        if extent == Extent::Offline {
            self.list("Secrets, to be fetched", arns)?;
            return Ok(outcome);
        }
        let resolved =
            settings::resolve(variables, places, &outcome.references, CredentialSources::Cli).await;
        self.heading("Secrets")?;
        for arn in arns {
            match resolved.faults.iter().find(|fault| fault.arn == arn) {
                None => writeln!(self.out, "  ok      {arn}")?,
                Some(fault) => writeln!(self.out, "  FAILED  {}", echo::one_line(&fault.to_string()))?,
            }
        }
        match resolved.faults.len() {
            0 => {}
            failed => self.wrong.push(counted(failed, "secret not fetched", "secrets not fetched")),
        }
        self.faults("Faults with the secrets", &resolved.outcome.faults)?;
        Ok(resolved.outcome)
    }

    /// Makes the exporter, and sends it something of each signal unless nothing may be sent.
    async fn destination(
        &mut self,
        given: &Given<'_>,
        destination: &Destination,
        extent: Extent,
    ) -> io::Result<()> {
        let name = &destination.exporter;
        let is_unset =
            |signal: &Signal| exporter_variable(given.variables, name, *signal, "ENDPOINT").is_none();
        if Signal::ALL.iter().all(is_unset) {
            if name.is_only() {
                self.wrong
                    .push("no endpoint, so nothing can be sent; set ROTEL_OTLP_EXPORTER_ENDPOINT".to_owned());
            }
            return Ok(());
        }
        let Exports::Known(exports) = &destination.exports else { return Ok(()) };
        let (exporter, unusable) = Exporter::new(exports);
        self.faults("Faults of TLS", unusable)?;
        if extent == Extent::Offline {
            return Ok(());
        }
        let usable = |signal| exports.of(signal).clone().filter(|_| exporter.route(signal).is_some());
        let usable = PerSignal::from_fn(usable);
        let verdicts = send(&exporter, given.service_name).await;
        let of_exporter = name.name().map_or_else(String::new, |name| format!(" of exporter {name}"));
        // A key may stand where the name of a service belongs.
        let shown = echo::value(given.service_name).text().filter(|_| given.shows_service);
        let service = shown.map_or_else(String::new, |name| format!(", service.name = {name}"));
        self.heading(&format!("Test records{of_exporter}{service}"))?;
        self.signals(given, destination, (&usable, &verdicts))
    }

    /// A line a signal, and below them what each failure means, once.
    fn signals(
        &mut self,
        given: &Given<'_>,
        destination: &Destination,
        (exports, verdicts): (&PerSignal<Option<Export>>, &PerSignal<Verdict>),
    ) -> io::Result<()> {
        let mut failures: Vec<(Vec<&str>, String)> = Vec::new();
        for signal in Signal::ALL {
            let Some(export) = exports.of(signal) else {
                if !destination.takes.of(signal) {
                    writeln!(self.out, "  {signal:7}  –       not for this exporter")?;
                } else if exporter_variable(given.variables, &destination.exporter, signal, "ENDPOINT")
                    .is_none()
                {
                    writeln!(
                        self.out,
                        "  {signal:7}  –       no endpoint is set for it, so it is received and dropped"
                    )?;
                } else {
                    writeln!(self.out, "  {signal:7}  FAILED  not sent because of the faults above")?;
                    failures.push((vec![signal.as_str()], String::new()));
                }
                continue;
            };
            let way = Way::new(signal, export, given.variables, given.places);
            let failure = match verdicts.of(signal) {
                Verdict::Accepted { rejected: 0, .. } => None,
                Verdict::Accepted { message, .. } => Some(way.rejected(message.as_ref())),
                Verdict::Retry { failure, .. } | Verdict::TooLarge(failure) | Verdict::Refused(failure) => {
                    Some(way.diagnosis(failure))
                }
            };
            let result = if failure.is_none() { "ok" } else { "FAILED" };
            writeln!(self.out, "  {signal:7}  {result:6}  {}  {}", way.protocol(), way.endpoint())?;
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
        if let known @ 1.. = self.faults.len() {
            self.wrong.insert(0, counted(known, "fault", "faults"));
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

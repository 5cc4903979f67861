//! `--check`: reads the settings like the extension does, prints errors and warnings, fetches the secrets, sends one item of
//! each signal, and prints the results.
//!
//! Promises that no secret is printed, and that the check succeeds only if every signal with an endpoint was accepted. Leaves
//! the diagnosis of failures to `core::config::diagnosis`.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

use crate::app::reported_errors::ReportedErrors;
use crate::app::settings::{self, Settings};
use crate::edge::clock;
use crate::edge::exporter::Exporter;
use crate::edge::secrets::CredentialSources;
use rotel_core::config::ValueSource;
use rotel_core::config::diagnosis::ConfiguredRoute;
use rotel_core::config::resource;
use rotel_core::config::{
    self, Destination, Export, Exports, ParsedConfig, SourceLocations, Variables, exporter_variable,
};
use rotel_core::delivery::verdict::Verdict;
use rotel_core::echo;
use rotel_core::otlp::canary;
use rotel_core::processors::Processors;
use rotel_core::signal::{PerSignal, Signal};

/// The headings of problems.
const WARNINGS: &str = "Warnings";
const ERRORS: &str = "Errors";

/// The options of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Uses no network: fetches no secrets and sends nothing.
    pub is_offline: bool,
    /// Prints the defaults of variables that are not set, too.
    pub shows_defaults: bool,
    pub form: ReportForm,
}

/// The form of the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportForm {
    #[default]
    Text,
    /// Text for a terminal: results and headings of problems have colours.
    ColoredText,
    /// One JSON object. `docs/configuration.md` has its fields.
    Json,
}

/// A colour of terminals.
#[derive(Clone, Copy)]
enum Color {
    Red = 31,
    Green = 32,
    Yellow = 33,
}

/// Checks the settings in `environment` and writes a report to `out`; returns true if the check passes.
pub async fn run(environment: Variables, options: CheckOptions, out: &mut impl Write) -> io::Result<bool> {
    let settings = Settings::read(environment);
    let mut report = CheckReport {
        out,
        options,
        errors: ReportedErrors::default(),
        failures: Vec::new(),
        problems: Vec::new(),
        json: JsonReport::default(),
    };
    report.configuration(&settings)?;
    report.processors(&settings.processors)?;
    report.list(WARNINGS, settings.warnings());
    let filter_errors = settings.parsed.config.log_filter.compile().1;
    report.errors(ERRORS, settings.errors().chain(&filter_errors));
    let Settings { variables, locations, mut parsed, .. } = settings;
    let shows_service = !parsed.resource_attributes_pending;
    if !parsed.references.is_empty() {
        parsed = report.secrets(&variables, &locations, parsed).await?;
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
        report.destination(&context, destination).await?;
    }
    report.verdict(if options.is_offline {
        "no errors found offline"
    } else {
        "all signals with an endpoint were accepted"
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
    options: CheckOptions,
    /// The errors that were printed.
    errors: ReportedErrors,
    /// Other reasons why telemetry does not arrive, for the last line.
    failures: Vec<String>,
    /// The lines about problems under their headings. They come last, above the verdict, where people look.
    problems: Vec<(String, Vec<String>)>,
    json: JsonReport,
}

/// The report for other programs.
#[derive(Default, Serialize)]
struct JsonReport {
    ok: bool,
    /// The last line of the report for people.
    summary: String,
    configuration: Vec<JsonSetting>,
    processors: Vec<JsonProcessors>,
    secrets: Vec<JsonSecret>,
    records: Vec<JsonRecord>,
    warnings: Vec<String>,
    errors: Vec<String>,
}

#[derive(Serialize)]
struct JsonSetting {
    variable: String,
    /// With credentials redacted.
    value: String,
    source: String,
}

/// The processors of a `collector.yaml` that act on one signal.
#[derive(Serialize)]
struct JsonProcessors {
    signal: &'static str,
    types: Vec<&'static str>,
}

#[derive(Serialize)]
struct JsonSecret {
    arn: String,
    /// `null` if it was fetched.
    error: Option<String>,
}

/// The test record of one signal.
#[derive(Serialize)]
struct JsonRecord {
    /// `null` for the unnamed exporter.
    exporter: Option<String>,
    signal: &'static str,
    /// These two are `null` if the settings have errors.
    protocol: Option<&'static str>,
    endpoint: Option<String>,
    /// Offline, none is sent.
    sent: bool,
    /// `null` if it was accepted, or not sent because of `--offline`.
    error: Option<String>,
}

impl<W: Write> CheckReport<'_, W> {
    /// Prints a line for people.
    fn line(&mut self, line: fmt::Arguments<'_>) -> io::Result<()> {
        if self.options.form == ReportForm::Json { Ok(()) } else { writeln!(self.out, "{line}") }
    }

    /// A word of the report in a colour, if the report has colours.
    fn colored(&self, color: Color, text: &str) -> String {
        if self.options.form == ReportForm::ColoredText {
            format!("\x1b[{}m{text}\x1b[0m", color as u8)
        } else {
            text.to_owned()
        }
    }

    /// A result, in its column.
    fn result(&self, is_ok: bool) -> String {
        if is_ok { self.colored(Color::Green, "ok    ") } else { self.colored(Color::Red, "FAILED") }
    }

    fn configuration(&mut self, settings: &Settings) -> io::Result<()> {
        self.line(format_args!("Configuration"))?;
        let mut rows = config::describe(&settings.environment, &settings.file, &settings.collector);
        let shows_defaults = self.options.shows_defaults;
        rows.retain(|row| !row.has_no_value() && (shows_defaults || row.source != ValueSource::Default));
        if rows.is_empty() {
            self.line(format_args!("  no variable is set; --all shows the defaults"))?;
        }
        let width = rows.iter().map(|row| row.variable.len()).max().unwrap_or(0);
        for row in rows {
            let value = echo::one_line(&row.value);
            self.line(format_args!("  {:width$}  {:11}  {value}", row.variable, row.source))?;
            let source = row.source.to_string();
            self.json.configuration.push(JsonSetting { variable: row.variable, value: row.value, source });
        }
        Ok(())
    }

    /// Lists the processors of the `collector.yaml`.
    fn processors(&mut self, processors: &Processors) -> io::Result<()> {
        let types = Signal::ALL
            .map(|signal| JsonProcessors { signal: signal.as_str(), types: processors.types(signal) });
        let acting: Vec<_> = types.into_iter().filter(|acting| !acting.types.is_empty()).collect();
        if !acting.is_empty() {
            let lines = acting
                .iter()
                .map(|JsonProcessors { signal, types }| format!("{signal:7}  {}", types.join(", ")));
            let lines: Vec<_> = lines.collect();
            self.print("Processors", lines)?;
        }
        self.json.processors = acting;
        Ok(())
    }

    fn heading(&mut self, heading: &str) -> io::Result<()> {
        self.line(format_args!("\n{heading}"))
    }

    /// Prints a list under a heading.
    fn print<T: Display>(&mut self, heading: &str, items: impl IntoIterator<Item = T>) -> io::Result<()> {
        self.heading(heading)?;
        items
            .into_iter()
            .try_for_each(|item| self.line(format_args!("  {}", echo::one_line(&item.to_string()))))
    }

    /// Adds problems to be printed under a heading.
    fn list<T: Display>(&mut self, heading: &str, items: impl IntoIterator<Item = T>) {
        let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
        if items.is_empty() {
            return;
        }
        match self.problems.iter_mut().find(|(known, _)| known == heading) {
            Some((_, known)) => known.extend(items),
            None => self.problems.push((heading.to_owned(), items)),
        }
    }

    /// Adds the errors that are new.
    fn errors<T: Display>(&mut self, heading: &str, errors: impl IntoIterator<Item = T>) {
        let new = self.errors.add_new(errors);
        self.list(heading, new);
    }

    /// Fetches the secrets, unless offline; returns the variables parsed with them.
    async fn secrets(
        &mut self,
        variables: &Variables,
        locations: &SourceLocations,
        parsed: ParsedConfig,
    ) -> io::Result<ParsedConfig> {
        let mut arns: Vec<_> =
            parsed.references.iter().map(|reference| reference.arn.text.as_str()).collect();
        arns.dedup();
        if self.options.is_offline {
            self.print("Secrets (not fetched)", arns)?;
            return Ok(parsed);
        }
        announce(&format!("fetching {}", counted(arns.len(), "secret", "secrets")));
        let resolved =
            settings::resolve(variables, locations, &parsed.references, CredentialSources::Cli).await;
        self.heading("Secrets")?;
        for arn in arns {
            let error = resolved.errors.iter().find(|error| error.arn == arn).map(ToString::to_string);
            match &error {
                None => self.line(format_args!("  {}  {arn}", self.result(true)))?,
                Some(error) => {
                    self.line(format_args!("  {}  {}", self.result(false), echo::one_line(error)))?;
                }
            }
            self.json.secrets.push(JsonSecret { arn: arn.to_owned(), error });
        }
        match resolved.errors.len() {
            0 => {}
            failed => self.failures.push(counted(failed, "secret not fetched", "secrets not fetched")),
        }
        self.errors(ERRORS, &resolved.parsed.errors);
        Ok(resolved.parsed)
    }

    /// Creates the exporter and, unless offline, sends one item of each signal.
    async fn destination(&mut self, context: &CheckContext<'_>, destination: &Destination) -> io::Result<()> {
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
        self.errors(ERRORS, unusable);
        let usable = |signal| exports.of(signal).clone().filter(|_| exporter.route(signal).is_some());
        let usable = PerSignal::from_fn(usable);
        let of_exporter = name.name().map_or_else(String::new, |name| format!(" for exporter {name}"));
        if self.options.is_offline {
            self.heading(&format!("Endpoints{of_exporter} (nothing is sent)"))?;
            return self.signals(context, destination, (&usable, None));
        }
        announce("sending test records");
        let verdicts = send(&exporter, context.service_name).await;
        // Someone may have set a key in place of the service name.
        let shown = echo::value(context.service_name).text().filter(|_| context.shows_service);
        let service = shown.map_or_else(String::new, |name| format!(", service.name = {name}"));
        self.heading(&format!("Test records{of_exporter}{service}"))?;
        self.signals(context, destination, (&usable, Some(&verdicts)))
    }

    /// Prints one line per signal, with the verdict on its test record if one was sent; then the distinct diagnoses.
    fn signals(
        &mut self,
        context: &CheckContext<'_>,
        destination: &Destination,
        (exports, verdicts): (&PerSignal<Option<Export>>, Option<&PerSignal<Verdict>>),
    ) -> io::Result<()> {
        let mut failures: Vec<(Vec<&str>, String)> = Vec::new();
        for signal in Signal::ALL {
            let Some(export) = exports.of(signal) else {
                if !destination.signals.of(signal) {
                    self.line(format_args!("  {signal:7}  –       not sent by this exporter"))?;
                } else if exporter_variable(context.variables, &destination.exporter, signal, "ENDPOINT")
                    .is_none()
                {
                    self.line(format_args!(
                        "  {signal:7}  –       no endpoint, so it is received and dropped"
                    ))?;
                } else {
                    let result = self.result(false);
                    self.line(format_args!("  {signal:7}  {result}  not sent because of the errors below"))?;
                    failures.push((vec![signal.as_str()], String::new()));
                    self.json.records.push(JsonRecord {
                        exporter: destination.exporter.name().map(ToString::to_string),
                        signal: signal.as_str(),
                        protocol: None,
                        endpoint: None,
                        sent: false,
                        error: Some("not sent because of the errors".to_owned()),
                    });
                }
                continue;
            };
            let route = ConfiguredRoute::new(signal, export, context.variables, context.locations);
            let verdict = verdicts.map(|verdicts| verdicts.of(signal));
            let failure = match verdict {
                None | Some(Verdict::Accepted { rejected: 0, .. }) => None,
                Some(Verdict::Accepted { message, .. }) => Some(route.rejected(message.as_ref())),
                Some(
                    Verdict::Retry { failure, .. } | Verdict::TooLarge(failure) | Verdict::Refused(failure),
                ) => Some(route.diagnosis(failure)),
            };
            let result = verdict.map_or_else(|| "–     ".to_owned(), |_| self.result(failure.is_none()));
            let (protocol, endpoint) = (route.protocol(), route.endpoint());
            self.line(format_args!("  {signal:7}  {result}  {protocol}  {endpoint}"))?;
            self.json.records.push(JsonRecord {
                exporter: destination.exporter.name().map(ToString::to_string),
                signal: signal.as_str(),
                protocol: Some(protocol),
                endpoint: Some(endpoint),
                sent: verdict.is_some(),
                error: failure.clone(),
            });
            let Some(failure) = failure else { continue };
            match failures.iter_mut().find(|(_, known)| *known == failure) {
                Some((signals, _)) => signals.push(signal.as_str()),
                None => failures.push((vec![signal.as_str()], failure)),
            }
        }
        match failures.iter().map(|(signals, _)| signals.len()).sum() {
            0 => {}
            failed if verdicts.is_some() => {
                self.failures.push(counted(failed, "signal not accepted", "signals not accepted"));
            }
            _ => {}
        }
        failures.retain(|(_, failure)| !failure.is_empty());
        self.list(
            "Diagnosis",
            failures.iter().map(|(signals, failure)| format!("{}: {failure}", signals.join(", "))),
        );
        Ok(())
    }

    /// Prints the problems, and in the last line `success` or the failures. Returns true on success.
    fn verdict(mut self, success: &str) -> io::Result<bool> {
        for (heading, items) in std::mem::take(&mut self.problems) {
            match heading.as_str() {
                WARNINGS => self.json.warnings.clone_from(&items),
                ERRORS => self.json.errors.clone_from(&items),
                // A record has its own diagnosis.
                _ => {}
            }
            let color = if heading == WARNINGS { Color::Yellow } else { Color::Red };
            self.print(&self.colored(color, &heading), items)?;
        }
        if let known @ 1.. = self.errors.len() {
            self.failures.insert(0, counted(known, "error", "errors"));
        }
        let is_ok = self.failures.is_empty();
        let summary =
            if is_ok { format!("OK: {success}") } else { format!("FAILED: {}", self.failures.join(", ")) };
        self.heading(&self.colored(if is_ok { Color::Green } else { Color::Red }, &summary))?;
        if self.options.form == ReportForm::Json {
            let report = JsonReport { ok: is_ok, summary, ..self.json };
            serde_json::to_writer(&mut *self.out, &report)?;
            writeln!(self.out)?;
        }
        self.out.flush()?;
        Ok(is_ok)
    }
}

/// Prints the reason for waiting, if a person is at the terminal.
#[expect(clippy::print_stderr, reason = "output for a person, outside Lambda")]
fn announce(action: &str) {
    if io::stderr().is_terminal() {
        eprintln!("{action}…");
    }
}

fn counted(count: usize, one: &str, several: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {several}") }
}

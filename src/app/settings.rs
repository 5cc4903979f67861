//! The settings from all sources: the file named by `ROTEL_ENV_FILE` overrides the process environment, and both override
//! the `collector.yaml` of the OpenTelemetry collector layer. Values may refer to secrets.
//!
//! Promises not to fail: invalid settings are reported as errors. Their defaults are used, or the signal is not exported.

use std::fmt;
use std::panic;
use std::path::Path;
use std::time::Duration;

use crate::app::reported_errors::ReportedErrors;
use crate::edge::files::{self, Unreadable};
use crate::edge::secrets::{CredentialSources, Fetcher, Resolution, SecretError};
use rotel_core::config::collector_yaml::{self, CollectorYaml, ConfigText, ConfigUri};
use rotel_core::config::env_file::{self, EnvFile};
use rotel_core::config::secret_ref::{self, SecretRef, Secrets};
use rotel_core::config::{self, Config, ParsedConfig, Problem, SourceLocations, Variables};
use rotel_core::echo;
use rotel_core::processors::Processors;

/// The time limit for fetching secrets.
pub(super) const SECRETS_BUDGET: Duration = Duration::from_secs(5);

/// The settings from all sources, before secrets are fetched.
pub struct Settings {
    pub environment: Variables,
    /// The variables of the env file; they override the environment.
    pub file: Variables,
    /// The variables of the `collector.yaml`; all others override them.
    pub collector: Variables,
    /// The result of merging the three.
    pub variables: Variables,
    /// The locations of those variables that come from the `collector.yaml`.
    pub locations: SourceLocations,
    /// The processors of the `collector.yaml`.
    pub processors: Processors,
    /// The parsed `variables`.
    pub parsed: ParsedConfig,
    /// Warnings about the two files.
    pub file_warnings: Vec<Problem>,
    /// Errors in the two files.
    pub file_errors: Vec<Problem>,
}

/// Leaves out the variables, which may be credentials.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("parsed", &self.parsed)
            .field("file_warnings", &self.file_warnings)
            .field("file_errors", &self.file_errors)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads the files named by variables, and parses the merged variables.
    pub fn read(environment: Variables) -> Self {
        let env_file = env_file(&environment);
        let EnvFile { variables: file, locations: file_locations, broken, .. } = env_file;
        let (mut file_warnings, mut file_errors) = (env_file.warnings, env_file.errors);
        let mut variables = config::overlay(&environment, &file);
        let mut collector_yaml = collector_yaml(&variables);
        collector_yaml.apply_as_defaults(&mut variables);
        let CollectorYaml { variables: mut collector, mut locations, warnings, errors, processors, .. } =
            collector_yaml;
        file_warnings.extend(warnings);
        file_errors.extend(errors);
        if let Some(error) = file_errors.first()
            && !collector_yaml::is_optional(&variables)
            && broken.iter().any(|name| collector_yaml::sets_destination(name))
        {
            // A malformed line has the endpoint, so no message says that it is missing.
            for all in [&mut variables, &mut collector] {
                all.insert("ROTEL_EXPORTER".to_owned(), "blackhole".to_owned());
            }
            locations.insert("ROTEL_EXPORTER".to_owned(), error.variable.clone());
        }
        let locations =
            SourceLocations { collector_yaml: locations, env_file: file_locations, malformed: broken };
        let parsed = config::read_with_locations(&variables, &locations, None);
        Self {
            environment,
            file,
            collector,
            variables,
            locations,
            processors,
            parsed,
            file_warnings,
            file_errors,
        }
    }

    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.file_warnings.iter().chain(&self.parsed.warnings)
    }

    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.file_errors.iter().chain(&self.parsed.errors)
    }
}

fn env_file(environment: &Variables) -> EnvFile {
    let Some(path) = config::env_file_path(environment) else { return EnvFile::default() };
    match files::read_text(path, env_file::SIZE_LIMIT) {
        Ok(text) => env_file::parse(&text, path, environment),
        Err(unreadable) => EnvFile {
            errors: vec![Problem {
                variable: env_file::VARIABLE.to_owned(),
                message: format!("{} {unreadable}", echo::path(path)),
            }],
            ..EnvFile::default()
        },
    }
}

/// Reads the configuration of a collector, if a variable names one.
fn collector_yaml(variables: &Variables) -> CollectorYaml {
    let Some((variable, uris)) = config::collector_yaml_uris(variables) else {
        return CollectorYaml::default();
    };
    let problem = |message| Problem { variable: variable.to_owned(), message };
    let uris = match collector_yaml::parse_uris(uris) {
        Ok(uris) => uris,
        Err(message) => return CollectorYaml::with_error(problem(message), variables),
    };
    let mut texts = Vec::new();
    for uri in uris {
        match config_text(variable, uri, variables) {
            Ok(text) => texts.push(text),
            Err(failed) => return *failed,
        }
    }
    // The customer's file is parsed by a third-party crate: a panic there must not fail the function.
    let read = panic::catch_unwind(|| collector_yaml::read_all(&texts, variables));
    read.unwrap_or_else(|_| {
        let message = "cannot be read because of a bug in the extension; please report it".to_owned();
        CollectorYaml::with_error(problem(message), variables)
    })
}

/// Reads one text of a collector's configuration. `variable` names it.
fn config_text(
    variable: &str,
    uri: ConfigUri<'_>,
    variables: &Variables,
) -> Result<ConfigText, Box<CollectorYaml>> {
    let problem = |message| Problem { variable: variable.to_owned(), message };
    match uri {
        ConfigUri::File(path) => {
            let text = files::read_text(path, collector_yaml::SIZE_LIMIT).map_err(|unreadable| {
                let is_optional =
                    matches!(unreadable, Unreadable::Missing) && collector_yaml::is_optional(variables);
                let error = problem(format!("{} {unreadable}", echo::path(path)));
                Box::new(if is_optional {
                    CollectorYaml::with_warning(error)
                } else {
                    CollectorYaml::with_error(error, variables)
                })
            })?;
            let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path);
            Ok(ConfigText { name: name.to_owned(), text })
        }
        ConfigUri::Variable(name) => {
            let Some(text) = variables.get(name) else {
                let message = format!("env:{} is not set; set it to the YAML text", echo::name(name));
                return Err(Box::new(CollectorYaml::with_error(problem(message), variables)));
            };
            Ok(ConfigText { name: name.to_owned(), text: text.clone() })
        }
        ConfigUri::Yaml(text) => Ok(ConfigText { name: variable.to_owned(), text: text.to_owned() }),
    }
}

/// The variables, parsed with the fetched secrets.
#[derive(Debug)]
pub struct Resolved {
    /// No setting in it is pending.
    pub parsed: ParsedConfig,
    /// The errors of secrets that could not be fetched, each with AWS's error code.
    pub errors: Vec<SecretError>,
}

impl Resolved {
    /// Parses the variables again with the fetched secrets. `locations` are those of [`Settings`].
    pub fn new(
        variables: &Variables,
        locations: &SourceLocations,
        references: &[SecretRef],
        resolution: Resolution,
    ) -> Self {
        let mut fetched = Secrets::new();
        // `collect` would sort them first, which adds code.
        fetched.extend(references.iter().filter_map(|reference| {
            Some((reference.arn.clone(), resolution.values.get(&reference.arn.text)?.clone()))
        }));
        let parsed = config::read_with_locations(variables, locations, Some(&fetched));
        Self { parsed, errors: resolution.errors }
    }

    /// Logs the errors that are new, and returns the configuration.
    pub(super) fn into_config(self, errors: &mut ReportedErrors) -> Config {
        errors.log_new(&self.errors);
        errors.log_new(&self.parsed.errors);
        self.parsed.config
    }
}

/// Fetches the secrets, with retries until the time limit, and parses the variables again.
pub async fn resolve(
    variables: &Variables,
    locations: &SourceLocations,
    references: &[SecretRef],
    sources: CredentialSources,
) -> Resolved {
    let fetcher = Fetcher::new(variables.clone(), secret_ref::batches(references));
    let resolution = fetcher.with_credentials_from(sources).rounds(SECRETS_BUDGET).await;
    Resolved::new(variables, locations, references, resolution)
}

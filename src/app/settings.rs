//! What people have set: the process environment, the file that `ROTEL_ENV_FILE` names over it, the `collector.yaml` of
//! those who come from the OpenTelemetry collector layer under both, and the secrets that all refer to.
//!
//! Nothing here fails: what is wrong is a error to be told, and what it concerns does without.

use std::fmt;
use std::panic;
use std::path::Path;
use std::time::Duration;

use crate::app::reported_errors::ReportedErrors;
use crate::core::config::collector_yaml::{self, CollectorYaml};
use crate::core::config::env_file::{self, EnvFile};
use crate::core::config::secret_ref::{self, SecretRef, Secrets};
use crate::core::config::{self, Config, ParsedConfig, Problem, SourceLocations, Variables};
use crate::core::echo;
use crate::edge::files::{self, Unreadable};
use crate::edge::secrets::{CredentialSources, Fetcher, Resolution, SecretFault};

/// The time for secrets that are needed at once.
pub(super) const SECRETS_BUDGET: Duration = Duration::from_secs(5);

/// Everything that people have set, as far as it is known without the secrets.
pub struct Settings {
    /// The process environment.
    pub environment: Variables,
    /// What the file sets; it wins over the environment.
    pub file: Variables,
    /// What the `collector.yaml` sets; all else wins over it.
    pub collector: Variables,
    /// What holds of the three.
    pub variables: Variables,
    /// Where in the `collector.yaml` those variables stand that hold of it.
    pub locations: SourceLocations,
    /// What they mean.
    pub parsed: ParsedConfig,
    /// What is odd about the files.
    pub file_warnings: Vec<Problem>,
    /// What is wrong with the files.
    pub file_errors: Vec<Problem>,
}

/// Without the variables, which may hold credentials.
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
    /// Reads the file, if the environment names one, and what both say.
    pub fn read(environment: Variables) -> Self {
        let (file, mut file_warnings, mut file_errors) = match env_file(&environment) {
            Ok(EnvFile { variables, warnings, errors }) => (variables, warnings, errors),
            Err(errors) => (Variables::new(), Vec::new(), errors),
        };
        let mut variables = config::overlay(&environment, &file);
        let mut collector_yaml = collector_yaml(&variables);
        collector_yaml.apply_as_defaults(&mut variables);
        let CollectorYaml { variables: collector, locations, warnings, errors, .. } = collector_yaml;
        file_warnings.extend(warnings);
        file_errors.extend(errors);
        let parsed = config::read_with_locations(&variables, &locations, None);
        Self { environment, file, collector, variables, locations, parsed, file_warnings, file_errors }
    }

    /// What is odd, but does no harm.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.file_warnings.iter().chain(&self.parsed.warnings)
    }

    /// What is wrong.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.file_errors.iter().chain(&self.parsed.errors)
    }
}

fn env_file(environment: &Variables) -> Result<EnvFile, Vec<Problem>> {
    let Some(path) = config::env_file_path(environment) else { return Ok(EnvFile::default()) };
    match files::read_text(path, env_file::SIZE_LIMIT) {
        Ok(text) => env_file::parse(&text, environment),
        Err(unreadable) => Err(vec![Problem {
            variable: env_file::VARIABLE.to_owned(),
            message: format!("{} {unreadable}", echo::path(path)),
        }]),
    }
}

/// Reads the `collector.yaml`, if a variable names one.
fn collector_yaml(variables: &Variables) -> CollectorYaml {
    let Some((variable, uri)) = config::collector_yaml_path(variables) else {
        return CollectorYaml::default();
    };
    let path = match collector_yaml::path(uri) {
        Ok(path) => path,
        Err(message) => return CollectorYaml::with_error(Problem { variable: variable.to_owned(), message }),
    };
    match files::read_text(path, collector_yaml::SIZE_LIMIT) {
        Ok(text) => {
            let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path);
            // The file is the customer's and its syntax another crate's: what panics here must not end the function.
            let read = panic::catch_unwind(|| collector_yaml::read(&text, name, variables));
            read.unwrap_or_else(|_| {
                let message =
                    format!("{} cannot be read, which is a bug; please report it", echo::path(path));
                CollectorYaml::with_error(Problem { variable: variable.to_owned(), message })
            })
        }
        Err(unreadable) => {
            let is_optional =
                matches!(unreadable, Unreadable::Missing) && collector_yaml::is_optional(variables);
            let error = Problem {
                variable: variable.to_owned(),
                message: format!("{} {unreadable}", echo::path(path)),
            };
            if is_optional { CollectorYaml::with_warning(error) } else { CollectorYaml::with_error(error) }
        }
    }
}

/// What the variables mean with the secrets that they refer to.
#[derive(Debug)]
pub struct Resolved {
    /// Nothing in it is awaited any more.
    pub parsed: ParsedConfig,
    /// References that could not be fetched, each with AWS's error code.
    pub errors: Vec<SecretFault>,
}

impl Resolved {
    /// Reads the variables anew with what was fetched. `locations` are those of [`Settings`].
    pub fn new(
        variables: &Variables,
        locations: &SourceLocations,
        references: &[SecretRef],
        resolution: Resolution,
    ) -> Self {
        let mut fetched = Secrets::new();
        // Not collected, for which they would be sorted first.
        fetched.extend(references.iter().filter_map(|reference| {
            Some((reference.arn.clone(), resolution.values.get(&reference.arn.text)?.clone()))
        }));
        let parsed = config::read_with_locations(variables, locations, Some(&fetched));
        Self { parsed, errors: resolution.faults }
    }

    /// What the variables mean, once what is wrong with them and the secrets was told.
    pub(super) fn into_config(self, errors: &mut ReportedErrors) -> Config {
        errors.log_new(&self.errors);
        errors.log_new(&self.parsed.errors);
        self.parsed.config
    }
}

/// Fetches the secrets in as many rounds as the budget has room for, and reads the variables anew with them.
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

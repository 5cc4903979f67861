//! What people have set: the process environment, the file that `ROTEL_ENV_FILE` names over it, the `collector.yaml` of
//! those who come from the OpenTelemetry collector layer under both, and the secrets that all refer to.
//!
//! Nothing here fails: what is wrong is a fault to be told, and what it concerns does without.

use std::fmt;
use std::panic;
use std::path::Path;
use std::time::Duration;

use crate::app::faults::Faults;
use crate::core::config::collector_yaml::{self, CollectorYaml};
use crate::core::config::env_file::{self, EnvFile};
use crate::core::config::secret_ref::{self, SecretRef, Secrets};
use crate::core::config::{self, Config, Fault, Outcome, Places, Variables};
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
    pub places: Places,
    /// What they mean.
    pub outcome: Outcome,
    /// What is odd about the files.
    pub file_warnings: Vec<Fault>,
    /// What is wrong with the files.
    pub file_faults: Vec<Fault>,
}

/// Without the variables, which may hold credentials.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("outcome", &self.outcome)
            .field("file_warnings", &self.file_warnings)
            .field("file_faults", &self.file_faults)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads the file, if the environment names one, and what both say.
    pub fn read(environment: Variables) -> Self {
        let (file, mut file_warnings, mut file_faults) = match env_file(&environment) {
            Ok(EnvFile { variables, warnings, faults }) => (variables, warnings, faults),
            Err(faults) => (Variables::new(), Vec::new(), faults),
        };
        let mut variables = config::laid_over(&environment, &file);
        let mut collector_yaml = collector_yaml(&variables);
        collector_yaml.lie_under(&mut variables);
        let CollectorYaml { variables: collector, places, warnings, faults, .. } = collector_yaml;
        file_warnings.extend(warnings);
        file_faults.extend(faults);
        let outcome = config::read_placed(&variables, &places, None);
        Self { environment, file, collector, variables, places, outcome, file_warnings, file_faults }
    }

    /// What is odd, but does no harm.
    pub fn warnings(&self) -> impl Iterator<Item = &Fault> {
        self.file_warnings.iter().chain(&self.outcome.warnings)
    }

    /// What is wrong.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.file_faults.iter().chain(&self.outcome.faults)
    }
}

fn env_file(environment: &Variables) -> Result<EnvFile, Vec<Fault>> {
    let Some(path) = config::env_file_path(environment) else { return Ok(EnvFile::default()) };
    match files::read_text(path, env_file::SIZE_LIMIT) {
        Ok(text) => env_file::parse(&text, environment),
        Err(unreadable) => Err(vec![Fault {
            variable: env_file::VARIABLE.to_owned(),
            problem: format!("{} {unreadable}", echo::path(path)),
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
        Err(problem) => return CollectorYaml::faulty(Fault { variable: variable.to_owned(), problem }),
    };
    match files::read_text(path, collector_yaml::SIZE_LIMIT) {
        Ok(text) => {
            let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path);
            // The file is the customer's and its syntax another crate's: what panics here must not end the function.
            let read = panic::catch_unwind(|| collector_yaml::read(&text, name, variables));
            read.unwrap_or_else(|_| {
                let problem =
                    format!("{} cannot be read, which is a bug; please report it", echo::path(path));
                CollectorYaml::faulty(Fault { variable: variable.to_owned(), problem })
            })
        }
        Err(unreadable) => {
            let is_dispensable =
                matches!(unreadable, Unreadable::Missing) && collector_yaml::is_dispensable(variables);
            let fault = Fault {
                variable: variable.to_owned(),
                problem: format!("{} {unreadable}", echo::path(path)),
            };
            if is_dispensable { CollectorYaml::dispensable(fault) } else { CollectorYaml::faulty(fault) }
        }
    }
}

/// What the variables mean with the secrets that they refer to.
#[derive(Debug)]
pub struct Resolved {
    /// Nothing in it is awaited any more.
    pub outcome: Outcome,
    /// References that could not be fetched, each with AWS's error code.
    pub faults: Vec<SecretFault>,
}

impl Resolved {
    /// Reads the variables anew with what was fetched. `places` are those of [`Settings`].
    pub fn new(
        variables: &Variables,
        places: &Places,
        references: &[SecretRef],
        resolution: Resolution,
    ) -> Self {
        let mut fetched = Secrets::new();
        // Not collected, for which they would be sorted first.
        fetched.extend(references.iter().filter_map(|reference| {
            Some((reference.arn.clone(), resolution.values.get(&reference.arn.text)?.clone()))
        }));
        let outcome = config::read_placed(variables, places, Some(&fetched));
        Self { outcome, faults: resolution.faults }
    }

    /// What the variables mean, once what is wrong with them and the secrets was told.
    pub(super) fn told(self, faults: &mut Faults) -> Config {
        faults.tell(&self.faults);
        faults.tell(&self.outcome.faults);
        self.outcome.config
    }
}

/// Fetches the secrets in as many rounds as the budget has room for, and reads the variables anew with them.
pub async fn resolve(
    variables: &Variables,
    places: &Places,
    references: &[SecretRef],
    sources: CredentialSources,
) -> Resolved {
    let fetcher = Fetcher::new(variables.clone(), secret_ref::batches(references));
    let resolution = fetcher.with_credentials_from(sources).rounds(SECRETS_BUDGET).await;
    Resolved::new(variables, places, references, resolution)
}

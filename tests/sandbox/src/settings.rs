//! The settings made before the environment starts.

use std::time::Duration;

/// The function's configuration in Lambda.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) function_name: String,
    pub(crate) memory_mb: u32,
    pub(crate) timeout: Duration,
    pub(crate) init_timeout: Option<Duration>,
    pub(crate) initialization: Initialization,
    pub(crate) log_format: LogFormat,
    pub(crate) freeze: bool,
    pub(crate) concurrency: usize,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) default_endpoints: bool,
    pub(crate) prompt_telemetry: bool,
    pub(crate) telemetry_max_bytes: Option<usize>,
}

/// The function's version, in all environments.
pub(crate) const VERSION: &str = "$LATEST";
/// The function's handler in its configuration.
pub(crate) const HANDLER: &str = "app.handler";
/// The account id that AWS uses in its examples.
pub(crate) const ACCOUNT: &str = "123456789012";
/// The region of the environment.
pub(crate) const REGION: &str = "us-east-1";

/// The value of `AWS_LAMBDA_INITIALIZATION_TYPE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Initialization {
    /// An invocation waits for the init.
    #[default]
    OnDemand,
    /// The init runs ahead of time; the environment is frozen until the first invocation.
    ProvisionedConcurrency,
    /// The init runs ahead of time, and each environment is restored from its snapshot.
    SnapStart,
    /// Several invocations at once; extensions are not notified; no freeze.
    ManagedInstances,
}

impl Initialization {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OnDemand => "on-demand",
            Self::ProvisionedConcurrency => "provisioned-concurrency",
            Self::SnapStart => "snap-start",
            Self::ManagedInstances => "lambda-managed-instances",
        }
    }
}

/// The value of `AWS_LAMBDA_LOG_FORMAT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines stay text.
    #[default]
    Text,
    /// Lines that are JSON objects become objects.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            function_name: "sandbox-function".to_owned(),
            memory_mb: 128,
            timeout: Duration::from_secs(15),
            init_timeout: None,
            initialization: Initialization::default(),
            log_format: LogFormat::default(),
            freeze: true,
            concurrency: 4,
            variables: Vec::new(),
            default_endpoints: true,
            prompt_telemetry: false,
            telemetry_max_bytes: None,
        }
    }
}

impl Settings {
    /// The time limit of the init. Platform: 10 s, but at least 130 s if no caller waits for it.
    pub(crate) fn init_limit(&self) -> Duration {
        self.init_timeout.unwrap_or(match self.initialization {
            Initialization::OnDemand => Duration::from_secs(10),
            _ => Duration::from_secs(130),
        })
    }

    pub(crate) fn managed(&self) -> bool {
        self.initialization == Initialization::ManagedInstances
    }

    pub(crate) fn arn(&self) -> String {
        format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{}", self.function_name)
    }
}

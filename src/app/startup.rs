//! The startup sequence: read the settings, bind the listeners, register, subscribe, and run the driver, which calls `/next`
//! first. Everything that can wait runs after it, concurrently with the init.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::app::backends::{self, SecretResolver};
use crate::app::driver::{Channels, Driver, DriverSettings};
use crate::app::intake::{IntakeMessage, TelemetryIntake};
use crate::app::pipeline::Pipeline;
use crate::app::reported_errors::ReportedErrors;
use crate::app::sdk::SdkIntake;
use crate::app::settings::{self, Settings};
use crate::app::tasks::Tasks;
use crate::edge::exporter::Exporter;
use crate::edge::extensions_api::{ApiError, ExtensionsApi, Subscription};
use crate::edge::receiver::{self, ReceiverOptions, SignalEndpoint};
use crate::edge::secrets::CredentialSources;
use crate::edge::telemetry_listener::{self, RefusedDeliveries};
use crate::edge::{http, logging};
use rotel_core::body_budget::BodyBudget;
use rotel_core::config::resource::ResourceRules;
use rotel_core::config::{
    Config, Destination, Exports, FunctionInfo, ListenAddress, OnInitError, ParsedConfig, TelemetryTypes,
    Variables,
};
use rotel_core::echo;
use rotel_core::lambda::lifecycle::{self, Lifecycle, Task};
use rotel_core::lambda::platform::{self, InitType, Platform};
use rotel_core::logs::Timeline;
use rotel_core::signal::PerSignal;

/// The time before the function's timeout at which `/next` is called at the latest. It is enough even for the smallest share of
/// a core.
const MARGIN: Duration = Duration::from_millis(100);
/// The time before SIGKILL at which the process exits at the latest.
const EXIT_MARGIN: Duration = Duration::from_millis(200);
/// The wait for the last deliveries: four times the Telemetry API's buffering timeout.
const TELEMETRY_LINGER: Duration = Duration::from_millis(100);
/// The number of ports after the configured one that are tried for the Telemetry API.
const EXTRA_PORTS: u16 = 100;
/// Platform: the Runtime API's own port, on which extensions must not listen.
const RESERVED_PORT: u16 = 9001;
/// The capacity of the queue of request ids for the driver, which receives them immediately.
const RUNTIME_DONE_LIMIT: usize = 64;

/// Runs the extension until shutdown. `executable` is the path by which it was started.
pub async fn run(environment: Variables, executable: &OsStr) -> ExitCode {
    let settings = Settings::read(environment);
    logging::install(&settings.parsed.config.log);
    for warning in settings.warnings() {
        tracing::warn!("{}", echo::one_line(&warning.to_string()));
    }
    let mut errors = ReportedErrors::default();
    errors.log_new(settings.errors());
    let Some(runtime_api) = settings.parsed.config.function.runtime_api.clone() else {
        tracing::error!(
            "AWS_LAMBDA_RUNTIME_API: not set; this program is a Lambda extension, which Lambda starts from /opt/extensions"
        );
        return ExitCode::FAILURE;
    };
    match start(settings, errors, ExtensionsApi::new(&runtime_api), executable).await {
        Ok(Some(driver)) => driver.run().await,
        Ok(None) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!("{error}; exiting, because the extension cannot run without registration");
            ExitCode::FAILURE
        }
    }
}

/// Runs everything before the first `/next`.
///
/// Returns `None` if an error fails the function's init, after reporting it to Lambda.
async fn start(
    settings: Settings,
    mut errors: ReportedErrors,
    mut api: ExtensionsApi,
    executable: &OsStr,
) -> Result<Option<Driver>, ApiError> {
    let Settings { variables, locations, processors, parsed, .. } = settings;
    let mut tasks = Tasks::default();
    #[cfg(feature = "failpoints")]
    tasks.break_by(crate::app::failpoints::activate(&variables));
    let ParsedConfig { mut config, references, resource_attributes_pending, .. } = parsed;
    let fails_init = config.on_init_error == OnInitError::Fail;
    let grpc =
        ReceiverListener::new("ROTEL_OTLP_GRPC_ENDPOINT", &config.receiver.grpc, fails_init, &mut errors)
            .await;
    let http =
        ReceiverListener::new("ROTEL_OTLP_HTTP_ENDPOINT", &config.receiver.http, fails_init, &mut errors)
            .await;
    let telemetry = bind_telemetry(&config.telemetry_endpoint, &mut errors).await;

    // Platform: registration fails unless the name is the executable's file name.
    let name = Path::new(executable).file_name().and_then(|name| name.to_str()).unwrap_or("rotel-extension");
    // Platform: managed instances reject INVOKE, because invocations run concurrently there.
    let events: &[&str] =
        if config.function.managed_instances { &["SHUTDOWN"] } else { &["INVOKE", "SHUTDOWN"] };
    let registration = api.register(name, events).await?;

    let need_secrets: Vec<_> =
        config.destinations.iter().map(|destination| destination.exports == Exports::Pending).collect();
    // Secrets are fetched concurrently with the init. They are awaited here only if no caller waits for the init, if an error
    // must fail it, or if resource attributes depend on them, which all records need.
    if !references.is_empty() && (fails_init || !config.function.on_demand || resource_attributes_pending) {
        let sources = CredentialSources::Function;
        config =
            settings::resolve(&variables, &locations, &references, sources).await.into_config(&mut errors);
    }
    // TLS settings and log filters are checked concurrently with the init too, unless errors must fail it.
    if fails_init {
        for Destination { exports, .. } in &config.destinations {
            if let Exports::Known(exports) = exports {
                errors.log_new(Exporter::new(exports).1);
            }
        }
        errors.log_new(config.log_filter.compile().1);
    }
    if fails_init && let Some(errors) = errors.joined() {
        api.init_error("Extension.ConfigInvalid", &errors).await?;
        return Ok(None);
    }
    let config = &config;

    let rules = ResourceRules::new(config, &registration);
    let resolver = SecretResolver::new(variables, locations, references, errors);
    let backends = backends::of(&config.destinations, &need_secrets, &Arc::new(resolver));
    let (pipeline, to_pipeline) = Pipeline::new(config, rules.clone(), backends);
    tasks.spawn(Task::Pipeline, pipeline.with_processors(processors).run());
    let (to_driver, runtime_done) = mpsc::channel(RUNTIME_DONE_LIMIT);
    let sdk = SdkIntake::new(to_pipeline.clone(), &rules, config.batch_max_items);
    let refused = RefusedDeliveries::default();
    let timeline = Timeline::new(config.function.managed_instances);
    let (intake, to_intake) =
        TelemetryIntake::new(rules, timeline, refused.clone(), to_pipeline.clone(), to_driver);
    tasks.spawn(
        Task::Telemetry,
        intake
            .with_filter(config.log_filter.clone())
            .with_platform(platform(config, registration.function_name))
            .run(),
    );
    let subscribed = match telemetry {
        Some((listener, port)) => {
            tasks.spawn(Task::Telemetry, serve_telemetry(listener, to_intake.clone(), refused));
            subscribe(&mut api, port, config.telemetry_types).await
        }
        None => false,
    };
    // There is no await between here and the driver's first, so these tasks, which may resolve host names, start after `/next`.
    let bodies = BodyBudget::for_memory(config.function.memory_bytes);
    tasks.spawn(Task::Receiver, serve_otlp(grpc, http, receiver_endpoints(config), bodies, sdk));

    let limits = lifecycle::LifecycleSettings {
        flush_timeout: config.flush_timeout,
        margin: MARGIN,
        exit_margin: EXIT_MARGIN,
        linger: TELEMETRY_LINGER,
        runtime_done_expected: subscribed && !config.function.managed_instances,
    };
    let channels = Channels { pipeline: to_pipeline, telemetry: to_intake, runtime_done };
    let driver_settings = DriverSettings {
        strategy: config.flush_strategy,
        managed_instances: config.function.managed_instances,
        snap_start: config.function.snap_start,
    };
    Ok(Some(Driver::new(api, Lifecycle::new(limits), channels, tasks, driver_settings)))
}

fn platform(config: &Config, function_name: String) -> Platform {
    Platform::new(platform::PlatformSettings {
        outputs: config.platform_events,
        function_name,
        concurrent: config.function.managed_instances,
        init_type: match &config.function {
            FunctionInfo { on_demand: true, .. } => InitType::OnDemand,
            FunctionInfo { snap_start: true, .. } => InitType::Restored,
            _ => InitType::AheadOfTime,
        },
        xray_parents: config.fallback_spans.xray,
    })
}

/// Subscribes to the Telemetry API; returns true if the ends of invocations will be reported. Otherwise the extension still
/// forwards SDK telemetry.
async fn subscribe(api: &mut ExtensionsApi, port: u16, types: TelemetryTypes) -> bool {
    // Platform: this name resolves to the extension's own environment, but only in Lambda.
    match api.subscribe(&format!("http://sandbox.localdomain:{port}"), &types.names()).await {
        Ok(Subscription::Active) => true,
        Ok(Subscription::Unsupported) => {
            tracing::warn!(
                "this platform has no Telemetry API, so no logs are forwarded; SDK telemetry is forwarded as it arrives"
            );
            false
        }
        Err(error) => {
            tracing::error!("{error}; no logs are forwarded; SDK telemetry is forwarded as it arrives");
            false
        }
    }
}

/// A listener of the receiver. If it cannot be bound, only its address is unavailable.
enum ReceiverListener {
    Bound(Vec<TcpListener>),
    /// Bound after `/next`, because its host name must be resolved.
    Deferred(&'static str, ListenAddress),
}

impl ReceiverListener {
    /// Binds the listener, unless a name lookup would delay the startup. With `fails_init`, errors must be known now.
    async fn new(
        variable: &'static str,
        address: &ListenAddress,
        fails_init: bool,
        errors: &mut ReportedErrors,
    ) -> Self {
        if !fails_init && http::needs_lookup(&address.host) {
            return Self::Deferred(variable, address.clone());
        }
        Self::Bound(bind(variable, address).await.unwrap_or_else(|error| {
            errors.log_new([error]);
            Vec::new()
        }))
    }

    async fn listeners(self) -> Vec<TcpListener> {
        match self {
            Self::Bound(listeners) => listeners,
            Self::Deferred(variable, address) => bind(variable, &address).await.unwrap_or_else(|error| {
                tracing::error!("{error}");
                Vec::new()
            }),
        }
    }
}

/// Binds a listener of the receiver; the error includes the consequence and the remedy.
async fn bind(variable: &str, address: &ListenAddress) -> Result<Vec<TcpListener>, String> {
    let ListenAddress { host, port } = address;
    http::bind(host, *port).await.map_err(|cause| {
        format!(
            "{variable}: cannot listen on {}: {cause}, so nothing is received there; set it to a free address, \
             and set OTEL_EXPORTER_OTLP_ENDPOINT to the same",
            address.shown()
        )
    })
}

/// Binds the listener for the Telemetry API, on the next free port if the configured one is in use.
///
/// A host name is not resolved, and the listener binds all addresses instead: the subscription needs the port during startup,
/// and a lookup may take arbitrarily long. A lookup with a timeout would lose all logs if DNS is slow. All addresses include
/// the one that would be found, and are not reachable from outside the environment.
async fn bind_telemetry(
    address: &ListenAddress,
    errors: &mut ReportedErrors,
) -> Option<(Vec<TcpListener>, u16)> {
    const VARIABLE: &str = "ROTEL_TELEMETRY_ENDPOINT";
    const ALL_ADDRESSES: &str = "0.0.0.0";
    let ListenAddress { host, port } = address;
    let host = if http::needs_lookup(host) {
        tracing::warn!(
            "{VARIABLE}: listening on {ALL_ADDRESSES}, because resolving the host name {} would delay the startup; \
             set an IP address",
            echo::host(host)
        );
        ALL_ADDRESSES
    } else {
        host
    };
    let mut candidates = (*port..=port.saturating_add(EXTRA_PORTS)).filter(|port| *port != RESERVED_PORT);
    let cause = loop {
        let Some(candidate) = candidates.next() else {
            break format!("no port up to {} is free", port.saturating_add(EXTRA_PORTS));
        };
        match http::bind(host, candidate).await {
            Ok(listeners) => {
                let bound = listeners.first().and_then(|listener| listener.local_addr().ok());
                return Some((listeners, bound.map_or(candidate, |address| address.port())));
            }
            Err(cause) if cause.kind() == io::ErrorKind::AddrInUse => {}
            Err(cause) => break cause.to_string(),
        }
    };
    errors.log_new([format!(
        "{VARIABLE}: cannot listen on {}: {cause}, so no logs are forwarded; set it to a free port on an address of this machine",
        address.shown()
    )]);
    None
}

fn receiver_endpoints(config: &Config) -> ReceiverOptions {
    let endpoint = |signal| SignalEndpoint {
        enabled: *config.receiver.enabled.of(signal),
        http_path: config.receiver.http_paths.of(signal).clone(),
    };
    ReceiverOptions {
        endpoints: PerSignal::from_fn(endpoint),
        grpc_message_limit: config.receiver.grpc_max_bytes,
        ..ReceiverOptions::default()
    }
}

/// Both protocols are served on both ports.
async fn serve_otlp(
    grpc: ReceiverListener,
    http: ReceiverListener,
    served: ReceiverOptions,
    bodies: BodyBudget,
    intake: SdkIntake,
) {
    let (mut listeners, http) = tokio::join!(grpc.listeners(), http.listeners());
    listeners.extend(http);
    match receiver::serve(listeners, served, bodies, intake).await {}
}

async fn serve_telemetry(
    listeners: Vec<TcpListener>,
    intake: mpsc::Sender<IntakeMessage>,
    refused: RefusedDeliveries,
) {
    let receive = move |body| crate::app::intake::offer(&intake, body);
    match telemetry_listener::serve(listeners, receive, refused).await {}
}

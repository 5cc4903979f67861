//! The environment variables that Lambda sets for each process.

use std::net::Ipv4Addr;

use crate::address::API_PORT;
use crate::extension::Extension;
use crate::settings::{HANDLER, Initialization, LogFormat, REGION, Settings, VERSION};

type Variables = Vec<(String, String)>;

/// The variables for an extension. Platform: without those that only the runtime sees, such as the handler and the log stream.
pub(crate) fn of_extension(settings: &Settings, ip: Ipv4Addr, extension: &Extension) -> Variables {
    let mut variables = shared(settings, ip);
    if settings.default_endpoints {
        for (name, port) in [
            ("ROTEL_OTLP_GRPC_ENDPOINT", 4317),
            ("ROTEL_OTLP_HTTP_ENDPOINT", 4318),
            ("ROTEL_TELEMETRY_ENDPOINT", 8990),
        ] {
            variables.push((name.to_owned(), format!("{ip}:{port}")));
        }
    }
    variables.extend(filled(&settings.variables, ip));
    variables.extend(filled(&extension.variables, ip));
    variables
}

/// The variables for a function's process.
pub(crate) fn of_function(settings: &Settings, ip: Ipv4Addr, own: &[(String, String)]) -> Variables {
    let mut variables = shared(settings, ip);
    let stream = "2024/01/01/[$LATEST]0123456789abcdef0123456789abcdef";
    for (name, value) in [
        ("_HANDLER", HANDLER),
        ("AWS_EXECUTION_ENV", "AWS_Lambda_sandbox"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", &format!("/aws/lambda/{}", settings.function_name)),
        ("AWS_LAMBDA_LOG_STREAM_NAME", stream),
        ("LAMBDA_TASK_ROOT", "/var/task"),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
    ] {
        variables.push((name.to_owned(), value.to_owned()));
    }
    variables.extend(filled(&settings.variables, ip));
    variables.extend(filled(own, ip));
    variables
}

/// The address of the extension's receiver, as `host:port` for a client, taken from the variable that sets it.
pub(crate) fn receiver(
    settings: &Settings,
    ip: Ipv4Addr,
    extension: Option<&Extension>,
    name: &str,
    port: u16,
) -> String {
    let variables = extension.map(|extension| of_extension(settings, ip, extension)).unwrap_or_default();
    let set = variables.into_iter().rev().find(|(key, _)| key == name).map(|(_, value)| value);
    let address = set.unwrap_or_else(|| format!("127.0.0.1:{port}"));
    address.replace("localhost", "127.0.0.1").replace("0.0.0.0", &ip.to_string())
}

fn shared(settings: &Settings, ip: Ipv4Addr) -> Variables {
    let format = match settings.log_format {
        LogFormat::Text => "Text",
        LogFormat::Json => "JSON",
    };
    let mut variables: Variables = [
        ("AWS_LAMBDA_RUNTIME_API", format!("{ip}:{API_PORT}")),
        ("AWS_LAMBDA_FUNCTION_NAME", settings.function_name.clone()),
        ("AWS_LAMBDA_FUNCTION_VERSION", VERSION.to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", settings.memory_mb.to_string()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", settings.initialization.name().to_owned()),
        ("AWS_LAMBDA_LOG_FORMAT", format.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_DEFAULT_REGION", REGION.to_owned()),
        ("PATH", path()),
        ("LANG", "en_US.UTF-8".to_owned()),
        ("TZ", ":UTC".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    // Platform: a snapshot must not hold credentials; under SnapStart they are fetched.
    let credentials: &[(&str, &str)] = if settings.initialization == Initialization::SnapStart {
        &[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.79.129:9001/credentials"),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "sandbox-token"),
        ]
    } else {
        &[
            ("AWS_ACCESS_KEY_ID", "AKIASANDBOX"),
            ("AWS_SECRET_ACCESS_KEY", "sandbox-secret"),
            ("AWS_SESSION_TOKEN", "sandbox-session"),
        ]
    };
    variables.extend(credentials.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    variables
}

#[expect(clippy::disallowed_methods, reason = "a command such as python3 has to be found")]
fn path() -> String {
    std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned())
}

fn filled(variables: &[(String, String)], ip: Ipv4Addr) -> impl Iterator<Item = (String, String)> {
    variables.iter().map(move |(name, value)| (name.clone(), fill(value, ip)))
}

/// Replaces `{ip}` with the environment's address.
pub(crate) fn fill(text: &str, ip: Ipv4Addr) -> String {
    text.replace("{ip}", &ip.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extension_does_not_see_runtime_variables() {
        let extension = Extension::external("any").env("ROTEL_OTLP_GRPC_ENDPOINT", "{ip}:5317");
        let ip = Ipv4Addr::new(127, 20, 1, 1);
        let variables = of_extension(&Settings::default(), ip, &extension);
        assert!(variables.iter().all(|(name, _)| name != "_HANDLER" && name != "AWS_EXECUTION_ENV"));
        let settings = Settings::default();
        let address = |name, port| receiver(&settings, ip, Some(&extension), name, port);
        assert_eq!(address("ROTEL_OTLP_GRPC_ENDPOINT", 4317), "127.20.1.1:5317");
        assert_eq!(address("ROTEL_OTLP_HTTP_ENDPOINT", 4318), "127.20.1.1:4318");
    }
}

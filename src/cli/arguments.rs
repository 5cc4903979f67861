//! The command line.

use clap::builder::{StringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use rotel_core::secret::Secret;
use url::Url;

/// Attaches the rotel-extension layer to Lambda functions, and shows where it is attached.
///
/// Credentials and the region are found as the AWS CLI finds them.
#[derive(Debug, Parser)]
#[command(name = "rotel-lambda", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// The AWS region, such as eu-central-1
    #[arg(long, global = true, help_heading = "AWS")]
    pub(crate) region: Option<String>,
    /// The profile of ~/.aws/config
    #[arg(long, global = true, help_heading = "AWS")]
    pub(crate) profile: Option<String>,
    /// The layers are named by this prefix and an architecture: NAME-amd64 and NAME-arm64
    #[arg(long, global = true, value_name = "NAME", default_value = "rotel-extension", help_heading = "AWS")]
    pub(crate) layer_prefix: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add the layer and its variables to a function
    Attach(Attach),
    /// Remove the layer and the variables that attach sets from a function
    Detach(Detach),
    /// List the functions of the region that have the layer, with its version
    List,
    /// Show the layer of a function, and problems in its variables
    Status(Status),
}

/// The function to change, and the confirmation flags.
#[derive(Args, Debug)]
pub(crate) struct Target {
    /// The name or the ARN of the function
    #[arg(long, value_name = "NAME")]
    pub(crate) function: String,
    /// Show the change and do not make it
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Make the change without asking
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Attach {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The ARN of the layer version [default: the newest layer of your account for the function's architecture]
    #[arg(long, value_name = "ARN")]
    pub(crate) layer: Option<String>,
    #[arg(
        long,
        value_name = "URL",
        help = "The endpoint of ClickStack, such as https://clickstack.example.com:4317"
    )]
    pub(crate) endpoint: Option<String>,
    /// The secret or parameter that holds the ingestion key; ARN#key for a key of a JSON secret
    #[arg(long, value_name = "ARN")]
    pub(crate) key_secret: Option<String>,
    /// Another variable of the extension; may be repeated
    #[arg(long, value_name = "ROTEL_NAME=VALUE", value_parser = secret())]
    pub(crate) set: Vec<Secret>,
}

#[derive(Args, Debug)]
pub(crate) struct Detach {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The ARN of the layer, if its name does not begin with --layer-prefix
    #[arg(long, value_name = "ARN")]
    pub(crate) layer: Option<String>,
    /// Leave all variables
    #[arg(long)]
    pub(crate) keep_variables: bool,
    /// Remove all ROTEL_ variables, and not only endpoint, protocol and key
    #[arg(long, conflicts_with = "keep_variables")]
    pub(crate) all_variables: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Status {
    /// The name or the ARN of the function
    #[arg(long, value_name = "NAME")]
    pub(crate) function: String,
    /// The ARN of the layer, if its name does not begin with --layer-prefix
    #[arg(long, value_name = "ARN")]
    pub(crate) layer: Option<String>,
    /// Invoke the function once, and show what arrived
    #[arg(long)]
    pub(crate) invoke: bool,
    /// The payload of that invocation
    #[arg(long, value_name = "JSON", default_value = "{}", requires = "invoke")]
    pub(crate) payload: String,
    #[arg(
        long,
        value_name = "URL",
        requires = "invoke",
        value_parser = http_url,
        help = "The HTTP interface of ClickStack's ClickHouse, such as https://clickhouse.example.com:8443. The telemetry of \
                the invocation is counted there"
    )]
    pub(crate) clickhouse: Option<Url>,
    /// The database of ClickStack's tables
    #[arg(long, value_name = "NAME", default_value = "default", requires = "clickhouse")]
    pub(crate) clickhouse_database: String,
    /// The user of ClickHouse; its password is read from the variable CLICKHOUSE_PASSWORD
    #[arg(long, value_name = "NAME", default_value = "default", requires = "clickhouse")]
    pub(crate) clickhouse_user: String,
    #[arg(long, env = "CLICKHOUSE_PASSWORD", hide = true, hide_env_values = true, default_value = "", value_parser = secret())]
    pub(crate) clickhouse_password: Secret,
}

/// A URL of HTTP, so that a mistake is found before the function is invoked.
fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| "write it with its scheme, such as https://clickhouse.example.com:8443".to_owned())
}

/// Takes any text. What is wrong with it is found later, because clap's errors repeat the value.
fn secret() -> impl TypedValueParser<Value = Secret> {
    StringValueParser::new().map(Secret::new)
}

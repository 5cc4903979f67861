//! The change that attaches the extension to a function or detaches it.
//!
//! Decides the layers and variables that the function is to have, and promises that all others stay as they are. Refuses a
//! change after which the function would fail, or would send nothing. Leaves calling Lambda to [`crate::lambda`].

use std::collections::BTreeMap;
use std::fmt;

use rotel_core::config::secret_ref::{self, Service};
use rotel_core::config::{self, Destination, Problem, ValueSource, Variables};
use rotel_core::secret::Secret;
use rotel_core::signal::Signal;

use crate::function::{Function, has_settings_in_bundle};
use crate::layer::{self, ExtensionLayers, LayerArn};

/// Platform: a function has at most five layers.
const MAX_LAYERS: usize = 5;
/// Platform: the variables have at most 4 KiB together, as a JSON object.
const MAX_VARIABLES_BYTES: usize = 4096;
const ENDPOINT: &str = "ROTEL_OTLP_EXPORTER_ENDPOINT";
const PROTOCOL: &str = "ROTEL_OTLP_EXPORTER_PROTOCOL";
const HEADERS: &str = "ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS";
/// Before the key in [`HEADERS`].
const AUTHORIZATION: &str = "Authorization=";

/// The additions of `attach`.
#[derive(Debug, Default)]
pub(crate) struct Additions<'a> {
    pub(crate) endpoint: Option<&'a str>,
    /// The ARN of a secret, perhaps with `#key`.
    pub(crate) key_secret: Option<&'a str>,
    /// `NAME=VALUE`.
    pub(crate) assignments: &'a [Secret],
}

/// The variables that `detach` removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VariableRemoval {
    Nothing,
    /// Those that `attach` sets: endpoint, protocol and key.
    Attached,
    /// All of the extension.
    All,
}

/// The layers and variables that a function is to have.
pub(crate) struct Change {
    before: Function,
    pub(crate) layers: Vec<String>,
    pub(crate) variables: Variables,
    /// Facts for the person to know before the change is made.
    pub(crate) notes: Vec<String>,
}

/// A reason to change nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "{0} is a container image, which cannot have layers; add the extension in its Dockerfile: see \"Container images\" in docs/layer.md"
    )]
    Image(String),
    #[error("{0} names a version or an alias, which cannot change; leave out :{1}")]
    Qualified(String, String),
    #[error(
        "{0} has no layer of the extension; give its ARN with --layer, or remove its variables with --all-variables"
    )]
    NoLayer(String),
    #[error(
        "Lambda could not decrypt the variables of {0}, so a change would lose them; allow your identity kms:Decrypt with the function's key"
    )]
    HiddenVariables(String),
    #[error(
        "the function is {function}, but {layer} is built for {built_for}; choose the layer that ends with -{right}"
    )]
    Architecture { function: String, layer: String, built_for: &'static str, right: &'static str },
    #[error("the function has {MAX_LAYERS} layers already, and Lambda allows no more; remove one first: {}", .0.join(", "))]
    TooManyLayers(Vec<String>),
    #[error(
        "the variables would have {0} bytes, and Lambda allows {MAX_VARIABLES_BYTES}; put some into a file: see ROTEL_ENV_FILE"
    )]
    TooManyVariables(usize),
    #[error(
        "the function would send nothing; give --endpoint, such as --endpoint https://clickstack.example.com:4317"
    )]
    NoEndpoint,
    #[error("--key-secret: {0}")]
    KeySecret(String),
    #[error(
        "--key-secret: {HEADERS} has an Authorization header already; remove the variable first, or give its whole value with --set {HEADERS}=…"
    )]
    HasKey,
    #[error("--set: {0}")]
    Assignment(String),
    #[error("the variables would have errors, so nothing was changed:\n  {}", list(.0))]
    Settings(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n  ")
}

/// The change that gives a function the extension, in place of another version of it.
pub(crate) fn attach(
    function: Function,
    layer: &LayerArn,
    extension: &ExtensionLayers,
    additions: &Additions<'_>,
) -> Result<Change, Refusal> {
    changeable(&function)?;
    if let Some(built_for) =
        layer::architecture(&layer.name).filter(|built_for| *built_for != function.architecture)
    {
        let right = layer::architecture_suffix(&function.architecture);
        return Err(Refusal::Architecture {
            function: function.architecture,
            layer: layer.to_string(),
            built_for,
            right,
        });
    }
    let is_extension = |arn: &String| extension.contain(arn);
    let mut layers = function.layers.clone();
    let place = layers.iter().position(is_extension).unwrap_or(layers.len());
    layers.retain(|arn| !is_extension(arn));
    layers.insert(place, layer.to_string());
    if layers.len() > MAX_LAYERS {
        return Err(Refusal::TooManyLayers(function.layers));
    }
    let variables = with_additions(&function.variables, additions)?;
    let bytes = serde_json::to_string(&variables).map_or(0, |json| json.len());
    if bytes > MAX_VARIABLES_BYTES {
        return Err(Refusal::TooManyVariables(bytes));
    }
    let mut notes = notes(&function);
    if has_settings_in_bundle(&variables) {
        notes.push(
            "the function's bundle has more settings; run `rotel-extension --check` where that file is"
                .to_owned(),
        );
    } else {
        let parsed = config::read(&function.environment(&variables));
        if !parsed.errors.is_empty() {
            return Err(Refusal::Settings(parsed.errors));
        }
        let sends =
            |destination: &Destination| Signal::ALL.iter().any(|signal| destination.may_export(*signal));
        if !parsed.blackhole && !parsed.config.destinations.iter().any(sends) {
            return Err(Refusal::NoEndpoint);
        }
        notes.extend(parsed.warnings.iter().map(Problem::to_string));
    }
    for other in function.layers.iter().filter(|arn| receives_otlp(arn)) {
        notes.push(format!(
            "{other} also listens on localhost:4317; remove it, because only one can use the port"
        ));
    }
    if let Some(key_secret) = additions.key_secret
        && variables.get(HEADERS) != function.variables.get(HEADERS)
    {
        notes.extend(permission(key_secret));
    }
    Ok(Change { before: function, layers, variables, notes })
}

/// The change that takes the extension away, and the variables that [`attach`] sets.
pub(crate) fn detach(
    function: Function,
    extension: &ExtensionLayers,
    removal: VariableRemoval,
) -> Result<Change, Refusal> {
    changeable(&function)?;
    let mut layers = function.layers.clone();
    layers.retain(|arn| !extension.contain(arn));
    if layers == function.layers && removal != VariableRemoval::All {
        return Err(Refusal::NoLayer(function.name));
    }
    let mut variables = function.variables.clone();
    match removal {
        VariableRemoval::Nothing => {}
        VariableRemoval::Attached => remove_additions(&mut variables),
        VariableRemoval::All => variables.retain(|name, _| !name.starts_with("ROTEL_")),
    }
    let mut notes = notes(&function);
    let left: Vec<_> =
        variables.keys().filter(|name| name.starts_with("ROTEL_")).map(String::as_str).collect();
    if !left.is_empty() && removal == VariableRemoval::Attached {
        notes.push(format!("these variables stay; --all-variables removes them: {}", left.join(", ")));
    }
    Ok(Change { before: function, layers, variables, notes })
}

/// Removes what [`with_additions`] sets.
fn remove_additions(variables: &mut Variables) {
    variables.remove(ENDPOINT);
    variables.remove(PROTOCOL);
    let Some(text) = variables.get(HEADERS) else { return };
    let headers = unquoted(text);
    let Some((others, reference)) = headers.rsplit_once(AUTHORIZATION) else { return };
    if !secret_ref::is_single_reference(reference) {
        return;
    }
    if others.is_empty() {
        variables.remove(HEADERS);
    } else if let Some(others) = others.strip_suffix(',') {
        let others = text.replace(headers, others);
        variables.insert(HEADERS.to_owned(), others);
    }
}

fn changeable(function: &Function) -> Result<(), Refusal> {
    if let Some(qualifier) = function.qualifier() {
        return Err(Refusal::Qualified(function.id.clone(), qualifier.to_owned()));
    }
    if function.is_image {
        return Err(Refusal::Image(function.name.clone()));
    }
    if function.variables_hidden {
        return Err(Refusal::HiddenVariables(function.name.clone()));
    }
    Ok(())
}

fn with_additions(before: &Variables, additions: &Additions<'_>) -> Result<Variables, Refusal> {
    let mut variables = before.clone();
    if let Some(endpoint) = additions.endpoint {
        variables.insert(ENDPOINT.to_owned(), endpoint.to_owned());
        match url::Url::parse(endpoint).ok().and_then(|url| url.port()) {
            Some(4318) => variables.insert(PROTOCOL.to_owned(), "http".to_owned()),
            // The default.
            Some(4317) => variables.remove(PROTOCOL),
            _ => None,
        };
    }
    if let Some(arn) = additions.key_secret {
        let reference = format!("${{{arn}}}");
        match secret_ref::find(&reference) {
            Ok(found) if found.len() == 1 => {}
            Ok(_) => {
                let message = "it is not the ARN of a secret or a parameter; write arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME or arn:aws:ssm:REGION:ACCOUNT:parameter/NAME";
                return Err(Refusal::KeySecret(message.to_owned()));
            }
            Err(message) => return Err(Refusal::KeySecret(message)),
        }
        let header = format!("{AUTHORIZATION}{reference}");
        let text = before.get(HEADERS).map_or("", String::as_str);
        let headers = match unquoted(text) {
            "" => header,
            headers if headers == header || headers.ends_with(&format!(",{header}")) => text.to_owned(),
            headers if headers.to_ascii_lowercase().contains("authorization") => return Err(Refusal::HasKey),
            headers => text.replace(headers, &format!("{headers},{header}")),
        };
        variables.insert(HEADERS.to_owned(), headers);
    }
    for assignment in additions.assignments {
        let (name, value) = assignment
            .expose()
            .split_once('=')
            .ok_or_else(|| Refusal::Assignment("one has no \"=\"; write NAME=VALUE".to_owned()))?;
        if !name.starts_with("ROTEL_") {
            let name = rotel_core::echo::name(name);
            let message = format!("{name} is not a variable of the extension; their names begin with ROTEL_");
            return Err(Refusal::Assignment(message));
        }
        variables.insert(name.to_owned(), value.to_owned());
    }
    Ok(variables)
}

/// A value without the quotes around all of it, which the extension ignores.
fn unquoted(text: &str) -> &str {
    let text = text.trim();
    ['"', '\''].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(text)
}

/// Facts to know about a function that is going to change.
fn notes(function: &Function) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(stack) = &function.stack {
        notes.push(format!(
            "the function belongs to the CloudFormation stack {stack}; a deployment that changes the function undoes this, unless its template has the layer, too"
        ));
    }
    if function.has_snap_start {
        notes.push("the function has SnapStart; publish a version to use the change".to_owned());
    }
    notes
}

/// True for the collector layers of OpenTelemetry and AWS.
fn receives_otlp(arn: &str) -> bool {
    arn.parse().is_ok_and(|layer: LayerArn| {
        layer.name.contains("opentelemetry-collector") || layer.name.starts_with("aws-otel-collector")
    })
}

/// The permission that the function's role needs.
fn permission(key_secret: &str) -> Option<String> {
    let arn = secret_ref::find(&format!("${{{key_secret}}}")).ok()?.into_iter().next()?.arn;
    let (id, ..) = secret_ref::split_secret_id(&arn.text);
    Some(match arn.service {
        Service::SecretsManager if !id.starts_with("arn:") => {
            format!("the function's role must allow secretsmanager:GetSecretValue on the secret {id}")
        }
        Service::SecretsManager => {
            // Platform: a secret's ARN ends with six random characters, which people may leave out.
            let is_random = |end: &str| end.len() == 6 && !end.chars().all(|c| c.is_ascii_lowercase());
            let has_suffix = id.rsplit_once('-').is_some_and(|(_, end)| is_random(end));
            let rest = if has_suffix { "" } else { "-??????" };
            format!("the function's role must allow secretsmanager:GetSecretValue on {id}{rest}")
        }
        Service::ParameterStore => format!("the function's role must allow ssm:GetParameters on {id}"),
    })
}

impl Change {
    /// True if the function has it all already.
    pub(crate) fn is_empty(&self) -> bool {
        self.layers == self.before.layers && self.variables == self.before.variables
    }

    pub(crate) fn function(&self) -> &Function {
        &self.before
    }
}

/// The removed and added lines. Values are shown as `--check` shows them: no credentials.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for layer in self.before.layers.iter().filter(|layer| !self.layers.contains(layer)) {
            writeln!(f, "  - layer {layer}")?;
        }
        for layer in self.layers.iter().filter(|layer| !self.before.layers.contains(layer)) {
            writeln!(f, "  + layer {layer}")?;
        }
        let (before, after) = (shown(&self.before.variables), shown(&self.variables));
        for (name, value) in &self.before.variables {
            if self.variables.get(name) != Some(value) {
                writeln!(f, "  - {name}={}", before.get(name).map_or("[redacted]", String::as_str))?;
            }
        }
        for (name, value) in &self.variables {
            if self.before.variables.get(name) != Some(value) {
                writeln!(f, "  + {name}={}", after.get(name).map_or("[redacted]", String::as_str))?;
            }
        }
        Ok(())
    }
}

/// The variables that the extension knows, without credentials.
fn shown(variables: &Variables) -> BTreeMap<String, String> {
    let none = Variables::new();
    let rows = config::describe(variables, &none, &none).into_iter();
    rows.filter(|row| row.source == ValueSource::Environment).map(|row| (row.variable, row.value)).collect()
}

//! The calls of Lambda's API.

use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::ProvideCredentials as _;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::client::Waiters as _;
use aws_sdk_lambda::config::{Config, retry::RetryConfig};
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{
    Architecture, Environment, FunctionConfiguration, InvocationType, LogType, PackageType, SnapStartApplyOn,
};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::waiters::error::WaiterError;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rotel_core::echo;

use crate::change::Change;
use crate::function::Function;
use crate::layer::LayerArn;

/// The maximum time that Lambda may need to carry an update out.
const MAX_UPDATE_TIME: Duration = Duration::from_mins(5);

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("no AWS region is known; give --region, or set AWS_REGION")]
    NoRegion,
    #[error("there are no AWS credentials; run `aws sso login`, or set AWS_PROFILE or AWS_ACCESS_KEY_ID")]
    NoCredentials,
    #[error("the AWS credentials: {0}")]
    Credentials(String),
    #[error("{operation}: {message}")]
    Refused { operation: &'static str, message: String },
    #[error("{function} has changed meanwhile, and was left as it is; run this again")]
    Changed { function: String },
    #[error("Lambda did not answer, so the change may have been made; see `rotel-lambda status`: {cause}")]
    Unanswered { cause: String },
    #[error("Lambda accepted the change and could not carry it out: {cause}")]
    NotCarriedOut { cause: String },
    #[error("Lambda accepted the change and is still carrying it out; see `rotel-lambda status`")]
    StillChanging,
    #[error("{operation}: {cause}")]
    Failed { operation: &'static str, cause: String },
}

impl CallError {
    /// The error without the variables, which Lambda repeats if they are too large.
    fn without_values(self, change: &Change) -> Self {
        let Self::Refused { operation, message } = self else { return self };
        let (message, _) = message.split_once("String measured").unwrap_or((&message, ""));
        let message = message.trim_end();
        let variables = change.function().variables.values().chain(change.variables.values());
        let message =
            echo::redacted(message, variables.map(String::as_str).filter(|value| !value.is_empty()));
        Self::Refused { operation, message }
    }
}

/// The answer of a test invocation.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) request_id: String,
    /// Lambda's word for the error of the function, if it failed.
    pub(crate) function_error: Option<String>,
    /// The end of the invocation's log.
    pub(crate) log: String,
}

/// Lambda in one region.
pub(crate) struct Lambda {
    client: Client,
    region: String,
}

impl Lambda {
    /// Finds the credentials and the region as the AWS CLI does.
    pub(crate) async fn connect(region: Option<String>, profile: Option<String>) -> Result<Self, CallError> {
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            // It would end an invocation that takes long to answer.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(region) = region {
            loader = loader.region(Region::new(region));
        }
        if let Some(profile) = profile {
            loader = loader.profile_name(profile);
        }
        let config = loader.load().await;
        let region = config.region().ok_or(CallError::NoRegion)?.to_string();
        // Asked for here, because each call would wrap the error in its own.
        let provider = config.credentials_provider().ok_or(CallError::NoCredentials)?;
        provider.provide_credentials().await.map_err(|error| match error {
            CredentialsError::CredentialsNotLoaded(_) => CallError::NoCredentials,
            error => CallError::Credentials(innermost(&error)),
        })?;
        Ok(Self { client: Client::new(&config), region })
    }

    pub(crate) async fn function(&self, id: &str) -> Result<Function, CallError> {
        let answer = self.client.get_function().function_name(id).send().await;
        let answer = answer.map_err(|error| failed("GetFunction", &error))?;
        let mut function = answer.configuration.map_or_else(Function::default, |found| self.read(found));
        id.clone_into(&mut function.id);
        function.stack = answer.tags.unwrap_or_default().remove("aws:cloudformation:stack-name");
        Ok(function)
    }

    /// All functions of the region.
    pub(crate) async fn functions(&self) -> Result<Vec<Function>, CallError> {
        let mut pages = self.client.list_functions().into_paginator().items().send();
        let mut functions = Vec::new();
        while let Some(found) = pages.next().await {
            functions.push(self.read(found.map_err(|error| failed("ListFunctions", &error))?));
        }
        Ok(functions)
    }

    /// The newest version of a layer, by its name or its ARN; `None` if there is none.
    pub(crate) async fn newest(&self, layer: &str) -> Result<Option<LayerArn>, CallError> {
        let mut pages = self.client.list_layer_versions().layer_name(layer).into_paginator().items().send();
        let mut newest: Option<LayerArn> = None;
        while let Some(version) = pages.next().await {
            let version = version.map_err(|error| failed("ListLayerVersions", &error))?;
            let arn = version.layer_version_arn.and_then(|arn| arn.parse::<LayerArn>().ok());
            newest = newest.into_iter().chain(arn).max_by_key(|arn| arn.version);
        }
        Ok(newest)
    }

    /// The description of a layer version.
    pub(crate) async fn description(&self, layer: &LayerArn) -> Result<String, CallError> {
        let call = self.client.get_layer_version().layer_name(&layer.layer);
        let answer = call.version_number(layer.version.unwrap_or_default()).send().await;
        let answer = answer.map_err(|error| failed("GetLayerVersion", &error))?;
        Ok(answer.description.unwrap_or_default())
    }

    /// Makes the change, and waits until Lambda has carried it out.
    pub(crate) async fn apply(&self, change: &Change) -> Result<(), CallError> {
        let function = change.function();
        let variables = change.variables.clone().into_iter().collect();
        let call = self.client.update_function_configuration().function_name(&function.id);
        let call = call.set_layers(Some(change.layers.clone()));
        let call = call.environment(Environment::builder().set_variables(Some(variables)).build());
        let call = call.set_revision_id(function.revision.clone());
        // A second attempt would fail, because the first has changed the function.
        let answer = call.customize().config_override(once()).send().await;
        answer.map_err(|error| match error.code() {
            Some("PreconditionFailedException") => CallError::Changed { function: function.name.clone() },
            Some(_) => failed("UpdateFunctionConfiguration", &error).without_values(change),
            None => CallError::Unanswered { cause: innermost(&error) },
        })?;
        let waiting = self.client.wait_until_function_updated_v2().function_name(&function.id);
        match waiting.wait(MAX_UPDATE_TIME).await {
            Ok(_) => Ok(()),
            Err(WaiterError::FailureState(state)) => {
                let found =
                    state.into_final_poll().into_result().ok().and_then(|answer| answer.configuration);
                let reason = found.and_then(|found| found.last_update_status_reason);
                let cause = reason.unwrap_or_else(|| "Lambda gives no reason".to_owned());
                Err(CallError::NotCarriedOut { cause })
            }
            Err(WaiterError::ExceededMaxWait(_)) => Err(CallError::StillChanging),
            Err(error) => Err(CallError::Failed { operation: "GetFunction", cause: innermost(&error) }),
        }
    }

    /// Invokes the function once and waits for its answer.
    pub(crate) async fn invoke(&self, id: &str, payload: &str) -> Result<Invocation, CallError> {
        let call = self.client.invoke().function_name(id).payload(Blob::new(payload));
        let call = call.invocation_type(InvocationType::RequestResponse).log_type(LogType::Tail);
        // A function that was invoked must not be invoked again because the answer was lost.
        let answer = call.customize().config_override(once()).send().await;
        let answer = answer.map_err(|error| failed("Invoke", &error))?;
        let log = answer.log_result.as_deref().and_then(|log| BASE64_STANDARD.decode(log).ok());
        Ok(Invocation {
            request_id: aws_sdk_lambda::operation::RequestId::request_id(&answer)
                .unwrap_or_default()
                .to_owned(),
            function_error: answer.function_error,
            log: String::from_utf8_lossy(&log.unwrap_or_default()).into_owned(),
        })
    }

    fn read(&self, found: FunctionConfiguration) -> Function {
        let environment = found.environment;
        let reason = found.state_reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let apply_on = found.snap_start.and_then(|snap_start| snap_start.apply_on);
        let name = found.function_name.unwrap_or_default();
        Function {
            id: name.clone(),
            name,
            region: self.region.clone(),
            runtime: found.runtime.map(|runtime| runtime.as_str().to_owned()).unwrap_or_default(),
            architecture: found
                .architectures
                .and_then(|architectures| architectures.first().map(|name| name.as_str().to_owned()))
                .unwrap_or_else(|| Architecture::X8664.as_str().to_owned()),
            memory_megabytes: found.memory_size.unwrap_or_default(),
            is_image: found.package_type == Some(PackageType::Image),
            state: found
                .state
                .map_or_else(|| "unknown".to_owned(), |state| format!("{}{reason}", state.as_str())),
            layers: found.layers.unwrap_or_default().into_iter().filter_map(|layer| layer.arn).collect(),
            variables_hidden: environment.as_ref().is_some_and(|environment| environment.error.is_some()),
            variables: environment
                .and_then(|found| found.variables)
                .unwrap_or_default()
                .into_iter()
                .collect(),
            has_snap_start: apply_on == Some(SnapStartApplyOn::PublishedVersions),
            revision: found.revision_id,
            stack: None,
        }
    }
}

/// Calls without a second attempt.
fn once() -> aws_sdk_lambda::config::Builder {
    Config::builder().retry_config(RetryConfig::disabled())
}

/// Names the operation, and what Lambda or the network said.
fn failed<E, R>(operation: &'static str, error: &SdkError<E, R>) -> CallError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: Debug,
    SdkError<E, R>: ProvideErrorMetadata,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => {
            CallError::Refused { operation, message: format!("{code}: {message}") }
        }
        (Some(code), None) => CallError::Refused { operation, message: code.to_owned() },
        _ => CallError::Failed { operation, cause: innermost(error) },
    }
}

/// The innermost cause of an error, which says most.
pub(crate) fn innermost(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{VariableRemoval, detach};
    use crate::layer::ExtensionLayers;

    #[test]
    fn what_lambda_says_of_variables_has_no_values() {
        let variables = [("KEY".to_owned(), "hunter2".to_owned())].into();
        let function = Function { name: "orders".to_owned(), variables, ..Function::default() };
        let layers = ExtensionLayers { prefix: "rotel-extension".to_owned(), given: None };
        let change = detach(function, &layers, VariableRemoval::All).expect("a change");
        let said = |message: &str| {
            let error = CallError::Refused { operation: "Update", message: message.to_owned() };
            error.without_values(&change).to_string()
        };
        assert_eq!(
            said("exceeded the 4KB limit. String measured: {\"KEY\":\"hunter2\"}"),
            "Update: exceeded the 4KB limit."
        );
        assert!(!said("the value hunter2 is not allowed").contains("hunter2"));
    }
}

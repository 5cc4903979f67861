//! The Parameter Store of AWS Systems Manager: GetParameters, decrypted.

use aws_sdk_ssm::Client;
use aws_sdk_ssm::types::Parameter;

use super::Outcomes;
use super::access::Access;
use super::refusal::Refusal;
use rotel_core::secret::Secret;

/// The Parameter Store in a region.
#[derive(Clone)]
pub(super) struct ParameterStore(Client);

impl ParameterStore {
    pub(super) fn new(access: &Access, region: &str) -> Self {
        Self(Client::from_conf(access.parameter_store(region)))
    }

    /// Makes one call.
    pub(super) async fn fetch(&self, arns: &[String]) -> Result<Outcomes, Refusal> {
        let call = self.0.get_parameters().set_names(Some(arns.to_vec())).with_decryption(true);
        let response = call.send().await.map_err(|error| Refusal::from_sdk_error(&error))?;
        let mut outcomes = Outcomes::new();
        for arn in arns {
            // Without a selector in the response, the newest version is the current one.
            let found = response.parameters().iter().filter(|parameter| has_arn(parameter, arn));
            let parameter = found.max_by_key(|parameter| parameter.version());
            if let Some(value) = parameter.and_then(Parameter::value) {
                outcomes.push((arn.clone(), Ok(Secret::new(value))));
            } else if response.invalid_parameters().contains(arn) {
                // The error code of GetParameter; GetParameters has none.
                outcomes.push((arn.clone(), Err(Refusal::from_code("ParameterNotFound"))));
            }
        }
        Ok(outcomes)
    }
}

/// Returns true if this is the parameter of a requested ARN, which may end with `:version` or `:label`. A parameter that
/// another account shares has its ARN as its name.
fn has_arn(parameter: &Parameter, requested: &str) -> bool {
    let is_selector = |after: &str| {
        let version = after.strip_prefix(':').and_then(|version| version.parse().ok());
        parameter.selector().unwrap_or_default() == after || version == Some(parameter.version())
    };
    parameter.name() == Some(requested)
        || parameter.arn().is_some_and(|arn| requested.strip_prefix(arn).is_some_and(is_selector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_matches_arn_with_or_without_version() {
        let parameter = |selector: &str| {
            Parameter::builder().name("/db").arn("arn:parameter/db").selector(selector).build()
        };
        assert!(has_arn(&parameter(""), "arn:parameter/db"));
        assert!(has_arn(&parameter(":3"), "arn:parameter/db:3"));
        assert!(!has_arn(&parameter(":2"), "arn:parameter/db:3"));
        assert!(!has_arn(&parameter(""), "arn:parameter/db2"));
        assert!(has_arn(&Parameter::builder().name("arn:shared").build(), "arn:shared"));
        let unselected = Parameter::builder().name("/db").arn("arn:parameter/db").version(3).build();
        assert!(has_arn(&unselected, "arn:parameter/db:3") && has_arn(&unselected, "arn:parameter/db"));
        assert!(!has_arn(&unselected, "arn:parameter/db:2"));
    }
}

//! The Parameter Store of AWS Systems Manager: GetParameters, decrypted.

use aws_sdk_ssm::Client;
use aws_sdk_ssm::types::Parameter;

use super::Answers;
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

    /// One call.
    pub(super) async fn ask(&self, arns: &[String]) -> Result<Answers, Refusal> {
        let call = self.0.get_parameters().set_names(Some(arns.to_vec())).with_decryption(true);
        let answer = call.send().await.map_err(|error| Refusal::of_call(&error))?;
        let mut answers = Answers::new();
        for asked in arns {
            let parameter = answer.parameters().iter().find(|parameter| is_of(asked, parameter));
            if let Some(value) = parameter.and_then(Parameter::value) {
                answers.push((asked.clone(), Ok(Secret::new(value))));
            } else if answer.invalid_parameters().contains(asked) {
                // What GetParameter says of it; GetParameters has no code.
                answers.push((asked.clone(), Err(Refusal::of_code("ParameterNotFound"))));
            }
        }
        Ok(answers)
    }
}

/// Returns true if a parameter is the requested one, whose ARN may end with `:version` or `:label`. A parameter that another
/// account shares has its ARN as its name.
fn is_of(asked: &str, parameter: &Parameter) -> bool {
    let selector = parameter.selector().unwrap_or_default();
    parameter.name() == Some(asked)
        || parameter.arn() == Some(asked)
        || parameter.arn().is_some_and(|arn| asked.strip_prefix(arn) == Some(selector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_belongs_to_the_arn_asked_for_with_or_without_its_version() {
        let parameter = |selector: &str| {
            Parameter::builder().name("/db").arn("arn:parameter/db").selector(selector).build()
        };
        assert!(is_of("arn:parameter/db", &parameter("")));
        assert!(is_of("arn:parameter/db:3", &parameter(":3")));
        assert!(!is_of("arn:parameter/db:3", &parameter(":2")));
        assert!(!is_of("arn:parameter/db2", &parameter("")));
        assert!(is_of("arn:shared", &Parameter::builder().name("arn:shared").build()));
    }
}

//! AWS Secrets Manager: BatchGetSecretValue for several secrets, GetSecretValue for one.

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::types::{ApiErrorType, SecretValueEntry};

use super::Outcomes;
use super::access::Access;
use super::refusal::Refusal;
use rotel_core::config::secret_ref;
use rotel_core::secret::Secret;

/// The suffix that AWS adds to a secret's name in its ARN: a hyphen and six letters or digits.
const SUFFIX_LEN: usize = 7;

/// Secrets Manager in a region.
#[derive(Clone)]
pub(super) struct SecretsManager(Client);

impl SecretsManager {
    pub(super) fn new(access: &Access, region: &str) -> Self {
        Self(Client::from_conf(access.secrets_manager(region)))
    }

    /// Makes one call. For a single secret it is GetSecretValue, which roles are usually allowed.
    pub(super) async fn fetch(&self, arns: &[String]) -> Result<Outcomes, Refusal> {
        match arns {
            [arn] => Ok(vec![(arn.clone(), Ok(self.fetch_one(arn).await?))]),
            arns => self.fetch_batch(arns).await,
        }
    }

    async fn fetch_one(&self, arn: &str) -> Result<Secret, Refusal> {
        let (id, stage, version) = secret_ref::split_secret_id(arn);
        let call = self.0.get_secret_value().secret_id(id);
        let call =
            call.set_version_stage(stage.map(str::to_owned)).set_version_id(version.map(str::to_owned));
        let response = call.send().await;
        let response = response.map_err(|error| Refusal::from_sdk_error(&error))?;
        response.secret_string.map(Secret::new).ok_or_else(Refusal::binary)
    }

    async fn fetch_batch(&self, arns: &[String]) -> Result<Outcomes, Refusal> {
        let call = self.0.batch_get_secret_value().set_secret_id_list(Some(arns.to_vec()));
        let response = call.send().await.map_err(|error| Refusal::from_sdk_error(&error))?;
        let mut outcomes = Outcomes::new();
        for arn in arns {
            let values = response.secret_values();
            let value = entry_of(arn, values, SecretValueEntry::arn)
                .or_else(|| values.iter().find(|entry| entry.name() == Some(arn)));
            let error = entry_of(arn, response.errors(), ApiErrorType::secret_id);
            if let Some(entry) = value {
                let value = entry.secret_string().map(Secret::new).ok_or_else(Refusal::binary);
                outcomes.push((arn.clone(), value));
            } else if let Some(error) = error {
                let code = error.error_code().unwrap_or_default();
                outcomes.push((arn.clone(), Err(Refusal::from_code(code))));
            }
        }
        Ok(outcomes)
    }
}

/// Returns the entry of a requested ARN, which may lack the suffix of the entry's ARN. The same secret may be requested
/// both with and without the suffix.
fn entry_of<'a, T>(requested: &str, entries: &'a [T], arn: impl Fn(&T) -> Option<&str>) -> Option<&'a T> {
    let exact = entries.iter().find(|entry| arn(entry) == Some(requested));
    exact.or_else(|| {
        entries.iter().find(|entry| {
            let suffix = arn(entry).and_then(|arn| arn.strip_prefix(requested));
            suffix.is_some_and(|suffix| suffix.starts_with('-') && suffix.len() == SUFFIX_LEN)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_matches_arn_with_or_without_suffix() {
        let entries = ["secret:db-main-a1B2c3", "secret:db-a1B2c3", "secret:db-main"];
        let found = |requested| entry_of(requested, &entries, |entry| Some(*entry)).copied();
        assert_eq!(found("secret:db"), Some("secret:db-a1B2c3"));
        assert_eq!(found("secret:db-a1B2c3"), Some("secret:db-a1B2c3"));
        assert_eq!(found("secret:db-main"), Some("secret:db-main"));
        assert_eq!(found("secret:db-main-a1B2c"), None);
        assert_eq!(found("secret:d"), None);
    }
}

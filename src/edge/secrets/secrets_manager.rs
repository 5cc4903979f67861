//! AWS Secrets Manager: BatchGetSecretValue for several, GetSecretValue for one.

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::types::{ApiErrorType, SecretValueEntry};

use super::Answers;
use super::access::Access;
use super::refusal::Refusal;
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

    /// One call. A lone secret takes the call that roles are usually allowed.
    pub(super) async fn ask(&self, arns: &[String]) -> Result<Answers, Refusal> {
        match arns {
            [arn] => Ok(vec![(arn.clone(), Ok(self.ask_one(arn).await?))]),
            arns => self.ask_all(arns).await,
        }
    }

    async fn ask_one(&self, arn: &str) -> Result<Secret, Refusal> {
        let answer = self.0.get_secret_value().secret_id(arn).send().await;
        let answer = answer.map_err(|error| Refusal::of_call(&error))?;
        answer.secret_string.map(Secret::new).ok_or_else(Refusal::binary)
    }

    async fn ask_all(&self, arns: &[String]) -> Result<Answers, Refusal> {
        let call = self.0.batch_get_secret_value().set_secret_id_list(Some(arns.to_vec()));
        let answer = call.send().await.map_err(|error| Refusal::of_call(&error))?;
        let mut answers = Answers::new();
        for asked in arns {
            let value = of(asked, answer.secret_values(), SecretValueEntry::arn);
            let error = of(asked, answer.errors(), ApiErrorType::secret_id);
            if let Some(entry) = value {
                let value = entry.secret_string().map(Secret::new).ok_or_else(Refusal::binary);
                answers.push((asked.clone(), value));
            } else if let Some(error) = error {
                let code = error.error_code().unwrap_or_default();
                answers.push((asked.clone(), Err(Refusal::of_code(code))));
            }
        }
        Ok(answers)
    }
}

/// The entry for the ARN that was asked for. It may lack the suffix that the entry's has, and the same secret may have
/// been asked for both ways.
fn of<'a, T>(asked: &str, entries: &'a [T], arn: impl Fn(&T) -> Option<&str>) -> Option<&'a T> {
    let exact = entries.iter().find(|entry| arn(entry) == Some(asked));
    exact.or_else(|| {
        entries.iter().find(|entry| {
            let suffix = arn(entry).and_then(|arn| arn.strip_prefix(asked));
            suffix.is_some_and(|suffix| suffix.starts_with('-') && suffix.len() == SUFFIX_LEN)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_belongs_to_the_arn_asked_for_with_or_without_its_suffix() {
        let entries = ["secret:db-main-a1B2c3", "secret:db-a1B2c3", "secret:db-main"];
        let found = |asked| of(asked, &entries, |entry| Some(*entry)).copied();
        assert_eq!(found("secret:db"), Some("secret:db-a1B2c3"));
        assert_eq!(found("secret:db-a1B2c3"), Some("secret:db-a1B2c3"));
        assert_eq!(found("secret:db-main"), Some("secret:db-main"));
        assert_eq!(found("secret:db-main-a1B2c"), None);
        assert_eq!(found("secret:d"), None);
    }
}

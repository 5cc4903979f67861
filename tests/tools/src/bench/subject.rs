//! The extensions under test, and the endpoint that each sends to.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use lambda_sandbox::aws::{Action, Aws, Behaviour};
use lambda_sandbox::collector::{Identity, Protocol};
use lambda_sandbox::{Collector, Extension};

use super::BenchError;

/// An extension to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The header of its column.
    pub(crate) label: String,
    pub(crate) path: PathBuf,
    /// Its own variables, which override those of the published guide. In their values, `{endpoint}` and `{ca}` are
    /// replaced by the endpoint's address and its certificate in PEM.
    pub(crate) variables: Vec<(String, String)>,
    /// True for the floor, which receives nothing and sends nothing.
    pub(crate) is_floor: bool,
}

/// The scheme of the endpoint, and the source of the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// No endpoint is set, so no connection is opened.
    Nowhere,
    Http,
    Https,
    /// Over http, with secrets in headers, which AWS is slow to return.
    Secrets,
}

/// The delay of AWS's response, as on a cold start.
pub(crate) const AWS_DELAY: Duration = Duration::from_millis(300);
pub(crate) const SECRETS: [&str; 3] = [
    "arn:aws:secretsmanager:us-east-1:123456789012:secret:key-abc123",
    "arn:aws:secretsmanager:us-east-1:123456789012:secret:team-abc123",
    "arn:aws:ssm:us-east-1:123456789012:parameter/stage",
];

/// The collector that an extension sends to, and the AWS that it queries.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) collector: Collector,
    has_way: bool,
    certificate: Option<String>,
    aws: Option<Aws>,
}

impl World {
    pub(crate) async fn new(setting: Setting) -> Result<Self, BenchError> {
        let (collector, certificate) = match setting {
            Setting::Https => {
                let (collector, certificate) = behind_tls().await?;
                (collector, Some(certificate))
            }
            Setting::Nowhere | Setting::Http | Setting::Secrets => (Collector::start().await?, None),
        };
        let aws = match setting {
            Setting::Secrets => Some(slow_aws().await?),
            Setting::Nowhere | Setting::Http | Setting::Https => None,
        };
        Ok(Self { collector, has_way: setting != Setting::Nowhere, certificate, aws })
    }

    /// The extension, sending here over OTLP/HTTP.
    pub(crate) fn extension(&self, subject: &Subject) -> Extension {
        let url = self.collector.url(Protocol::Http);
        let mut variables: Vec<(String, String)> = Vec::new();
        if self.has_way {
            variables.push(("ROTEL_OTLP_EXPORTER_ENDPOINT".to_owned(), url.clone()));
            variables.push(("ROTEL_OTLP_EXPORTER_PROTOCOL".to_owned(), "http".to_owned()));
        }
        if let Some(certificate) = &self.certificate {
            variables.push(("ROTEL_OTLP_EXPORTER_TLS_CA_PEM".to_owned(), certificate.clone()));
        }
        if let Some(aws) = &self.aws {
            let headers =
                SECRETS.iter().enumerate().map(|(number, arn)| format!("X-Header-{number}=${{{arn}}}"));
            let headers = headers.collect::<Vec<_>>().join(",");
            variables.push(("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS".to_owned(), headers));
            variables.extend(aws.variables());
        }
        let certificate = self.certificate.as_deref().unwrap_or_default();
        variables.extend(subject.variables.iter().map(|(name, value)| {
            (name.clone(), value.replace("{endpoint}", &url).replace("{ca}", certificate))
        }));
        variables
            .into_iter()
            .fold(Extension::binary(&subject.path), |extension, (name, value)| extension.env(name, value))
    }

    /// Returns true if secrets were requested, or if there are none.
    pub(crate) fn has_been_asked(&self) -> bool {
        self.aws.as_ref().is_none_or(|aws| !aws.calls().is_empty())
    }
}

async fn slow_aws() -> Result<Aws, BenchError> {
    let aws = Aws::start().await?;
    for action in [Action::BatchGetSecretValue, Action::GetParameters] {
        aws.behave(action, Behaviour::Late(AWS_DELAY));
    }
    for arn in SECRETS {
        aws.keep(arn, "value");
    }
    Ok(aws)
}

/// Starts a collector with a self-signed certificate; returns both.
async fn behind_tls() -> Result<(Collector, String), BenchError> {
    let (sender, certificate) = mpsc::channel();
    let collector = Collector::builder().tls(move |ip| {
        let Ok(certified) = rcgen::generate_simple_self_signed([ip.to_string()]) else {
            // The collector says what is wrong with an empty one.
            return Identity { certificates: String::new(), key: String::new(), client_authority: None };
        };
        let certificates = certified.cert.pem();
        let _ = sender.send(certificates.clone());
        Identity { certificates, key: certified.signing_key.serialize_pem(), client_authority: None }
    });
    let collector = collector.start().await?;
    let certificate = certificate.recv().map_err(|_| BenchError::NoCertificate)?;
    Ok((collector, certificate))
}

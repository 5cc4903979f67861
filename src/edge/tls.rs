//! The only TLS configuration and crypto provider.
//!
//! The root certificates are compiled in: loading the system's store would take milliseconds at every cold
//! start, and not all images have one.

use std::borrow::Cow;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::edge::files::{self, PEM_LIMIT, Unreadable};
use rotel_core::config::{Identity, Pem, PemSource, Tls};
use rotel_core::echo::{self, Echo};

/// The reason that TLS cannot be set up. Each error names the variable.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("{variable}: {path} {cause}")]
    Unreadable {
        /// The variable with the path.
        variable: String,
        /// The path, as a message may repeat it.
        path: Echo,
        /// The reason.
        cause: Unreadable,
    },
    /// The PEM text contains no certificate, or an invalid one.
    #[error(
        "{variable}: no usable certificate: {cause}; set one or more PEM blocks -----BEGIN CERTIFICATE-----"
    )]
    Certificate {
        /// The variable.
        variable: String,
        /// The cause.
        cause: String,
    },
    /// The PEM text contains no private key, an invalid one, or one of another certificate.
    #[error(
        "{variable}: no usable private key: {cause}; set the PEM block -----BEGIN PRIVATE KEY----- of the certificate"
    )]
    Key {
        /// The variable.
        variable: String,
        /// The cause.
        cause: String,
    },
    /// The crypto provider does not support the configuration.
    #[error("TLS setup failed: {0}; please report this as a bug")]
    Provider(rustls::Error),
}

/// Builds a client configuration with the compiled-in roots and the user's own.
pub fn client_config(tls: &Tls, alpn: &[&str]) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(ca) = &tls.ca {
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|cause| certificate_error(ca, described(&cause)))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Provider)?;
    let builder = if tls.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(roots)
    };
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificate, key }) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|cause| key_error(key, described(&cause)))?,
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(config)
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read(pem)?)
        .collect::<Result<_, _>>()
        .map_err(|cause| certificate_error(pem, describe_pem_error(&cause).to_owned()))?;
    if certificates.is_empty() {
        return Err(certificate_error(pem, "no PEM certificate found".to_owned()));
    }
    Ok(certificates)
}

fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(pem)?)
        .map_err(|cause| key_error(pem, describe_pem_error(&cause).to_owned()))
}

/// Describes a PEM error. Its own text is not used, because it may repeat a line of the key.
fn describe_pem_error(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a PEM block has no END line",
        pem::Error::IllegalSectionStart { .. } => "a PEM block has an invalid BEGIN line",
        pem::Error::Base64Decode(_) => "a PEM block is not base64",
        pem::Error::SectionTooLarge => "a PEM block is too large",
        pem::Error::NoItemsFound => "no PEM private key found",
        _ => "not PEM",
    }
}

fn read(pem: &Pem) -> Result<Cow<'_, [u8]>, TlsError> {
    match &pem.source {
        PemSource::Text(text) => Ok(Cow::Borrowed(text.expose().as_bytes())),
        PemSource::File(path) => {
            let unreadable = |cause| TlsError::Unreadable {
                variable: pem.variable.clone(),
                path: echo::path(path),
                cause,
            };
            Ok(Cow::Owned(files::read(path, PEM_LIMIT).map_err(unreadable)?))
        }
    }
}

fn described(cause: &rustls::Error) -> String {
    echo::untrusted(&cause.to_string(), echo::UNTRUSTED_LIMIT)
}

fn certificate_error(pem: &Pem, cause: String) -> TlsError {
    TlsError::Certificate { variable: pem.variable.clone(), cause }
}

fn key_error(pem: &Pem, cause: String) -> TlsError {
    TlsError::Key { variable: pem.variable.clone(), cause }
}

/// Accepts any server certificate, because the user has disabled verification. It still checks that the server
/// has the certificate's key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rotel_core::secret::Secret;

    const BROKEN: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    fn pem(variable: &str, source: PemSource) -> Pem {
        Pem { variable: variable.to_owned(), source }
    }

    fn text(variable: &str, text: &str) -> Pem {
        pem(variable, PemSource::Text(Secret::new(text)))
    }

    #[test]
    fn invalid_authority_is_reported_with_its_variable() {
        let errors = [
            pem("ROTEL_OTLP_EXPORTER_TLS_CA_FILE", PemSource::File("/nowhere/ca.pem".to_owned())),
            text("ROTEL_OTLP_EXPORTER_TLS_CA_PEM", "nothing"),
            text("ROTEL_OTLP_EXPORTER_TLS_CA_PEM", BROKEN),
        ]
        .map(|ca| {
            let tls = Tls { ca: Some(ca), ..Tls::default() };
            client_config(&tls, &[]).expect_err("an error").to_string()
        });
        insta::assert_snapshot!(errors.join("\n"), @r#"
        ROTEL_OTLP_EXPORTER_TLS_CA_FILE: "/nowhere/ca.pem" does not exist; add it to the deployment package (its files are in /var/task), or fix the path
        ROTEL_OTLP_EXPORTER_TLS_CA_PEM: no usable certificate: no PEM certificate found; set one or more PEM blocks -----BEGIN CERTIFICATE-----
        ROTEL_OTLP_EXPORTER_TLS_CA_PEM: no usable certificate: invalid peer certificate: BadEncoding; set one or more PEM blocks -----BEGIN CERTIFICATE-----
        "#);
    }

    #[test]
    fn invalid_client_certificate_is_reported() {
        let [own, other] = [(); 2].map(|()| rcgen::generate_simple_self_signed([]).expect("a certificate"));
        let identity = |certificate: &str, key: &str| Tls {
            identity: Some(Identity {
                certificate: text("ROTEL_OTLP_EXPORTER_TLS_CERT_PEM", certificate),
                key: text("ROTEL_OTLP_EXPORTER_TLS_KEY_PEM", key),
            }),
            ..Tls::default()
        };
        let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        assert!(client_config(&identity(&certificate, &key), &[]).is_ok());
        let errors = [
            identity("nothing", &key),
            identity(&certificate, "nothing"),
            identity(&certificate, &other.signing_key.serialize_pem()),
        ]
        .map(|tls| client_config(&tls, &[]).expect_err("an error").to_string());
        insta::assert_snapshot!(errors.join("\n"), @"
        ROTEL_OTLP_EXPORTER_TLS_CERT_PEM: no usable certificate: no PEM certificate found; set one or more PEM blocks -----BEGIN CERTIFICATE-----
        ROTEL_OTLP_EXPORTER_TLS_KEY_PEM: no usable private key: no PEM private key found; set the PEM block -----BEGIN PRIVATE KEY----- of the certificate
        ROTEL_OTLP_EXPORTER_TLS_KEY_PEM: no usable private key: keys may not be consistent: KeyMismatch; set the PEM block -----BEGIN PRIVATE KEY----- of the certificate
        ");
    }
}

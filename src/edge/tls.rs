//! The one TLS configuration, and the one crypto provider.
//!
//! The roots are compiled in: loading the system's store costs milliseconds at every cold start, and images differ in
//! whether they have one.

use std::borrow::Cow;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::core::config::{Identity, Pem, PemSource, Tls};
use crate::core::echo::{self, Echo};
use crate::edge::files::{self, PEM_LIMIT, Unreadable};

/// Why there is no TLS configuration. Each names the variable.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is not read.
    #[error("{variable}: {path} {cause}")]
    Unreadable {
        /// Where the path was given.
        variable: String,
        /// The file, as a message may repeat it.
        path: Echo,
        /// The reason.
        cause: Unreadable,
    },
    /// What was given holds no certificate, or a broken one.
    #[error(
        "{variable}: no usable certificate in it: {cause}; give one or more PEM blocks -----BEGIN CERTIFICATE-----"
    )]
    Certificate {
        /// Where it was given.
        variable: String,
        /// What is wrong with it.
        cause: String,
    },
    /// What was given holds no private key, a broken one, or one of another certificate.
    #[error(
        "{variable}: no usable private key in it: {cause}; give the PEM block -----BEGIN PRIVATE KEY----- of the certificate"
    )]
    Key {
        /// Where it was given.
        variable: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The crypto provider does not support what is asked of it.
    #[error("TLS cannot be set up: {0}; please report this as a bug")]
    Provider(rustls::Error),
}

/// Builds the client side, with the compiled-in roots and what the user adds to them.
pub fn client_config(tls: &Tls, alpn: &[&str]) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(ca) = &tls.ca {
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|cause| wrong_certificate(ca, foreign(&cause)))?;
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
            .map_err(|cause| wrong_key(key, foreign(&cause)))?,
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(config)
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read(pem)?)
        .collect::<Result<_, _>>()
        .map_err(|cause| wrong_certificate(pem, of_pem(&cause).to_owned()))?;
    if certificates.is_empty() {
        return Err(wrong_certificate(pem, "it holds no PEM certificate".to_owned()));
    }
    Ok(certificates)
}

fn private_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(pem)?).map_err(|cause| wrong_key(pem, of_pem(&cause).to_owned()))
}

/// An error's own words may repeat a line of the key.
fn of_pem(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a PEM block has no end",
        pem::Error::IllegalSectionStart { .. } => "a PEM block does not begin as one does",
        pem::Error::Base64Decode(_) => "a PEM block is not base64",
        pem::Error::SectionTooLarge => "a PEM block is too large",
        pem::Error::NoItemsFound => "no items found",
        _ => "it is not PEM",
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

fn foreign(cause: &rustls::Error) -> String {
    echo::untrusted(&cause.to_string(), echo::UNTRUSTED_LIMIT)
}

fn wrong_certificate(pem: &Pem, cause: String) -> TlsError {
    TlsError::Certificate { variable: pem.variable.clone(), cause }
}

fn wrong_key(pem: &Pem, cause: String) -> TlsError {
    TlsError::Key { variable: pem.variable.clone(), cause }
}

/// Takes whatever certificate a server shows, because the user has said so. That the server holds its key is checked all
/// the same.
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
    use crate::core::secret::Secret;

    const BROKEN: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    fn pem(variable: &str, source: PemSource) -> Pem {
        Pem { variable: variable.to_owned(), source }
    }

    fn text(variable: &str, text: &str) -> Pem {
        pem(variable, PemSource::Text(Secret::new(text)))
    }

    #[test]
    fn a_faulty_authority_is_told_with_its_variable() {
        let told = [
            pem("ROTEL_OTLP_EXPORTER_TLS_CA_FILE", PemSource::File("/nowhere/ca.pem".to_owned())),
            text("ROTEL_OTLP_EXPORTER_TLS_CA_PEM", "nothing"),
            text("ROTEL_OTLP_EXPORTER_TLS_CA_PEM", BROKEN),
        ]
        .map(|ca| {
            let tls = Tls { ca: Some(ca), ..Tls::default() };
            client_config(&tls, &[]).expect_err("a fault").to_string()
        });
        insta::assert_snapshot!(told.join("\n"), @r#"
        ROTEL_OTLP_EXPORTER_TLS_CA_FILE: "/nowhere/ca.pem" is not there; put the file into the bundle, whose files are in /var/task, or correct the path
        ROTEL_OTLP_EXPORTER_TLS_CA_PEM: no usable certificate in it: it holds no PEM certificate; give one or more PEM blocks -----BEGIN CERTIFICATE-----
        ROTEL_OTLP_EXPORTER_TLS_CA_PEM: no usable certificate in it: invalid peer certificate: BadEncoding; give one or more PEM blocks -----BEGIN CERTIFICATE-----
        "#);
    }

    #[test]
    fn a_faulty_client_certificate_is_told_with_its_variable() {
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
        let told = [
            identity("nothing", &key),
            identity(&certificate, "nothing"),
            identity(&certificate, &other.signing_key.serialize_pem()),
        ]
        .map(|tls| client_config(&tls, &[]).expect_err("a fault").to_string());
        insta::assert_snapshot!(told.join("\n"), @"
        ROTEL_OTLP_EXPORTER_TLS_CERT_PEM: no usable certificate in it: it holds no PEM certificate; give one or more PEM blocks -----BEGIN CERTIFICATE-----
        ROTEL_OTLP_EXPORTER_TLS_KEY_PEM: no usable private key in it: no items found; give the PEM block -----BEGIN PRIVATE KEY----- of the certificate
        ROTEL_OTLP_EXPORTER_TLS_KEY_PEM: no usable private key in it: keys may not be consistent: KeyMismatch; give the PEM block -----BEGIN PRIVATE KEY----- of the certificate
        ");
    }
}

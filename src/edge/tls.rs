//! The one TLS configuration, and the one crypto provider.
//!
//! The roots are compiled in: loading the system's store costs milliseconds at every cold start, and images differ in
//! whether they have one.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::core::config::Pem;

/// Why there is no TLS configuration. Each names the variable.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is not there or not to be read.
    #[error(
        "ROTEL_OTLP_EXPORTER_TLS_CA_FILE: {path:?} cannot be read: {cause}; check the path and its permissions"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// What was given holds no certificate, or a broken one.
    #[error(
        "{variable}: no usable certificate in it: {cause}; give one or more PEM blocks -----BEGIN CERTIFICATE-----"
    )]
    Certificate {
        /// Where it was given.
        variable: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// The crypto provider does not support what is asked of it.
    #[error("TLS cannot be set up: {0}; please report this as a bug")]
    Provider(rustls::Error),
}

/// Builds the client side, with the compiled-in roots and the user's own authorities.
pub fn client_config(ca: Option<&Pem>, alpn: &[&str]) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    match ca {
        None => {}
        Some(Pem::Text(text)) => add(&mut roots, text.as_bytes(), "ROTEL_OTLP_EXPORTER_TLS_CA_PEM")?,
        Some(Pem::File(path)) => {
            let text =
                std::fs::read(path).map_err(|cause| TlsError::Unreadable { path: path.clone(), cause })?;
            add(&mut roots, &text, "ROTEL_OTLP_EXPORTER_TLS_CA_FILE")?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Provider)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(config)
}

fn add(roots: &mut RootCertStore, pem: &[u8], variable: &'static str) -> Result<(), TlsError> {
    let wrong = |cause: String| TlsError::Certificate { variable, cause };
    let mut added = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|cause| wrong(cause.to_string()))?;
        roots.add(certificate).map_err(|cause| wrong(cause.to_string()))?;
        added += 1;
    }
    if added == 0 { Err(wrong("it holds no PEM certificate".to_owned())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_faulty_authority_is_told_with_its_variable() {
        let told = [
            Pem::File("/nowhere/ca.pem".to_owned()),
            Pem::Text("nothing".to_owned()),
            Pem::Text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()),
        ]
        .map(|pem| client_config(Some(&pem), &[]).expect_err("a fault").to_string());
        insta::assert_snapshot!(told.join("\n"), @r#"
        ROTEL_OTLP_EXPORTER_TLS_CA_FILE: "/nowhere/ca.pem" cannot be read: No such file or directory (os error 2); check the path and its permissions
        ROTEL_OTLP_EXPORTER_TLS_CA_PEM: no usable certificate in it: it holds no PEM certificate; give one or more PEM blocks -----BEGIN CERTIFICATE-----
        ROTEL_OTLP_EXPORTER_TLS_CA_PEM: no usable certificate in it: invalid peer certificate: BadEncoding; give one or more PEM blocks -----BEGIN CERTIFICATE-----
        "#);
    }
}

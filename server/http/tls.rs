//! TLS for the listener: `SslCert`, `SslKey` and `TlsVersion`.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use tokio_rustls::TlsAcceptor;

use crate::config::Config;

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("unable to start plik server without ssl certificates")]
    Missing,
    #[error("unable to read the certificate {path}")]
    Certificate { path: String, source: pem::Error },
    #[error("unable to read the key {path}")]
    Key { path: String, source: pem::Error },
    #[error("the certificate {certificate} and the key {key} cannot be used")]
    Pair {
        certificate: String,
        key: String,
        source: rustls::Error,
    },
}

impl TlsError {
    /// What the administrator can do about it, in one sentence.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing => "set SslCert and SslKey, or SslEnabled = false",
            Self::Certificate { .. } => {
                "SslCert must name a readable PEM file with the server's certificate first, then \
                 those of its issuers"
            }
            Self::Key { .. } => {
                "SslKey must name a readable PEM file with an unencrypted private key"
            }
            Self::Pair { .. } => "check that SslKey is the key of the first certificate in SslCert",
        }
        .to_owned()
    }
}

/// What makes TLS connections out of TCP connections.
pub fn acceptor(config: &Config) -> Result<TlsAcceptor, TlsError> {
    if config.ssl_cert.is_empty() || config.ssl_key.is_empty() {
        return Err(TlsError::Missing);
    }
    let certificates = certificates(&config.ssl_cert).map_err(|source| TlsError::Certificate {
        path: config.ssl_cert.clone(),
        source,
    })?;
    let key = PrivateKeyDer::from_pem_file(&config.ssl_key).map_err(|source| TlsError::Key {
        path: config.ssl_key.clone(),
        source,
    })?;
    let versions: &[_] = if config.tls_version == "tlsv13" {
        &[&TLS13]
    } else {
        &[&TLS12, &TLS13]
    };
    let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .and_then(|tls| {
            tls.with_no_client_auth()
                .with_single_cert(certificates, key)
        });
    let mut tls = tls.map_err(|source| TlsError::Pair {
        certificate: config.ssl_cert.clone(),
        key: config.ssl_key.clone(),
        source,
    })?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?;
    if certificates.is_empty() {
        return Err(pem::Error::NoItemsFound);
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::http::testing;

    fn problem(certificate: &str, key: &str) -> TlsError {
        let mut config = testing::config();
        config.ssl_cert = certificate.to_owned();
        config.ssl_key = key.to_owned();
        acceptor(&config).err().unwrap()
    }

    #[test]
    fn what_is_wrong_with_the_files_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let issued = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            fs::write(path(&format!("{name}.crt")), made.cert.pem()).unwrap();
            fs::write(
                path(&format!("{name}.key")),
                made.signing_key.serialize_pem(),
            )
            .unwrap();
        };
        issued("a");
        issued("b");
        fs::write(path("junk"), "junk").unwrap();

        assert!(matches!(problem("", &path("a.key")), TlsError::Missing));
        for certificate in [path("absent"), path("junk")] {
            let problem = problem(&certificate, &path("a.key"));
            assert!(matches!(problem, TlsError::Certificate { .. }));
        }
        for key in [path("absent"), path("junk"), path("a.crt")] {
            let problem = problem(&path("a.crt"), &key);
            assert!(matches!(problem, TlsError::Key { .. }));
        }
        let other = problem(&path("a.crt"), &path("b.key"));
        assert!(matches!(other, TlsError::Pair { .. }));
    }
}

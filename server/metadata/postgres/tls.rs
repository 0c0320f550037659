//! Encryption, with the strictness that `sslmode` asks for.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::settings::{SslMode, Tls};
use crate::metadata::MetadataError;

/// The protocol that a server must know when encryption starts with the first byte.
const ALPN: &[u8] = b"postgresql";

/// # Errors
///
/// [`MetadataError::Config`] naming the file that cannot be used.
pub fn client_config(tls: &Tls) -> Result<ClientConfig, MetadataError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(tls, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("the versions of TLS", &error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(certificates("sslcert", cert)?, private_key(key)?)
            .map_err(|error| unusable(&format!("sslcert {cert} with sslkey {key}"), &error))?,
        (None, None) => builder.with_no_client_auth(),
        (Some(_), None) | (None, Some(_)) => {
            return Err(MetadataError::Config(
                "the PostgreSQL connection string has one of sslcert and sslkey without the other"
                    .to_owned(),
            ));
        }
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

fn verifier(
    tls: &Tls,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, MetadataError> {
    let check_name = match (tls.mode, &tls.root_cert) {
        (SslMode::VerifyFull, _) => true,
        // With a root certificate libpq takes `require` for `verify-ca`.
        (SslMode::VerifyCa, _) | (SslMode::Require, Some(_)) => false,
        (SslMode::Disable | SslMode::Prefer | SslMode::Require, _) => {
            return Ok(Arc::new(AnyServer(Arc::clone(provider))));
        }
    };
    let roots = Arc::new(roots(tls.root_cert.as_deref())?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|error| unusable("the root certificates", &error))?;
    Ok(match check_name {
        true => verifier,
        false => Arc::new(AnyName(verifier)),
    })
}

/// The certificates of a file, or those that this system trusts.
fn roots(file: Option<&str>) -> Result<RootCertStore, MetadataError> {
    let mut store = RootCertStore::empty();
    match file.filter(|file| *file != "system") {
        Some(file) => {
            for certificate in certificates("sslrootcert", file)? {
                store
                    .add(certificate)
                    .map_err(|error| unusable(&format!("sslrootcert {file}"), &error))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
        }
    }
    match store.is_empty() {
        true => Err(MetadataError::Config(
            "sslmode asks to verify the PostgreSQL server, but there is no root certificate: set \
             sslrootcert to a file with one"
                .to_owned(),
        )),
        false => Ok(store),
    }
}

fn certificates(key: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, MetadataError> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(&format!("{key} {file}"), &error))
}

fn private_key(file: &str) -> Result<PrivateKeyDer<'static>, MetadataError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| unusable(&format!("sslkey {file}"), &error))
}

fn unusable(what: &str, error: &dyn std::fmt::Display) -> MetadataError {
    MetadataError::Config(format!(
        "{what} cannot be used for the PostgreSQL connection: {error}"
    ))
}

/// Encryption without knowing to whom, as `prefer` and `require` have it.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A certificate from a trusted root, for whatever host: `verify-ca`.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is looked at last, when the chain has been found good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::ServerConfig;
    use tempfile::TempDir;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// An authority and a server's certificate for `db.example`.
    struct Server {
        directory: TempDir,
        config: Arc<ServerConfig>,
    }

    impl Server {
        fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let authority_key = KeyPair::generate().unwrap();
            let authority = params.self_signed(&authority_key).unwrap();
            let issuer = Issuer::new(params, authority_key);
            let key = KeyPair::generate().unwrap();
            let names = vec!["db.example".to_owned()];
            let certificate = CertificateParams::new(names)
                .unwrap()
                .signed_by(&key, &issuer)
                .unwrap();
            let directory = TempDir::new().unwrap();
            std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .unwrap();
            Self {
                directory,
                config: Arc::new(config),
            }
        }

        fn authority(&self) -> String {
            path(&self.directory.path().join("ca.pem"))
        }

        async fn accepts(&self, tls: &Tls, host: &str) -> bool {
            let client = TlsConnector::from(Arc::new(client_config(tls).unwrap()));
            let server = TlsAcceptor::from(Arc::clone(&self.config));
            let (near, far) = tokio::io::duplex(1 << 16);
            let host = ServerName::try_from(host.to_owned()).unwrap();
            let (client, _) = tokio::join!(client.connect(host, near), server.accept(far));
            client.is_ok()
        }
    }

    fn path(path: &Path) -> String {
        path.to_str().unwrap().to_owned()
    }

    fn tls(mode: SslMode, root_cert: Option<String>) -> Tls {
        Tls {
            mode,
            root_cert,
            ..Tls::default()
        }
    }

    #[tokio::test]
    async fn each_mode_trusts_as_much_as_it_says() {
        use SslMode::{Prefer, Require, VerifyCa, VerifyFull};
        let (server, other) = (Server::new(), Server::new());
        let (good, bad) = (Some(server.authority()), Some(other.authority()));
        for (mode, root, host, trusted) in [
            (VerifyFull, &good, "db.example", true),
            (VerifyFull, &good, "other.example", false),
            (VerifyFull, &bad, "db.example", false),
            (VerifyCa, &good, "other.example", true),
            (VerifyCa, &bad, "db.example", false),
            (Require, &None, "other.example", true),
            (Require, &bad, "db.example", false),
            (Require, &good, "other.example", true),
            (Prefer, &bad, "other.example", true),
        ] {
            let tls = tls(mode, root.clone());
            let accepted = server.accepts(&tls, host).await;
            assert_eq!(accepted, trusted, "{tls:?} for {host}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let directory = TempDir::new().unwrap();
        let empty = directory.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        for (root, named) in [
            ("/nowhere/ca.pem".to_owned(), "/nowhere/ca.pem"),
            (path(&empty), "sslrootcert"),
        ] {
            let error = client_config(&tls(SslMode::VerifyFull, Some(root))).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
        let half = Tls {
            cert: Some("client.pem".to_owned()),
            ..Tls::default()
        };
        let error = client_config(&half).unwrap_err();
        assert!(error.to_string().contains("sslkey"), "{error}");
    }
}

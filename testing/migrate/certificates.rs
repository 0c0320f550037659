//! Servers that cannot prove who they are.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use anyhow::{Result, ensure};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection};

use crate::interlocks::refused;
use crate::places::{Database, Store};
use crate::scene::{SMALL, Scene, Server};

/// What a client of PostgreSQL sends to ask for TLS, and the answer.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const YES: &[u8] = b"S";

/// Listens with a certificate that nobody has signed, and gives its port. Fails every handshake
/// that gets so far as to send something: then a client has trusted it.
fn impostor(speaks_postgres: bool) -> Result<u16> {
    let issued = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key.into())?;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    // Ends with the test.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            thread::spawn(move || speak(stream, config, speaks_postgres));
        }
    });
    Ok(port)
}

fn speak(mut stream: TcpStream, config: Arc<ServerConfig>, postgres: bool) -> io::Result<()> {
    if postgres {
        let mut asked = [0; SSL_REQUEST.len()];
        stream.read_exact(&mut asked)?;
        assert_eq!(asked, SSL_REQUEST);
        stream.write_all(YES)?;
    }
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut tls = rustls::StreamOwned::new(connection, stream);
    let mut said = [0; 1];
    // A client that does not trust it ends the handshake.
    assert!(tls.read_exact(&mut said).is_err(), "a client trusts it");
    Ok(())
}

fn bucket_at(port: u16) -> Store {
    Store::Bucket {
        server: format!("http://key:secret-key@127.0.0.1:{port}"),
        bucket: "plik".to_owned(),
        settings: "UseSSL = true".to_owned(),
    }
}

#[test]
fn a_bucket_whose_certificate_is_not_trusted_is_not_spoken_to() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let to = scene.server(
        "to",
        Database::Sqlite(scene.path("to.db")),
        bucket_at(impostor(false)?),
    )?;
    refused(&scene, &from, &to, &["--data-only"], 4)?
        .says(&["cannot prove who it is", "hint: "])?
        .never_says(&["retry ", "secret-key"])?;
    Ok(())
}

#[test]
fn a_database_whose_certificate_is_not_trusted_is_not_spoken_to() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    for mode in ["verify-ca", "verify-full"] {
        let port = impostor(true)?;
        let url = format!("postgres://plik:secret-word@127.0.0.1:{port}/plik?sslmode={mode}");
        let config = scene.write(
            "to.cfg",
            &format!(
                "[MetadataBackendConfig]\nDriver = \"postgres\"\nConnectionString = \"{url}\"\n"
            ),
        )?;
        let to = Server {
            config,
            database: Database::Sqlite(scene.path("unused.db")),
            store: Store::Directory(scene.path("unused")),
        };
        let run = refused(&scene, &from, &to, &["--metadata-only"], 4)?
            .says(&["cannot prove who it is", "hint: let sslrootcert"])?
            .never_says(&["retry ", "secret-word"])?;
        ensure!(!run.stderr.contains("timed out"), "{run}");
    }
    Ok(())
}

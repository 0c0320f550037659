//! Makes connections, with the session settings that the statements rely on.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::Connect;
use futures::FutureExt;
use futures::future::{BoxFuture, OptionFuture};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode as DriverSslMode;
use tokio_postgres::{Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use super::failure;
use super::settings::{Settings, SslMode};
use super::tls;
use crate::config::MetadataConfig;
use crate::metadata::MetadataError;
use crate::metadata::error::During;
use crate::metadata::hold::{Hold, Session};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What is said of a server that took the connection, but no more.
pub(super) const SILENT: &str = "it accepts a connection and then does not answer";
/// After this a peer that does not acknowledge what was sent is taken for dead.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVES_IDLE: Duration = Duration::from_secs(60);

/// Whatever the server's defaults and the connection string say: times go through in UTC, text in
/// UTF-8, a backslash is a backslash, and a client that is cut off is noticed in two minutes, with
/// whatever it keeps locked.
const SESSION: &str = "SET client_encoding = 'UTF8'; SET TimeZone = 'UTC'; \
     SET standard_conforming_strings = on; SET tcp_keepalives_idle = 60; \
     SET tcp_keepalives_interval = 15; SET tcp_keepalives_count = 4";

/// No limit that is meant for the statements of a web server, or for sessions that it forgot, ends
/// what may take hours or waits for hours. Versions differ in what they know of these.
const STEADY: &str = "SELECT pg_catalog.set_config(name, '0', false) \
     FROM (VALUES ('statement_timeout'), ('transaction_timeout'), ('lock_timeout'), \
         ('idle_session_timeout'), ('idle_in_transaction_session_timeout')) AS limits (name) \
     WHERE pg_catalog.current_setting(name, true) IS NOT NULL";

/// Knows how to reach a PostgreSQL database.
#[derive(Clone)]
pub struct Connector {
    config: Config,
    tls: MakeRustlsConnect,
    session: Vec<(String, String)>,
    /// A session parameter was refused and the administrator has been told.
    warned: Arc<AtomicBool>,
    label: String,
    is_steady: bool,
    /// Its connections are for whoever has this lock, and end when it is lost.
    hold: Option<Hold>,
}

impl Connector {
    /// # Errors
    ///
    /// [`MetadataError::Config`] if the connection string or a file that it names cannot be used.
    pub fn new(config: &MetadataConfig) -> Result<Self, MetadataError> {
        let settings = Settings::parse(config.connection_string.expose())?;
        let tls = tls::client_config(&settings.tls)?;
        Ok(Self {
            config: driver_config(&settings)?,
            tls: MakeRustlsConnect::new(tls),
            label: label(&settings),
            session: settings.session,
            warned: Arc::default(),
            is_steady: false,
            hold: None,
        })
    }

    /// For connections that no time limit of the server ends.
    #[must_use]
    pub fn steady(self) -> Self {
        Self {
            is_steady: true,
            ..self
        }
    }

    /// For the connections of whoever has this lock: when it is lost they end. What was sent is
    /// carried out all the same, as far as it does not wait for more to come.
    #[must_use]
    pub fn under(self, hold: Option<Hold>) -> Self {
        Self { hold, ..self }
    }

    /// A connection of its own, driven by a task that ends with the client.
    ///
    /// # Errors
    ///
    /// [`MetadataError::Unreachable`] or [`MetadataError::Denied`], and those of `Hold::ready`.
    pub async fn connect(&self) -> Result<Client, MetadataError> {
        let Session { client, task } = self.session().await?;
        task.detach();
        Ok(client)
    }

    /// [`Connector::connect`], with what tells that the connection has ended.
    ///
    /// # Errors
    ///
    /// The same.
    pub(in crate::metadata) async fn session(&self) -> Result<Session, MetadataError> {
        let during = During {
            action: "open a connection",
            backend: &self.label,
        };
        if let Some(hold) = &self.hold {
            hold.ready(during).await?;
        }
        let connecting = self.establish();
        let connected = match self.patience() {
            Some(patience) => timeout(patience, connecting).await,
            None => Ok(connecting.await),
        };
        let connected = connected.map_err(|_| during.unreachable(SILENT))?;
        let (client, task) = connected.map_err(|error| failure(during, &error))?;
        Ok(Session { client, task })
    }

    /// How long it may take until there is a session. `connect_timeout` is for reaching each of the
    /// servers; so long again, the one that was reached may take to let us in. `None` is for ever.
    pub(super) fn patience(&self) -> Option<Duration> {
        let servers = self.config.get_hosts().len().max(1);
        let attempts = u32::try_from(servers).unwrap_or(u32::MAX).saturating_add(1);
        let timeout = self.config.get_connect_timeout();
        timeout.map(|timeout| timeout.saturating_mul(attempts))
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// A session, and the task that drives it.
    async fn establish(&self) -> Result<(Client, AbortOnDropHandle<()>), Error> {
        let lost = OptionFuture::from(self.hold.as_ref().map(Hold::lost));
        let (client, connection) = self.config.connect(self.tls.clone()).await?;
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::select! {
                // Whoever uses the client gets the error too, and knows what for.
                ended = connection => if let Err(error) = ended {
                    tracing::debug!("a PostgreSQL connection ended: {error}");
                },
                Some(()) = lost => tracing::debug!("a PostgreSQL connection is cut: its lock is lost"),
            }
        }));
        // Together, because a limit may be short and counts from the moment of the connection.
        let steady = if self.is_steady { STEADY } else { "" };
        client
            .batch_execute(&format!("{SESSION}; {steady}"))
            .await?;
        for (name, value) in &self.session {
            self.set(&client, name, value).await?;
        }
        if self.is_steady && !self.session.is_empty() {
            client.batch_execute(STEADY).await?;
        }
        Ok((client, task))
    }

    /// Sets a parameter of the session. One that this server does not know means something to
    /// another driver only, and is no reason to fail.
    async fn set(&self, client: &Client, name: &str, value: &str) -> Result<(), Error> {
        const SQL: &str = "SELECT pg_catalog.set_config($1, $2, false)";
        match client.execute(SQL, &[&name, &value]).await {
            Err(error) if error.as_db_error().is_some() => {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!("{} does not take the parameter {name}", self.label);
                }
                Ok(())
            }
            outcome => outcome.map(|_| ()),
        }
    }
}

impl Connect for Connector {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        async {
            let (client, task) = self.establish().await?;
            Ok((client, task.detach()))
        }
        .boxed()
    }
}

/// `postgres localhost:5432/plik`: the server and its database.
impl fmt::Display for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

fn driver_config(settings: &Settings) -> Result<Config, MetadataError> {
    let mut text = String::new();
    for (key, value) in &settings.driver {
        let escaped = value.replace('\\', "\\\\").replace('\'', "\\'");
        text = format!("{text} {key}='{escaped}'");
    }
    let invalid = |error: Error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        MetadataError::Config(format!(
            "the PostgreSQL connection string is not valid: {}",
            cause.unwrap_or_else(|| error.to_string())
        ))
    };
    let mut config: Config = text.parse().map_err(invalid)?;
    config.ssl_mode(match settings.tls.mode {
        SslMode::Disable => DriverSslMode::Disable,
        SslMode::Prefer => DriverSslMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => DriverSslMode::Require,
    });
    if settings.driver_value("host").is_none() && settings.driver_value("hostaddr").is_none() {
        config.host("localhost");
    }
    if settings.driver_value("application_name").is_none() {
        config.application_name("plikd");
    }
    if settings.driver_value("connect_timeout").is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if settings.driver_value("tcp_user_timeout").is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    if settings.driver_value("keepalives_idle").is_none() {
        config.keepalives_idle(KEEPALIVES_IDLE);
    }
    Ok(config)
}

fn label(settings: &Settings) -> String {
    let value = |key| settings.driver_value(key);
    let database = value("dbname").or(value("user")).unwrap_or("postgres");
    let host = value("host").or(value("hostaddr")).unwrap_or("localhost");
    let port = value("port").unwrap_or("5432");
    let host = match host.contains(':') {
        // Where an IPv6 address ends and the port begins.
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    format!("postgres {host}:{port}/{database}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Driver, Secret};

    fn connector(text: &str) -> Connector {
        let config = MetadataConfig {
            driver: Driver::Postgres,
            connection_string: Secret::new(text),
            debug: false,
            slow_query_threshold: Duration::ZERO,
            max_open_conns: 0,
            max_idle_conns: 0,
        };
        Connector::new(&config).unwrap()
    }

    #[test]
    fn a_database_is_named_without_its_password() {
        let label = connector("postgres://plik:hush@db:5433/files").to_string();
        assert_eq!(label, "postgres db:5433/files");
        assert_eq!(
            connector("user=plik password=hush").to_string(),
            "postgres localhost:5432/plik"
        );
    }

    #[test]
    fn an_address_is_told_from_its_port() {
        let label = connector("host=::1 user=plik").to_string();
        assert_eq!(label, "postgres [::1]:5432/plik");
    }

    #[test]
    fn what_the_string_says_wins_over_our_defaults() {
        let config = connector(
            "host=h application_name=mine connect_timeout=3 sslmode=verify-full sslrootcert=system",
        )
        .config;
        assert_eq!(config.get_application_name(), Some("mine"));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(config.get_ssl_mode(), DriverSslMode::Require);
        let config = connector("host=h password='it\\'s'").config;
        assert_eq!(config.get_application_name(), Some("plikd"));
        assert_eq!(config.get_ssl_mode(), DriverSslMode::Prefer);
    }
}

//! Connection strings, as libpq and the drivers of Plik (Go) read them.

use percent_encoding::percent_decode_str;

use crate::metadata::MetadataError;

/// What a connection string says, sorted by who understands it. Values may be secret.
#[derive(Default)]
pub struct Settings {
    /// For the driver: `host`, `user`, …
    pub driver: Vec<(String, String)>,
    /// `sslmode`, `sslrootcert`, `sslcert`, `sslkey`.
    pub tls: Tls,
    /// For the server, as `SET` takes them: `search_path`, …
    pub session: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    pub mode: SslMode,
    pub root_cert: Option<String>,
    pub cert: Option<String>,
    pub key: Option<String>,
}

/// How much protection is asked for, as libpq defines it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    /// Encrypted if the server can; also what `allow` does here.
    #[default]
    Prefer,
    /// Encrypted. The server proves who it is only if a root certificate is given.
    Require,
    /// The server's certificate leads to a root certificate.
    VerifyCa,
    /// And it is for this host.
    VerifyFull,
}

/// What tokio-postgres knows itself.
const DRIVER_KEYS: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "options",
    "application_name",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
    "sslnegotiation",
];

/// What other clients know and needs nothing here: pools and protocols of Go's drivers, and what
/// is set for every session anyway.
const IGNORED_KEYS: &[&str] = &[
    "sslsni",
    "sslinline",
    "sslpassword",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "gssencmode",
    "krbsrvname",
    "krbspn",
    "passfile",
    "service",
    "servicefile",
    "fallback_application_name",
    "keepalives_count",
    "requirepeer",
    "require_auth",
    "replication",
    "binary_parameters",
    "disable_prepared_binary_result",
    "prefer_simple_protocol",
    "default_query_exec_mode",
    "statement_cache_mode",
    "statement_cache_capacity",
    "description_cache_capacity",
    "min_read_buffer_size",
    "min_protocol_version",
    "max_protocol_version",
    "client_encoding",
    "timezone",
    "standard_conforming_strings",
];

impl Settings {
    /// Reads `postgres://…` or `key=value …`.
    ///
    /// # Errors
    ///
    /// [`MetadataError::Config`], which quotes no value.
    pub fn parse(connection_string: &str) -> Result<Self, MetadataError> {
        let text = connection_string.trim();
        let url = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let pairs = match url {
            Some(rest) => url_pairs(rest)?,
            None => keyword_pairs(text)?,
        };
        let mut settings = Self::default();
        for (key, value) in pairs {
            refuse_run_together(&key, &value)?;
            settings.sort_in(key, value)?;
        }
        Ok(settings)
    }

    /// The last value of a key, as with libpq.
    pub fn driver_value(&self, key: &str) -> Option<&str> {
        let mut values = self.driver.iter().rev();
        let found = values.find(|(name, _)| name == key)?;
        Some(&found.1)
    }

    /// As a URL for a person: the password is hidden, parameters are left out.
    pub fn shown(&self) -> String {
        let value = |key| self.driver_value(key);
        let user = value("user").map_or(String::new(), |user| match value("password") {
            Some(_) => format!("{user}:***@"),
            None => format!("{user}@"),
        });
        let host = value("host").or(value("hostaddr")).unwrap_or("localhost");
        let port = value("port").unwrap_or("5432");
        let database = value("dbname").or(value("user")).unwrap_or("postgres");
        format!("postgres://{user}{host}:{port}/{database}")
    }

    fn sort_in(&mut self, key: String, value: String) -> Result<(), MetadataError> {
        let lower = key.to_ascii_lowercase();
        match lower.as_str() {
            "sslmode" => self.tls.mode = SslMode::parse(&value)?,
            "sslrootcert" => self.tls.root_cert = Some(value),
            "sslcert" => self.tls.cert = Some(value),
            "sslkey" => self.tls.key = Some(value),
            "database" => self.driver.push(("dbname".to_owned(), value)),
            known if DRIVER_KEYS.contains(&known) => self.driver.push((lower, value)),
            known if IGNORED_KEYS.contains(&known) || known.starts_with("pool_") => {}
            // No setting of a session starts like that: passed over, a misspelt sslmode would mean
            // a connection that is less protected than was asked for.
            misspelt if misspelt.starts_with("ssl") => {
                return Err(MetadataError::Config(format!(
                    "`{key}` in the PostgreSQL connection string is no parameter that plikd knows: \
                     sslmode, sslrootcert, sslcert and sslkey are"
                )));
            }
            _ => self.session.push((lower, value)),
        }
        Ok(())
    }
}

/// Refuses values that have other parameters in them, as in `host=db,user=plik,password=…`: messages
/// name hosts, users and databases, and would name the password with them.
fn refuse_run_together(key: &str, value: &str) -> Result<(), MetadataError> {
    let may_hold_any = ["password", "options", "sslpassword"];
    let mut parts = value.split([',', ';']);
    let is_host = key.eq_ignore_ascii_case("host") || key.eq_ignore_ascii_case("hostaddr");
    let has_another = if may_hold_any.iter().any(|any| key.eq_ignore_ascii_case(any)) {
        false
    } else if is_host {
        // The directory of a socket may have any name.
        parts.any(|part| part.contains('=') && !part.starts_with('/'))
    } else {
        parts.skip(1).any(|part| {
            let name = part.split_once('=').map(|(name, _)| name.trim());
            name.is_some_and(|name| DRIVER_KEYS.contains(&name.to_ascii_lowercase().as_str()))
        })
    };
    match has_another {
        true => Err(MetadataError::Config(format!(
            "`{key}` in the PostgreSQL connection string has other parameters in its value: put \
             spaces between parameters, as in host=… user=… dbname=…"
        ))),
        false => Ok(()),
    }
}

impl SslMode {
    fn parse(text: &str) -> Result<Self, MetadataError> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            other => {
                return Err(MetadataError::Config(format!(
                    "sslmode of the PostgreSQL connection string is `{other}`, not disable, \
                     prefer, require, verify-ca or verify-full"
                )));
            }
        })
    }
}

type Pairs = Vec<(String, String)>;

/// `user:password@host:port,host:port/dbname?key=value&…`, without the scheme.
fn url_pairs(rest: &str) -> Result<Pairs, MetadataError> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, dbname) = rest.split_once('/').unwrap_or((rest, ""));
    let (user_info, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let (hosts, ports) = hosts_and_ports(hosts)?;
    let mut pairs = Pairs::new();
    for (key, value) in [
        ("host", hosts.as_str()),
        ("port", ports.as_str()),
        ("user", user),
        ("password", password),
        ("dbname", dbname),
    ] {
        if !value.is_empty() {
            pairs.push((key.to_owned(), decode(value)?));
        }
    }
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        pairs.push((decode(key)?, decode(value)?));
    }
    Ok(pairs)
}

/// `a:1,[::1]:2` as the two lists `a,::1` and `1,2`.
fn hosts_and_ports(text: &str) -> Result<(String, String), MetadataError> {
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for one in text.split(',') {
        let (host, port) = match one.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(malformed)?;
                (host, rest.strip_prefix(':').unwrap_or(""))
            }
            None => one.split_once(':').unwrap_or((one, "")),
        };
        hosts.push(host);
        ports.push(port);
    }
    let some = |list: &[&str], separator| match list.iter().all(|one| one.is_empty()) {
        true => String::new(),
        false => list.join(separator),
    };
    let ports: Vec<&str> = match ports.iter().all(|port| port.is_empty()) {
        true => ports,
        // A host without its own port has the usual one, not its neighbour's.
        false => ports
            .iter()
            .map(|port| if port.is_empty() { "5432" } else { port })
            .collect(),
    };
    Ok((some(&hosts, ","), some(&ports, ",")))
}

fn decode(text: &str) -> Result<String, MetadataError> {
    percent_decode_str(text)
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|_| malformed())
}

/// `key = value key='quoted value'`, with `\` before a quote or a backslash.
fn keyword_pairs(text: &str) -> Result<Pairs, MetadataError> {
    let mut pairs = Pairs::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(malformed)?;
        let key = key.trim_end();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(malformed());
        }
        let (value, after) = keyword_value(after.trim_start())?;
        pairs.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// One value, and what follows it.
fn keyword_value(text: &str) -> Result<(String, &str), MetadataError> {
    let quoted = text.strip_prefix('\'');
    let body = quoted.unwrap_or(text);
    let mut value = String::new();
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted.is_some() => return Ok((value, &body[at + 1..])),
            space if quoted.is_none() && space.is_whitespace() => {
                return Ok((value, &body[at..]));
            }
            other => value.push(other),
        }
    }
    match quoted {
        Some(_) => Err(malformed()),
        None => Ok((value, "")),
    }
}

fn malformed() -> MetadataError {
    MetadataError::Config(
        "the PostgreSQL connection string is neither a URL like \
         postgres://user:password@host:5432/plik nor a list like host=… user=… dbname=…"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(text: &str) -> Vec<(String, String)> {
        Settings::parse(text).unwrap().driver
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_shown_url_has_no_password() {
        let shown = |text| Settings::parse(text).unwrap().shown();
        assert_eq!(
            shown("postgres://plik:secret@db/files?sslmode=require"),
            "postgres://plik:***@db:5432/files"
        );
        assert_eq!(
            shown("host=db port=1 user=plik"),
            "postgres://plik@db:1/plik"
        );
        assert_eq!(shown("postgres://"), "postgres://localhost:5432/postgres");
    }

    #[test]
    fn a_misspelt_parameter_of_tls_is_refused() {
        let error = Settings::parse("postgres://db/files?sslmod=verify-full")
            .err()
            .unwrap();
        assert!(error.to_string().contains("`sslmod`"), "{error}");
        assert!(Settings::parse("postgres://db/files?sslsni=1").is_ok());
    }

    #[test]
    fn both_forms_say_the_same() {
        let expected = pairs(&[
            ("host", "db.example"),
            ("port", "5433"),
            ("user", "plik"),
            ("password", "p@ss word'\\"),
            ("dbname", "files"),
        ]);
        assert_eq!(
            driver("postgres://plik:p%40ss%20word'%5c@db.example:5433/files"),
            expected
        );
        assert_eq!(
            driver(
                "host=db.example  port = 5433 user=plik password='p@ss word\\'\\\\' dbname=files"
            ),
            expected
        );
    }

    #[test]
    fn several_hosts_addresses_and_sockets_are_understood() {
        assert_eq!(
            driver("postgresql://a,[::1]:5433/x"),
            pairs(&[("host", "a,::1"), ("port", "5432,5433"), ("dbname", "x")])
        );
        assert_eq!(
            driver("postgres://u@%2Fvar%2Frun%2Fpostgresql/x"),
            pairs(&[
                ("host", "/var/run/postgresql"),
                ("user", "u"),
                ("dbname", "x")
            ])
        );
        assert_eq!(driver("postgres:///x"), pairs(&[("dbname", "x")]));
    }

    #[test]
    fn values_may_hold_what_parameters_are_made_of() {
        for text in [
            "host=h password='a,user=b;c=d'",
            "postgres://u:p,user=x@h/plik",
            "host=/run/a=b,/run/c user=plik",
            "host=h options='-c a=b,user=c'",
            "host=a,b search_path=a,b user=a=b",
        ] {
            assert!(Settings::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn encryption_is_taken_out_and_parameters_of_the_session_too() {
        let settings = Settings::parse(
            "host=h sslmode=verify-ca sslrootcert=/ca.pem TimeZone=Europe/Paris \
             search_path=plik pool_max_conns=3",
        )
        .unwrap();
        assert_eq!(
            settings.tls,
            Tls {
                mode: SslMode::VerifyCa,
                root_cert: Some("/ca.pem".to_owned()),
                ..Tls::default()
            }
        );
        assert_eq!(settings.driver, pairs(&[("host", "h")]));
        assert_eq!(settings.session, pairs(&[("search_path", "plik")]));
    }

    #[test]
    fn what_is_no_connection_string_is_refused_without_quoting_it() {
        for text in [
            "plik.db secret",
            "host=h password='secret",
            "postgres://u:secret@[::1/x",
            "=secret",
            "host=h sslmode=none",
            "host=127.0.0.1,user=u,password=secret",
            "Host=127.0.0.1;Username=u;Password=secret",
            "host=/run/postgresql,password=secret",
            "host=h user=u,password=secret",
            "host=h dbname=plik;Password=secret",
            "host=h sslmode=require,password=secret",
            "postgres://u@h,password=secret/plik",
        ] {
            let Err(error) = Settings::parse(text) else {
                panic!("{text} was accepted");
            };
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}

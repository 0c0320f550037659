//! The command line of the daemon, and how it fails to start.

use std::sync::Arc;

use rustix::process::Signal;

use crate::api::said;
use crate::server::{Home, Server};

#[tokio::test]
async fn the_log_tells_what_starts() -> anyhow::Result<()> {
    let server = Server::start().await?;
    for text in ["Starting plikd server", "Using SQLite", " seconds.\n"] {
        server.await_log(text).await?;
    }
    let log = server.log();
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        log.contains(&format!("[INFO    ] Starting plikd server v{version}\n")),
        "{log}"
    );
    assert!(log.contains("[INFO    ] Using SQLite: plik.db\n"), "{log}");
    let cleaning = log.lines().find_map(|line| {
        let (_, text) = line.split_once("[INFO    ] Will clean old uploads in ")?;
        text.strip_suffix(" seconds.")?.parse::<u64>().ok()
    });
    assert!(
        cleaning.is_some_and(|seconds| (300..600).contains(&seconds)),
        "{log}"
    );
    Ok(())
}

#[tokio::test]
async fn the_port_is_given_before_or_after_the_command() -> anyhow::Result<()> {
    let free = || {
        anyhow::Ok(
            std::net::TcpListener::bind("127.0.0.1:0")?
                .local_addr()?
                .port(),
        )
    };
    for place in 0..2 {
        let port = free()?.to_string();
        let args = match place {
            0 => ["--port", &port, "server"],
            _ => ["server", "--port", &port],
        };
        let home = Arc::new(Home::new("")?);
        let server = Server::start_in(home, &args).await?;
        assert_eq!(server.url, format!("http://127.0.0.1:{port}"));
        assert_eq!(said(server.get("/health")).await?.0, 200);
    }
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_is_named() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let port = server.host().rsplit(':').next().unwrap_or_default();
    let output = Home::new("")?.run(&["--port", port]).await?;
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr)?;
    let expected =
        format!("plikd: unable to start Plik server: unable to listen on 127.0.0.1:{port}: ");
    assert!(text.starts_with(&expected), "{text}");
    assert!(text.contains("\nhint: stop what listens there"), "{text}");
    Ok(())
}

/// Somebody forgot to set the variable: uploads would go to a database that nobody looks at.
#[tokio::test]
async fn a_database_that_was_moved_is_not_served_by_mistake() -> anyhow::Result<()> {
    let home = Arc::new(Home::new("")?);
    let marker = home.path("plik.db.moved");
    std::fs::write(&marker, "2026-01-02T03:04:05Z\npostgres db:5432/plik\n")?;
    let output = home.run(&[]).await?;
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr)?;
    assert_eq!(
        text,
        "plikd: unable to start Plik server: plik.db was migrated to PostgreSQL at \
         2026-01-02T03:04:05Z\nhint: set PLIKD_POSTGRES_URL (or go on with the old data: plikd \
         --use-old-database)\n"
    );
    assert!(!home.path("plik.db").exists());
    let server = Server::start_in(Arc::clone(&home), &["--use-old-database"]).await?;
    assert_eq!(said(server.get("/health")).await?.0, 200);
    assert!(!marker.exists());
    Ok(())
}

#[tokio::test]
async fn a_variable_that_is_no_url_of_postgresql_is_refused() -> anyhow::Result<()> {
    let home = Home::new("")?;
    let mut command = home.command(&[]);
    let output = command.env("PLIKD_POSTGRES_URL", "mysql://u:secret@h/plik");
    let output = output.output()?;
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr)?;
    assert!(
        text.contains("PLIKD_POSTGRES_URL is not a PostgreSQL URL"),
        "{text}"
    );
    assert!(!text.contains("secret"), "{text}");
    Ok(())
}

#[tokio::test]
async fn the_version_is_printed() -> anyhow::Result<()> {
    for flag in ["--version", "-v"] {
        let output = Home::new("")?.run(&[flag]).await?;
        assert_eq!(output.status.code(), Some(0));
        let expected = format!("plikd version v{}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(String::from_utf8(output.stdout)?, expected);
    }
    Ok(())
}

#[tokio::test]
async fn bad_usage_and_bad_configuration_are_exit_code_2() -> anyhow::Result<()> {
    let home = Home::new("")?;
    assert_eq!(home.run(&["--nonsense"]).await?.status.code(), Some(2));
    assert_eq!(
        home.run(&["--config", "absent.cfg"]).await?.status.code(),
        Some(2)
    );
    assert_eq!(
        Home::new("Debug = 1")?.run(&[]).await?.status.code(),
        Some(2)
    );
    Ok(())
}

/// What a client sends must not end up in the log unless it is harmless.
#[tokio::test]
async fn the_log_holds_no_secrets() -> anyhow::Result<()> {
    let mut server = Server::with("Debug = true\nDebugRequests = true").await?;
    let params = serde_json::json!({ "login": "mylogin", "password": "mypassword" });
    let upload = server.share(params, "a", "hello").await?;
    let wrong = server
        .get(&upload.path(0))
        .header("Authorization", "Basic c2VjcmV0OnNlY3JldA==");
    assert_eq!(said(wrong).await?.0, 401);
    server.signal(Signal::TERM)?;
    server.ended().await?;
    let log = server.log();
    assert!(log.contains(&upload.id), "{log}");
    for secret in [upload.token.as_str(), "mypassword", "c2VjcmV0OnNlY3JldA=="] {
        assert!(!log.contains(secret), "{log}");
    }
    Ok(())
}

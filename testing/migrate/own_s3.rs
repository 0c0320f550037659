//! An S3 server of a test's own.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::scene::{Scene, wait_until};

/// Killed with this. Its objects are in the scene, for the next one to find.
pub struct OwnS3(Child);

impl OwnS3 {
    /// Starts it with further options and gives its URL, `http://KEY:SECRET@127.0.0.1:PORT`.
    pub fn start(scene: &Scene, options: &[&str]) -> Result<(Self, String)> {
        let program = Path::new(env!("CARGO_BIN_EXE_plikd"))
            .with_file_name("examples")
            .join("s3-server");
        let ready = scene.path("s3.ready");
        fs::remove_file(&ready).ok();
        let child = Command::new(program)
            .args(["--access-key", "key", "--secret-key", "secret"])
            .arg("--root")
            .arg(scene.path("s3"))
            .arg("--ready-file")
            .arg(&ready)
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start s3-server: cargo build --example s3-server")?;
        let server = Self(child);
        wait_until("the S3 server is ready", || Ok(ready.exists()))?;
        Ok((server, fs::read_to_string(ready)?.trim().to_owned()))
    }
}

impl Drop for OwnS3 {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

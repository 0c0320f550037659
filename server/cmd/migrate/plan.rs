//! `--plan FILE` and `--plan-file FILE`: a migration that is written down to be looked at, and run as
//! it was seen.
//!
//! The plan has a digest of itself: it is not a file to be edited, but to be made anew.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::args::{PlannedArgs, RunArgs};
use super::summary::Summary;
use super::values;
use super::whole_file::WholeFile;
use crate::cmd::exit::{Exit, Failure};
use crate::migrate::{Facts, Outlook};
use crate::model::Timestamp;

/// Of the file; raised whenever a plan of one version cannot be run by another.
const SCHEMA: u64 = 1;

/// What the file says that it is.
const KIND: &str = "plikd migration plan";

/// The field that is not part of what it is the digest of.
const DIGEST: &str = "digest";

/// A plan that is being made.
pub struct PlanDraft {
    path: PathBuf,
    file: WholeFile,
    args: PlannedArgs,
}

impl PlanDraft {
    /// # Errors
    ///
    /// [`Exit::Usage`] if no file can be written there.
    pub fn create(path: &Path, args: &RunArgs, to: &Path) -> Result<Self, Failure> {
        let begin = || Ok((WholeFile::create(path, is_plan)?, args.planned(to)?));
        let (file, args) = begin().map_err(|error: io::Error| {
            unwritable(path, error).with_hint(
                "give --plan the name of a new file, or of an earlier plan, in a directory that \
                 this user may write"
                    .to_owned(),
            )
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            args,
        })
    }

    /// Writes the plan and gives the file its name.
    pub fn finish(mut self, outlook: &Outlook, summary: &Summary) -> Result<(), Failure> {
        let write = || {
            let mut plan = json!({
                "kind": KIND,
                "schema": SCHEMA,
                "created": Timestamp::now().to_string(),
                "arguments": serde_json::to_value(&self.args)?,
                "facts": serde_json::to_value(&outlook.facts)?,
                "work": values::summary(summary),
                "first_findings": values::findings(&outlook.preview.lint.first),
                "space": values::rooms(&outlook.rooms),
                "requests": serde_json::to_value(outlook.requests)?,
                "estimate": serde_json::to_value(&outlook.estimate)?,
            });
            plan[DIGEST] = digest(&plan).into();
            serde_json::to_writer_pretty(&mut self.file, &plan)?;
            writeln!(self.file)?;
            self.file.finish()
        };
        write().map_err(|error| unwritable(&self.path, error))
    }
}

fn unwritable(path: &Path, error: io::Error) -> Failure {
    let doing = format!("cannot write a plan to {}", path.display());
    Failure::new(Exit::Usage, anyhow::Error::from(error).context(doing))
}

/// What a plan says about the run.
#[derive(Debug, Deserialize)]
pub struct Planned {
    #[serde(rename = "arguments")]
    pub args: PlannedArgs,
    pub facts: Facts,
}

impl Planned {
    /// # Errors
    ///
    /// [`Exit::Usage`] if the file cannot be read, is no plan, or is not as it was written.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let read = || parse(&fs::read_to_string(path)?);
        read().map_err(|error| {
            let doing = format!("the plan {} cannot be run", path.display());
            Failure::new(Exit::Usage, error.context(doing))
                .with_hint("make a new plan with --plan, and look at it".to_owned())
        })
    }
}

/// A plan has a hundred findings at most, and a line for each table.
const PLAN_BYTES: u64 = 16 << 20;

/// Whether `file` was written as a plan, of whatever version.
fn is_plan(file: File) -> bool {
    let text = BufReader::new(file.take(PLAN_BYTES));
    serde_json::from_reader(text).is_ok_and(|plan: Value| plan["kind"] == KIND)
}

fn parse(text: &str) -> anyhow::Result<Planned> {
    let mut plan: Value = serde_json::from_str(text).context("it is no JSON")?;
    if plan["kind"] != KIND {
        bail!("it is no plan of a migration");
    }
    if plan["schema"] != SCHEMA {
        let schema = &plan["schema"];
        bail!("it has version {schema}, and this program runs version {SCHEMA}");
    }
    let fields = plan.as_object_mut();
    let written = fields.and_then(|fields| fields.remove(DIGEST));
    if written != Some(Value::from(digest(&plan))) {
        bail!("it was edited, or is damaged: its digest is not the one of its content");
    }
    serde_json::from_value(plan).map_err(|error| anyhow!("it lacks something: {error}"))
}

/// Of the value itself, however it is laid out: fields are in the order of their names.
fn digest(plan: &Value) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(plan.to_string()) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Value {
        let args = super::super::args::parsed("migrate --to /t.cfg");
        let mut plan = json!({
            "kind": KIND,
            "schema": SCHEMA,
            "arguments": args.planned(Path::new("/t.cfg")).unwrap(),
            "facts": Facts::default(),
        });
        plan[DIGEST] = digest(&plan).into();
        plan
    }

    #[test]
    fn a_plan_is_read_however_it_is_laid_out() {
        assert!(parse(&plan().to_string()).is_ok());
        let pretty = serde_json::to_string_pretty(&plan()).unwrap();
        assert!(parse(&pretty).is_ok());
        let (first, rest) = pretty.split_once('\n').unwrap();
        let kind = format!("  \"kind\": \"{KIND}\",\n");
        let moved = format!("{first}\n{kind}{}", rest.replace(&kind, ""));
        assert!(parse(&moved).is_ok());
    }

    #[test]
    fn what_is_no_plan_as_it_was_written_is_refused() {
        let why = |plan: &Value| parse(&plan.to_string()).unwrap_err().to_string();
        let changed = |field: &str, value: Value| {
            let mut plan = plan();
            plan[field] = value;
            why(&plan)
        };
        assert!(changed("kind", json!("note")).contains("no plan"));
        assert!(changed("schema", json!(2)).contains("version 2"));
        assert!(changed("digest", json!("sha256:")).contains("edited"));
        assert!(changed("note", json!(1)).contains("edited"));
        let mut edited = plan();
        edited["arguments"]["workers"] = json!(9);
        assert!(why(&edited).contains("edited"));
        assert!(parse("[").is_err());
    }
}

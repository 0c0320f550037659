//! What is where the rows are to go, and whether it may make room for them.

use std::io::{self, IsTerminal, Write};

use anyhow::anyhow;

use super::{COUNTED, Terms, say, usage};
use crate::cmd::database;
use crate::cmd::exit::{Exit, Failure};
use crate::config::{Driver, MetadataConfig};
use crate::metadata::{self, MetadataError, Snapshot};

/// Makes sure that the target is empty, half filled by this command, or may be replaced. Gives
/// whether its tables are to be dropped before rows of `source` go there; nothing is changed here.
pub async fn is_to_be_cleared(
    target: &MetadataConfig,
    source: &MetadataConfig,
    terms: Terms,
) -> Result<bool, Failure> {
    let snapshot = match Snapshot::open(target).await {
        Ok(snapshot) => snapshot,
        Err(MetadataError::NotInitialised { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    match snapshot.refuse_half_migrated().await {
        // Whose half it is, the engine asks.
        Err(MetadataError::HalfMigrated { .. }) if target.driver == Driver::Postgres => {
            return Ok(false);
        }
        Err(MetadataError::HalfMigrated { .. }) => {}
        other => other?,
    }
    let tables = snapshot.layouts().await?;
    let mut counts = [0; 3];
    for (count, table) in counts.iter_mut().zip(COUNTED) {
        if tables.iter().any(|layout| layout.name == table) {
            *count = snapshot.count(table).await?;
        }
    }
    drop(snapshot);
    let [users, uploads, files] = counts;
    let is_empty = counts == [0; 3];
    // What was moved there before has lived on there, and the source has not.
    if let (false, Driver::Postgres, Some(moved)) =
        (is_empty, target.driver, database::moved(source)?)
    {
        return Err(moved_before(moved));
    }
    if !is_empty && !terms.overwrite {
        let error = anyhow!("the target already holds plikd data ({uploads} uploads)");
        return Err(
            Failure::new(Exit::Failed, error).with_hint("--overwrite replaces it".to_owned())
        );
    }
    // A file that is replaced is kept under another name, and only when the new one is complete.
    if let Some(path) = metadata::sqlite_path(target) {
        if terms.dry_run && !is_empty {
            say(&format!(
                "info: would keep {path} ({users} users, {uploads} uploads, {files} files) as \
                 {path}.bak-<time>",
                path = path.display()
            ));
        }
        return Ok(false);
    }
    if is_empty {
        return Ok(false);
    }
    if !terms.dry_run {
        confirm(target, uploads, terms.yes)?;
    }
    Ok(true)
}

/// The variable is set already, so nothing is left to do.
fn moved_before(moved: String) -> Failure {
    Failure::new(Exit::Failed, anyhow!("{moved} already, nothing was done")).with_hint(
        "start plikd (or, to go on with the old data, unset PLIKD_POSTGRES_URL and start plikd \
         --use-old-database)"
            .to_owned(),
    )
}

/// Asks before uploads are dropped for good.
fn confirm(target: &MetadataConfig, uploads: u64, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let place = metadata::announcement(target);
    if !io::stdin().is_terminal() {
        return Err(usage(format!(
            "--overwrite would drop {uploads} uploads from {place}, and nobody is there to confirm"
        ))
        .with_hint("add --yes".to_owned()));
    }
    let mut stderr = io::stderr().lock();
    let asked = write!(stderr, "Drop {uploads} uploads from {place}? [y/N] ");
    let mut answer = String::new();
    let answered = asked
        .and_then(|()| stderr.flush())
        .and_then(|()| io::stdin().read_line(&mut answer));
    match answered {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::new(
            Exit::Failed,
            anyhow!("not confirmed, nothing was dropped"),
        )),
    }
}

//! The arguments that a plan holds.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{DialectArgs, RunArgs};
use crate::model::Shard;

/// What decides what a migration does, whatever the directory in which it is run. What decides only
/// how fast it may go, and who is told, is not planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedArgs {
    to: PathBuf,
    metadata_only: bool,
    data_only: bool,
    sync: bool,
    delete: bool,
    yes: bool,
    shard: Option<Shard>,
    workers: NonZeroUsize,
    ignore_errors: bool,
    rejects: Option<PathBuf>,
    fix_orphans: bool,
    strip_nul: bool,
    no_verify: bool,
}

impl RunArgs {
    /// What a plan must hold of these arguments, given the configuration of the target.
    pub fn planned(&self, to: &Path) -> io::Result<PlannedArgs> {
        // Every argument is named, so that a new one cannot be forgotten.
        let Self {
            to: _,
            dialect,
            plan: _,
            plan_file: _,
            metadata_only,
            data_only,
            sync,
            delete,
            shard,
            workers,
            dry_run: _,
            ignore_errors,
            rejects,
            fix_orphans,
            strip_nul,
            no_verify,
            verbose: _,
            tell: _,
            retry: _,
            limits: _,
        } = self;
        Ok(PlannedArgs {
            to: std::path::absolute(to)?,
            metadata_only: *metadata_only,
            data_only: *data_only,
            sync: *sync,
            delete: *delete,
            yes: dialect.yes,
            shard: *shard,
            workers: *workers,
            ignore_errors: *ignore_errors,
            rejects: rejects.as_deref().map(std::path::absolute).transpose()?,
            fix_orphans: *fix_orphans,
            strip_nul: *strip_nul,
            no_verify: *no_verify,
        })
    }

    /// These arguments with what is planned.
    pub fn with_planned(self, planned: PlannedArgs) -> Self {
        let PlannedArgs {
            to,
            metadata_only,
            data_only,
            sync,
            delete,
            yes,
            shard,
            workers,
            ignore_errors,
            rejects,
            fix_orphans,
            strip_nul,
            no_verify,
        } = planned;
        let dialect = DialectArgs {
            yes,
            ..self.dialect
        };
        Self {
            to: Some(to),
            metadata_only,
            data_only,
            sync,
            delete,
            shard,
            workers,
            ignore_errors,
            rejects,
            fix_orphans,
            strip_nul,
            no_verify,
            dialect,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    #[test]
    fn what_is_planned_is_what_was_asked_for() {
        let asked = parse(
            "migrate --to /t.cfg --metadata-only --sync --delete --yes --workers 7 --ignore-errors --rejects /r \
             --fix-orphans --strip-nul --no-verify --plan p",
        );
        let asked = asked.unwrap().run;
        let planned = asked.planned(Path::new("/t.cfg")).unwrap();
        let run = parse("migrate --plan-file p").unwrap().run;
        let run = run.with_planned(planned.clone());
        assert_eq!(run.planned(Path::new("/t.cfg")).unwrap(), planned);
        assert_eq!(
            format!("{:?}", run.options()),
            format!("{:?}", asked.options())
        );
        assert_eq!(run.to, asked.to);
    }

    #[test]
    fn a_part_of_the_blobs_is_planned_too() {
        let asked = parse("migrate --to /t.cfg --shard 2/3").unwrap().run;
        let planned = asked.planned(Path::new("/t.cfg")).unwrap();
        let text = serde_json::to_string(&planned).unwrap();
        assert!(text.contains(r#""shard":"2/3""#), "{text}");
        assert_eq!(serde_json::from_str::<PlannedArgs>(&text).unwrap(), planned);
        for wrong in ["0/3", "4/3"] {
            let text = text.replace("2/3", wrong);
            assert!(serde_json::from_str::<PlannedArgs>(&text).is_err());
        }
    }

    #[test]
    fn paths_do_not_depend_on_the_directory() {
        let asked = parse("migrate --to t.cfg --ignore-errors --rejects r").unwrap();
        let planned = asked.run.planned(Path::new("t.cfg")).unwrap();
        assert!(planned.to.is_absolute());
        assert!(planned.rejects.is_some_and(|path| path.is_absolute()));
    }
}

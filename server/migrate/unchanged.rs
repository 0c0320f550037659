//! The files of a source that is followed, compared before anything changes in the target: those
//! that are as an earlier run left them need not be asked about one by one, and a source that has
//! lost most of them is not followed without a question.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::compare::{Comparison, Digests, Standing};
use super::error::MigrateError;
use super::limits::Limiter;
use super::metadata::not_compared;
use super::plan::Plan;
use crate::config::MetadataConfig;
use crate::metadata::{self, Layout, Loader, Rows, Snapshot};

/// So many files may go without a question, however few there are.
const FEW_FILES: u64 = 10;

/// Whether that is more than a living server loses between two runs.
pub(super) fn is_most(removed: u64, of: u64) -> bool {
    removed > FEW_FILES && removed > of / 2
}

/// Compares the files of both sides.
pub(super) struct FileLook<'a> {
    pub plan: &'a Plan,
    pub to: &'a MetadataConfig,
    pub with_blobs: bool,
    pub limiter: &'a Arc<Limiter>,
    pub cancel: &'a CancellationToken,
}

/// What was found, where the target has files.
pub(super) struct ComparedFiles {
    digests: Arc<Digests>,
    target: Snapshot,
    there: Layout,
}

impl ComparedFiles {
    /// Tells which rows are equal. `None` for a source with rows that cannot be compared, and for a
    /// target with fewer columns.
    pub fn unchanged(self, plan: &Plan) -> Option<Arc<Digests>> {
        let mut columns = plan.files()?.columns.iter();
        let has_all = columns.all(|column| self.there.position(&column.name).is_some());
        Some(self.digests).filter(|digests| has_all && digests.rejected == 0)
    }
}

impl FileLook<'_> {
    /// `None` before a first run.
    pub async fn compare(&self) -> Result<Option<ComparedFiles>, MigrateError> {
        let Some(files) = self.plan.files() else {
            return Ok(None);
        };
        let target = Snapshot::open(self.to).await?;
        let mut layouts = target.layouts().await?.into_iter();
        let Some(there) = layouts.find(|layout| layout.name == files.name) else {
            return Ok(None);
        };
        if target.count(&files.name).await? == 0 {
            return Ok(None);
        }
        let comparison = self.comparison(files, &target, &there, Rows::All);
        let digests = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(MigrateError::Interrupted),
            digests = comparison.digests() => digests?,
        };
        Ok(digests.map(Arc::new).map(|digests| ComparedFiles {
            digests,
            target,
            there,
        }))
    }

    /// # Errors
    ///
    /// [`MigrateError::MassRemoval`] if most of the files would go, because they came from the
    /// source and are gone from it.
    pub async fn refuse_mass_removal(
        &self,
        compared: &ComparedFiles,
        loader: &Loader,
    ) -> Result<(), MigrateError> {
        let digests = &compared.digests;
        // Where rows of the source cannot be brought, those of the target stay.
        let Some(files) = self.plan.files().filter(|_| digests.rejected == 0) else {
            return Ok(());
        };
        let source = self.plan.source.identity();
        let owned = match loader.owned(source, &files.name).await? {
            Some(owned) => digests.to.owned_of(&owned),
            None => {
                let left = loader.left_digest(source, &files.name).await?;
                digests.to.rows_of(&left.unwrap_or_default())
            }
        };
        // What the target has of its own must not hide that all the others would go.
        let of = digests.to.rows_in(&owned);
        if !is_most(digests.to.most_missing(&digests.from, &owned), of) {
            return Ok(());
        }
        let (target, there) = (&compared.target, &compared.there);
        let comparison = self.comparison(files, target, there, digests.differing());
        let mut removed = 0;
        let counted = comparison.run(|row| {
            if let Ok(row) = row
                && row.standing == Standing::Extra
                && owned.holds(row.row())
            {
                removed += 1;
            }
        });
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(MigrateError::Interrupted),
            counted = counted => counted?,
        }
        match is_most(removed, of) {
            true => Err(MigrateError::MassRemoval {
                removed,
                of,
                place: metadata::name_of(self.to),
            }),
            false => Ok(()),
        }
    }

    fn comparison<'s>(
        &'s self,
        files: &'s Layout,
        target: &'s Snapshot,
        there: &'s Layout,
        rows: Rows,
    ) -> Comparison<'s> {
        Comparison {
            from: &self.plan.source,
            driver: target.driver(),
            to: Some((target, there)),
            layout: files,
            not_compared: not_compared(files, self.with_blobs),
            rows,
            limiter: self.limiter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_is_more_than_a_half_and_more_than_a_few() {
        assert!(!is_most(10, 10) && is_most(11, 11));
        assert!(is_most(11, 21) && !is_most(11, 22) && is_most(12, 22));
        assert!(!is_most(0, 0) && is_most(1_000_000, 1_000_000));
    }
}

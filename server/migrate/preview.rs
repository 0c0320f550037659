//! A dry run: what a migration would do, without writing anything anywhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use super::blob::BlobRow;
use super::compare::{Compared, Comparison, Standing};
use super::data::BlobRows;
use super::error::{MigrateError, explain};
use super::known::{self, Known, Md5};
use super::limits::Limiter;
use super::lint::Lint;
use super::metadata::not_compared;
use super::plan::Plan;
use super::progress::{Action, Event, Progress};
use super::removal::promised_blob;
use super::replacement;
use super::report::{BlobReport, Preview, StatusReport, TableReport};
use super::{Endpoint, Mode, Options};
use crate::config::Driver;
use crate::data::{self, Access, DataBackend, DataError};
use crate::metadata::{Layout, MetadataError, Owned, Rows, Snapshot, Tally};
use crate::model::FileStatus;

/// Looks at everything that [`super::run()`] would copy.
///
/// # Errors
///
/// [`MigrateError::Preflight`] with every problem that would keep the run from starting.
pub async fn preview(
    from: Endpoint<'_>,
    to: Endpoint<'_>,
    options: Options<'_>,
    limiter: &Arc<Limiter>,
    progress: &Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<Preview, MigrateError> {
    let mut note = |_| ();
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(MigrateError::Interrupted),
        looked = look(from, to, options, limiter, progress, cancel, &mut note) => {
            looked.map(|(_, preview)| preview)
        }
    }
}

/// Also gives what the ends are, and tells `note` the bytes of each blob that is to be copied.
pub(super) async fn look(
    from: Endpoint<'_>,
    to: Endpoint<'_>,
    options: Options<'_>,
    limiter: &Arc<Limiter>,
    progress: &Arc<dyn Progress>,
    cancel: &CancellationToken,
    note: &mut (dyn FnMut(u64) + Send),
) -> Result<(Plan, Preview), MigrateError> {
    let tuning = limiter.tuning();
    let mut plan = Plan::make(from, to, options, &tuning, progress.as_ref()).await?;
    let options = Options {
        mode: plan.mode,
        removes_most: options.removes_most || plan.in_parts,
        ..options
    };
    let mut preview = Preview {
        omitted: plan.omitted.clone(),
        ..Preview::default()
    };
    if options.halves.has_metadata() {
        let lint = Lint {
            to: to.metadata.driver,
            options,
            rejects: None,
            limiter,
            progress: progress.as_ref(),
            cancel,
        };
        preview.lint = lint.run(&mut plan).await?;
    }
    if options.halves.has_data()
        && let (Some(from), Some(files)) = (&plan.from_data, plan.files())
    {
        let to = data::open_with(to.data, Access::Probe, tuning).await?;
        let look = BlobLook {
            from,
            to: &to,
            here: Known::of(from.as_ref(), plan.blobs.blobs, options.shard).await?,
            there: Known::of(to.as_ref(), plan.blobs.blobs, options.shard).await?,
            can_ask: !plan.to_keeps_keys,
            progress,
        };
        let (blobs, statuses) = look.at_all(&plan.source, files, options, note).await?;
        preview.blobs = Some(blobs);
        preview.statuses = statuses;
    }
    if options.halves.has_metadata() {
        let mut target = match Snapshot::open(to.metadata).await {
            Ok(target) => Some(target),
            Err(MetadataError::NotInitialised { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if options.replace.is_some()
            && let Some(target) = target.take()
        {
            replacement::preview(&target, progress.as_ref()).await?;
        }
        let look = RowLook {
            plan: &plan,
            target: target.as_ref(),
            driver: to.metadata.driver,
            options,
            limiter,
            progress: progress.as_ref(),
        };
        for layout in &plan.layouts {
            let looked = look
                .at(layout, preview.may_delete_from(&layout.name))
                .await?;
            if layout.name == "files" {
                (preview.files_owned, preview.files_gone) = (looked.owned, looked.gone);
            }
            preview.tables.push(looked.table);
            if let Some(report) = &mut preview.blobs {
                report.deleted += looked.blobs;
            }
        }
    }
    plan.tell_checks(progress.as_ref());
    preview.prospect = preview.prospect(options);
    Ok((plan, preview))
}

/// What was found in one table.
struct Looked {
    table: TableReport,
    /// Rows of the target that came from the source, if any of them may go …
    owned: u64,
    /// … and those of them that are gone from it, whatever becomes of them.
    gone: u64,
    /// Blobs that go with rows.
    blobs: u64,
}

/// Compares the rows of both sides.
struct RowLook<'a> {
    plan: &'a Plan,
    /// `None` for a database that does not exist yet.
    target: Option<&'a Snapshot>,
    driver: Driver,
    options: Options<'a>,
    limiter: &'a Arc<Limiter>,
    progress: &'a dyn Progress,
}

impl RowLook<'_> {
    /// Without `may_delete` all rows that only the target has stay.
    async fn at(&self, layout: &Layout, may_delete: bool) -> Result<Looked, MigrateError> {
        let progress = self.progress;
        let part = Rows::of_shard(self.options.shard);
        let rows = part.share_of(self.plan.source.count(&layout.name).await?);
        progress.on(Event::TableBegin {
            table: &layout.name,
            rows,
        });
        let mut there = match self.target {
            Some(target) => target
                .layouts()
                .await?
                .into_iter()
                .find(|found| found.name == layout.name),
            None => None,
        };
        if let (Some(target), Some(there)) = (self.target, &mut there)
            && target.is_apart().await?
        {
            there.take_key_of(layout);
        }
        let comparison = Comparison {
            from: &self.plan.source,
            driver: self.driver,
            to: self.target.zip(there.as_ref()),
            layout,
            not_compared: not_compared(layout, self.options.halves.has_data()),
            rows: part,
            limiter: self.limiter,
        };
        let deletes = self.options.mode == Mode::Sync { delete: true };
        let (owned, owned_rows) = match self.target {
            Some(target) if deletes => self.owned(&comparison, target).await?.unzip(),
            _ => (None, None),
        };
        let (mut tally, mut extra) = (Tally::default(), 0);
        let (mut gone, mut blobs) = (0, 0);
        let what = layout.name.as_str();
        comparison
            .run(|row| {
                let owned = owned.as_ref().zip(row.as_ref().ok());
                let is_owned = owned
                    .is_some_and(|(owned, row)| owned.holds(row.row()) && !row.replaces_rejected());
                if is_owned && let Ok(row) = &row {
                    gone += u64::from(row.standing == Standing::Extra);
                    blobs += self.tell_lost_blob(layout, row, may_delete);
                }
                let (count, action) = match &row {
                    Ok(row) => match row.standing {
                        Standing::Missing => (&mut tally.copied, Action::Copy),
                        Standing::Equal => (&mut tally.present, Action::Keep),
                        Standing::Different => match self.options.mode {
                            Mode::Copy => (&mut tally.conflicts, Action::Conflict),
                            Mode::Sync { .. } => (&mut tally.updated, Action::Update),
                        },
                        Standing::Extra if is_owned && may_delete => {
                            (&mut tally.deleted, Action::Delete)
                        }
                        Standing::Extra => (&mut extra, Action::Extra),
                    },
                    Err(_) => (&mut tally.failed, Action::Reject),
                };
                *count += 1;
                let is_extra = matches!(action, Action::Extra | Action::Delete);
                match row {
                    Ok(row) => progress.on(Event::Would {
                        action,
                        what,
                        key: &row.key(),
                        detail: match (action, row.why_extra()) {
                            (Action::Extra, Some(reason)) => reason,
                            (Action::Extra, None) if deletes && may_delete => {
                                "it stays: where it came from cannot be told"
                            }
                            (Action::Extra, None) if deletes => {
                                "it stays: a row of this table cannot be brought"
                            }
                            _ => "",
                        },
                        fix: None,
                    }),
                    Err(reject) => progress.on(Event::Would {
                        action,
                        what,
                        key: &reject.key,
                        detail: &reject.reason,
                        fix: reject.fix().as_deref(),
                    }),
                }
                // The others are none of the rows that were announced.
                if !is_extra {
                    progress.on(Event::Rows {
                        table: what,
                        rows: 1,
                    });
                }
            })
            .await?;
        progress.on(Event::TableEnd { table: what });
        let table = TableReport {
            table: layout.name.clone(),
            rows: tally,
            extra,
            proof: None,
        };
        Ok(Looked {
            table,
            owned: owned_rows.unwrap_or_default(),
            gone,
            blobs,
        })
    }

    /// Which rows of the target came from the source, as a run would find it, and how many.
    async fn owned(
        &self,
        comparison: &Comparison<'_>,
        target: &Snapshot,
    ) -> Result<Option<(Owned, u64)>, MigrateError> {
        let Some(digests) = comparison.digests().await? else {
            return Ok(None);
        };
        let (source, table) = (self.plan.source.identity(), &comparison.layout.name);
        let owned = match target.owned(source, table).await? {
            Some(owned) => digests.to.owned_of(&owned),
            None if self.plan.in_parts => digests.to.owned_of(&Owned::all()),
            None => {
                let left = target.left_digest(source, table).await?;
                digests.to.rows_of(&left.unwrap_or_default())
            }
        };
        let rows = digests.to.rows_in(&owned);
        Ok(Some((owned, rows)))
    }

    /// The blob that goes with a row of the target, or with what the row promises: 1 if there is
    /// one.
    fn tell_lost_blob(&self, layout: &Layout, row: &Compared<'_>, may_delete: bool) -> u64 {
        if !self.options.halves.has_data() {
            return 0;
        }
        let encoding = self.plan.source.encoding_for(self.driver);
        let promised = |row| promised_blob(layout, encoding, row);
        let lost = match row.standing {
            Standing::Extra if may_delete => promised(row.row()),
            Standing::Different if promised(row.row()).is_none() => row.other().and_then(promised),
            _ => None,
        };
        if let Some(file) = &lost {
            self.progress.on(Event::Would {
                action: Action::Delete,
                what: "blob",
                key: &file.file_id,
                detail: "",
                fix: None,
            });
        }
        lost.map_or(0, |_| 1)
    }
}

/// Lists the blobs of both data backends, asks about those that a list does not tell, reads none.
struct BlobLook<'a> {
    from: &'a Arc<dyn DataBackend>,
    to: &'a Arc<dyn DataBackend>,
    here: Known,
    there: Known,
    /// Blobs of the target can be asked about without a key from its rows.
    can_ask: bool,
    progress: &'a Arc<dyn Progress>,
}

impl BlobLook<'_> {
    async fn at_all(
        &self,
        files: &Snapshot,
        layout: &Layout,
        options: Options<'_>,
        note: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(BlobReport, Vec<StatusReport>), MigrateError> {
        let mut report = BlobReport::default();
        let mut statuses: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
        let mut rows = BlobRows::all(files, layout).of_shard(options.shard);
        while let Some(batch) = rows.next().await? {
            for row in &batch {
                let counts = statuses.entry(row.status.as_str()).or_default();
                counts.0 += 1;
                counts.1 += row.announced_bytes();
            }
            let looks = batch
                .iter()
                .filter(|row| row.status.has_blob())
                .map(|row| self.at(row));
            let looks = futures::stream::iter(looks).buffer_unordered(options.workers.get());
            let found: Vec<(Action, u64)> = looks.try_collect().await?;
            for (action, bytes) in found {
                match action {
                    Action::Copy => {
                        report.copied += 1;
                        report.bytes += bytes;
                        note(bytes);
                    }
                    Action::Keep => report.present += 1,
                    Action::Skip => report.skipped += 1,
                    Action::Conflict | Action::Reject => report.failed += 1,
                    Action::Extra | Action::Update | Action::Delete => {}
                }
            }
        }
        let statuses = FileStatus::ALL.into_iter().filter_map(|status| {
            let (files, bytes) = *statuses.get(status.as_str())?;
            Some(StatusReport {
                status: status.as_str().to_owned(),
                files,
                bytes,
            })
        });
        Ok((report, statuses.collect()))
    }

    async fn at(&self, row: &BlobRow) -> Result<(Action, u64), MigrateError> {
        let (action, mut detail) = match self.look(row).await {
            Ok((action, detail)) => (action, detail.to_owned()),
            Err(error) if error.is_fatal() => return Err(error.into()),
            Err(error) => match row.status {
                FileStatus::Removed => (Action::Skip, explain(&error)),
                _ => (Action::Reject, explain(&error)),
            },
        };
        if action == Action::Reject
            && let Some(place) = self.from.place(&row.blob())
        {
            detail += &format!(" ({place})");
        }
        self.progress.on(Event::Would {
            action,
            what: "blob",
            key: &row.file_id,
            detail: &detail,
            fix: None,
        });
        Ok((action, row.announced_bytes()))
    }

    async fn look(&self, row: &BlobRow) -> Result<(Action, &'static str), DataError> {
        // Only asking tells whether an encrypted blob has the key of its row.
        let is_listed = matches!(self.here.in_listing(row), known::InListing::Found(_));
        if is_listed && row.details.sse_key().is_none() {
            return Ok(match self.is_there(row).await? {
                true => (Action::Keep, ""),
                false => (Action::Copy, ""),
            });
        }
        Ok(match self.from.stat(&row.blob()).await? {
            None if row.status == FileStatus::Removed => (Action::Skip, "its bytes are gone"),
            None => (Action::Reject, "its bytes are missing"),
            Some(stat) if !row.may_have(stat.size_bytes) => {
                (Action::Reject, "it has another size than its row says")
            }
            Some(_) if self.is_there(row).await? => (Action::Keep, ""),
            Some(_) => (Action::Copy, ""),
        })
    }

    /// By name and size: a dry run reads no bytes, so a digest counts only where one is kept.
    async fn is_there(&self, row: &BlobRow) -> Result<bool, DataError> {
        if !self.can_ask {
            return Ok(false);
        }
        match self.there.in_listing(row) {
            known::InListing::Absent | known::InListing::Different => return Ok(false),
            known::InListing::Found(Md5::Same | Md5::Untold) => return Ok(true),
            known::InListing::Found(Md5::Other) | known::InListing::Unknown => {}
        }
        let blob = data::BlobRef {
            details: crate::model::BackendDetails::default(),
            ..row.blob()
        };
        let stat = self.to.stat(&blob).await?;
        Ok(stat.is_some_and(|stat| {
            row.may_have(stat.size_bytes) && (stat.md5.is_none() || stat.md5 == row.md5)
        }))
    }
}

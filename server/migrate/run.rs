//! One attempt of a migration: what is done in which order, and with what.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::census::Census;
use super::compare::Digests;
use super::data::past::Left;
use super::data::{BlobCopy, Earlier, LivingRows};
use super::error::MigrateError;
use super::gate::Gate;
use super::guard::Guard;
use super::known::Known;
use super::limits::Limited;
use super::limits::Limiter;
use super::lint::Lint;
use super::lint::{Effect, LintReport};
use super::metadata::{RowCopy, Table};
use super::outlook::BlobTotals;
use super::plan::Plan;
use super::progress::{Event, Progress, Quiet};
use super::rejects::RejectsFile;
use super::removal::BlobRemoval;
use super::replacement::Replacement;
use super::report::{BlobReport, FileStates, Report, TableReport};
use super::target::{Opening, Target};
use super::unchanged::FileLook;
use super::verify::EndCheck;
use super::{Endpoint, Halves, Mode, Options, uploads};
use crate::data::buffers::Buffers;
use crate::data::{DataBackend, DataError, Location, Tuning};
use crate::metadata::{Loader, OnReject, RunRecord, Snapshot, is_same_file};
use crate::model::{Timestamp, id};

/// What all blobs on their way may take of the memory, whatever `workers` and the size of parts
/// are: room for a few parts of each of the workers by default. One part larger than that goes
/// alone.
const BLOB_MEMORY_BYTES: usize = 128 << 20;

/// What all attempts of a run share.
pub(super) struct Run<'a> {
    from: Endpoint<'a>,
    pub(super) to: Endpoint<'a>,
    options: Options<'a>,
    limiter: &'a Arc<Limiter>,
    progress: &'a Arc<dyn Progress>,
    pub(super) cancel: &'a CancellationToken,
    gate: Arc<Gate>,
    earlier: Arc<Earlier>,
    /// Set once the ends were compared with the plan: later attempts find what this run changed.
    is_as_planned: OnceLock<()>,
    pub(super) guard: Guard,
}

impl<'a> Run<'a> {
    pub fn new(
        from: Endpoint<'a>,
        to: Endpoint<'a>,
        options: Options<'a>,
        limiter: &'a Arc<Limiter>,
        progress: &'a Arc<dyn Progress>,
        cancel: &'a CancellationToken,
    ) -> Self {
        Self {
            from,
            to,
            options,
            limiter,
            progress,
            cancel,
            gate: Arc::new(Gate::new(options.workers.get())),
            earlier: Arc::default(),
            is_as_planned: OnceLock::new(),
            guard: Guard::default(),
        }
    }

    /// Goes through all steps once, from the checks to the proof, as long as nobody else can have
    /// the target. With `again` this is not the first attempt.
    pub async fn attempt(&self, again: bool) -> Result<Report, MigrateError> {
        self.guard.leave();
        tokio::select! {
            biased;
            done = self.all_steps(again) => done,
            error = self.guard.is_taken_away() => Err(error.into()),
        }
    }

    async fn all_steps(&self, again: bool) -> Result<Report, MigrateError> {
        let (started, started_at) = (Instant::now(), Timestamp::now());
        let tuning = Tuning {
            tries_once: true,
            ..self.limiter.tuning()
        };
        // What was checked is told once; an attempt that cannot start is told by its reason.
        let told: &dyn Progress = match again {
            true => &Quiet,
            false => self.progress.as_ref(),
        };
        if !is_same_file(self.from.metadata, self.to.metadata) {
            Loader::recover(self.to.metadata).await;
        }
        let mut plan = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(MigrateError::Interrupted),
            plan = Plan::make(self.from, self.to, self.options, &tuning, told) => plan?,
        };
        plan.tell_checks(told);
        if let Some(facts) = self.options.expected
            && self.is_as_planned.get().is_none()
        {
            facts.check(&plan, self.to, self.options).await?;
            self.is_as_planned.get_or_init(|| ());
        }
        let mut rejects = self
            .options
            .rejects
            .map(|path| RejectsFile::open(path, &plan.source, &plan.layouts))
            .transpose()?;
        let lint = self.lint(&mut plan, rejects.as_mut()).await?;
        if let Some(replacement) = self.options.replace {
            self.make_room(replacement).await?;
        }
        let opening = Opening {
            plan: &plan,
            to: self.to,
            tuning: &tuning,
            shard: self.options.shard,
            progress: (!again).then_some(self.progress.as_ref()),
            cancel: self.cancel,
            guard: &self.guard,
        };
        let mut target = opening.open().await?;
        self.refuse_what_came_since(&plan).await?;
        let mut files = None;
        if let Some(loader) = &target.loader {
            files = self.compare_files(&plan, loader).await?;
            loader.begin(plan.source.identity()).await?;
        }
        let mut report = Report {
            shard: self.options.shard,
            lint,
            omitted: plan.omitted.clone(),
            source_is_served: plan.source_is_served,
            ..Report::default()
        };
        if self.options.halves.has_data() {
            report.blobs = Some(self.copy_blobs(&plan, &mut target, files.clone()).await?);
        }
        if self.options.halves.has_metadata() {
            let rejects = rejects.as_mut();
            report.tables = match (self.options.shard, &mut target.loader) {
                (Some(shard), _) => self.copy_part(&plan, shard, rejects).await?,
                (None, Some(loader)) => {
                    self.copy_rows(&plan, loader, rejects, files, again).await?
                }
                (None, None) => Vec::new(),
            };
        }
        if let Some(blobs) = &mut report.blobs
            && plan.mode == (Mode::Sync { delete: true })
        {
            blobs.deleted = self.remove_blobs(&plan, &target).await?;
        }
        report.files = self.census(&plan, &target, &report).await?;
        report.elapsed = started.elapsed();
        if let Some(loader) = target.loader {
            let run = record(&plan, &report, started_at, self.options.halves);
            loader.finish(&run, &plan.foreign_versions).await?;
            loader.close().await;
        }
        Ok(report)
    }

    /// Others may have used the target between the checks and the lock.
    async fn refuse_what_came_since(&self, plan: &Plan) -> Result<(), MigrateError> {
        if !self.options.halves.has_metadata() || self.options.shard.is_some() {
            return Ok(());
        }
        let target = Snapshot::open(self.to.metadata).await?;
        let source = plan.source.identity();
        target.refuse_other_migration(source).await?;
        // What is there now is brought in another way, which the next attempt takes.
        let since = match (plan.in_parts, target.has_parts_of(source).await?) {
            (false, true) => "rows have come in parts since",
            (true, false) => "its keys have refused the rows that came in parts, so all come again",
            _ => return Ok(()),
        };
        Err(target.changed_meanwhile(since).into())
    }

    /// How the files of a source that is followed stand before anything is written, if that tells
    /// which of them are unchanged.
    async fn compare_files(
        &self,
        plan: &Plan,
        loader: &Loader,
    ) -> Result<Option<Arc<Digests>>, MigrateError> {
        let Mode::Sync { delete } = self.options.mode else {
            return Ok(None);
        };
        // Rows that came in parts may yet be withdrawn, and nobody has used them.
        if !self.options.halves.has_metadata() || plan.in_parts {
            return Ok(None);
        }
        let look = FileLook {
            plan,
            to: self.to.metadata,
            with_blobs: self.options.halves.has_data(),
            limiter: self.limiter,
            cancel: self.cancel,
        };
        let Some(compared) = look.compare().await? else {
            return Ok(None);
        };
        if delete && !self.options.removes_most {
            look.refuse_mass_removal(&compared, loader).await?;
        }
        Ok(compared.unchanged(plan))
    }

    /// What the target holds is gone for good after this, so a request to stop is heard before it.
    async fn make_room(&self, replacement: &Replacement) -> Result<(), MigrateError> {
        match self.cancel.is_cancelled() {
            true => Err(MigrateError::Interrupted),
            false => {
                let progress = self.progress.as_ref();
                replacement.make_room(self.to.metadata, progress).await
            }
        }
    }

    /// Looks at the rows, if there are any to copy.
    async fn lint(
        &self,
        plan: &mut Plan,
        rejects: Option<&mut RejectsFile>,
    ) -> Result<LintReport, MigrateError> {
        if !self.options.halves.has_metadata() {
            return Ok(LintReport::default());
        }
        let lint = Lint {
            to: self.to.metadata.driver,
            options: self.options,
            rejects,
            limiter: self.limiter,
            progress: self.progress.as_ref(),
            cancel: self.cancel,
        };
        let found = lint.run(plan).await?;
        match found.rows(Effect::Rejected) > 0 && !self.options.ignore_errors {
            true => Err(MigrateError::Unfit(Box::new(found))),
            false => Ok(found),
        }
    }

    async fn copy_blobs(
        &self,
        plan: &Plan,
        target: &mut Target,
        compared: Option<Arc<Digests>>,
    ) -> Result<BlobReport, MigrateError> {
        let (Some(from), Some(to), Some(files)) = (&plan.from_data, &target.data, plan.files())
        else {
            return Ok(BlobReport::default());
        };
        let BlobTotals { blobs, bytes } = plan.blobs;
        self.progress.on(Event::BlobsBegin { blobs, bytes });
        let limited = |backend: &Arc<dyn DataBackend>| -> Arc<dyn DataBackend> {
            Arc::new(Limited::new(Arc::clone(backend), self.limiter))
        };
        let known = match plan.to_is_absent {
            true => Known::empty(),
            false => tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(MigrateError::Interrupted),
                known = Known::of(to.as_ref(), blobs, self.options.shard) => known?,
            },
        };
        let held = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(MigrateError::Interrupted),
            held = self.held(plan, to.as_ref()) => held?,
        };
        let loader = target.loader.as_ref();
        let source = plan.source.identity();
        let uploads = loader.map(|loader| loader.upload_log(source, &to.to_string()));
        let place = self.place_of_blobs();
        let left = match (loader, compared) {
            (Some(loader), Some(files)) => Left::find(loader, source, &place, files).await?,
            _ => None,
        };
        if let Some(loader) = loader {
            loader.forget_proofs_of_others(source).await?;
        }
        let copy = BlobCopy {
            from: limited(from),
            to: limited(to),
            source: LivingRows::new(self.from.metadata),
            known: Arc::new(known),
            held: Arc::new(held),
            to_keeps_keys: plan.to_keeps_keys,
            shard: self.options.shard,
            left: left.map(Arc::new),
            notes: loader.map(|loader| loader.blob_notes(source, &place)),
            place,
            workers: self.options.workers,
            replace: plan.mode != Mode::Copy,
            buffers: Buffers::new(BLOB_MEMORY_BYTES),
            uploads: uploads.clone(),
            ignore_errors: self.options.ignore_errors,
            retry: self.options.retry,
            gate: Arc::clone(&self.gate),
            earlier: Arc::clone(&self.earlier),
            progress: Arc::clone(self.progress),
            cancel: self.cancel.clone(),
        };
        let copied = copy.run(&plan.source, files, target.loader.as_mut()).await;
        to.close().await;
        if let (Ok(_), Some(uploads)) = (&copied, &uploads) {
            uploads::give_up_all(uploads, to.as_ref()).await?;
        }
        copied
    }

    /// What the source's store has of the blobs, if `to` may have that store copy them by itself.
    async fn held(&self, plan: &Plan, to: &dyn DataBackend) -> Result<Known, MigrateError> {
        let may_copy = plan.origin().is_some_and(|origin| to.may_copy(&origin));
        let Some(from) = plan.from_data.as_ref().filter(|_| may_copy) else {
            return Ok(Known::default());
        };
        match Known::of(from.as_ref(), plan.blobs.blobs, self.options.shard).await {
            // Who may read blobs need not be allowed to list them.
            Err(DataError::Denied { .. }) => Ok(Known::default()),
            held => Ok(held?),
        }
    }

    /// What became of each file, if there was anything to become of both of its halves.
    async fn census(
        &self,
        plan: &Plan,
        target: &Target,
        report: &Report,
    ) -> Result<Option<FileStates>, MigrateError> {
        let (Some(loader), Some(files)) = (&target.loader, plan.files()) else {
            return Ok(None);
        };
        let census = Census {
            source: &plan.source,
            files,
            to: self.to.metadata,
            loader,
            source_now: LivingRows::new(self.from.metadata),
            limiter: self.limiter,
            cancel: self.cancel,
        };
        census.take(report).await
    }

    /// Removes the blobs whose files are gone from the source, and gives their number.
    async fn remove_blobs(&self, plan: &Plan, target: &Target) -> Result<u64, MigrateError> {
        let (Some(loader), Some(to)) = (&target.loader, &target.data) else {
            return Ok(0);
        };
        let removal = BlobRemoval {
            loader,
            to: to.as_ref(),
            source: plan.source.identity(),
            living: LivingRows::new(self.from.metadata),
            place: &self.place_of_blobs(),
            progress: self.progress.as_ref(),
            cancel: self.cancel,
        };
        removal.run().await
    }

    /// The target's directory or bucket, by a name that does not depend on its spelling.
    pub(super) fn place_of_blobs(&self) -> String {
        Location::of(self.to.data).map_or_else(|_| String::new(), |place| place.key())
    }

    /// What copies the rows, or a part of them; nothing is known of their blobs yet.
    pub(super) fn row_copy<'b>(
        &'b self,
        plan: &'b Plan,
        loader: &'b mut Loader,
        rejects: Option<&'b mut RejectsFile>,
        place_of_blobs: &'b str,
    ) -> RowCopy<'b> {
        RowCopy {
            from: &plan.source,
            to: loader,
            on_reject: match self.options.ignore_errors {
                true => OnReject::Continue,
                false => OnReject::Stop,
            },
            rejects,
            with_blobs: self.options.halves.has_data(),
            has_blob_notes: false,
            files: None,
            shard: None,
            fresh: HashMap::new(),
            left: HashMap::new(),
            reads_back: false,
            target: self.to.metadata,
            place_of_blobs,
            limiter: self.limiter,
            progress: self.progress.as_ref(),
            cancel: self.cancel,
        }
    }

    async fn copy_rows(
        &self,
        plan: &Plan,
        loader: &mut Loader,
        rejects: Option<&mut RejectsFile>,
        files: Option<Arc<Digests>>,
        again: bool,
    ) -> Result<Vec<TableReport>, MigrateError> {
        let source = plan.source.identity();
        let targets = loader.adopt(&plan.layouts, plan.source.driver()).await?;
        let pairs = Table::pairs(&plan.layouts, targets);
        loader.drop_empty_counters().await?;
        let in_parts = loader.tables_in_parts().await?;
        let with_blobs = self.options.halves.has_data();
        let has_blob_notes = with_blobs && loader.has_blob_notes(source).await?;
        if has_blob_notes && !in_parts.is_empty() {
            loader.withdraw_promises(source).await?;
        }
        let place_of_blobs = self.place_of_blobs();
        let mut copy = self.row_copy(plan, loader, rejects, &place_of_blobs);
        copy.has_blob_notes = has_blob_notes;
        copy.files = files;
        copy.reads_back = self.options.verify || again;
        copy.own_tables(&pairs, &in_parts).await?;
        let mut tables = match plan.mode {
            Mode::Copy => copy.run(&pairs, false).await?,
            Mode::Sync { delete } => copy.sync(&pairs, delete).await?,
        };
        // A further attempt reads another moment of the source than the checkpoints of the one
        // before come from, so it is checked whatever was asked for.
        if copy.reads_back {
            let check = EndCheck {
                plan,
                to: self.to.metadata,
                with_blobs,
                limiter: self.limiter,
                progress: self.progress.as_ref(),
                cancel: self.cancel,
            };
            self.progress.on(Event::VerifyBegin);
            let found = check.difference(&mut tables, &mut copy.left).await?;
            match (found, plan.mode) {
                (None, _) => {}
                (Some(found), Mode::Sync { .. }) => return Err(found),
                (Some(_), Mode::Copy) => {
                    // A run that was resumed on a source that lives on has passed over rows that
                    // are new before the cursor of its checkpoint; a run from the start finds them.
                    copy.left.clear();
                    tables = copy.run(&pairs, true).await?;
                    let found = check.difference(&mut tables, &mut copy.left).await?;
                    found.map_or(Ok(()), Err)?;
                }
            }
        }
        copy.leave_digests().await?;
        loader.advance_sequences(&plan.layouts).await?;
        if plan.lacks_counters {
            loader.count_usage().await?;
        }
        Ok(tables)
    }
}

/// What the target remembers of the run.
fn record(plan: &Plan, report: &Report, started_at: Timestamp, halves: Halves) -> RunRecord {
    let tables: serde_json::Map<String, serde_json::Value> = report
        .tables
        .iter()
        .map(|table| {
            let rows = table.rows;
            let counts = serde_json::json!({
                "copied": rows.copied,
                "present": rows.present,
                "conflicts": rows.conflicts,
                "failed": rows.failed,
                "updated": rows.updated,
                "deleted": rows.deleted,
                "target_rows": table.proof.as_ref().map(|proof| proof.target.rows),
                "digest": table.proof.as_ref().map(|proof| &proof.target.digest),
            });
            (table.table.clone(), counts)
        })
        .collect();
    let blobs = report.blobs.map(|blobs| {
        serde_json::json!({
            "copied": blobs.copied,
            "copied_by_store": blobs.copied_by_store,
            "present": blobs.present,
            "skipped": blobs.skipped,
            "failed": blobs.failed,
            "deleted": blobs.deleted,
            "bytes": blobs.bytes,
        })
    });
    RunRecord {
        id: id::alphanumeric(id::ID_LENGTH, &mut rand::rng()),
        source: plan.source.identity().clone(),
        started_at,
        finished_at: Timestamp::now(),
        summary: serde_json::json!({ "tables": tables, "blobs": blobs }).to_string(),
        has_rows: halves.has_metadata(),
        both_halves: halves == Halves::Both,
    }
}

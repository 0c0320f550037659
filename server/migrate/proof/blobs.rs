//! The blobs: for each file whether both sides have its bytes, and whether they are its bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::{StreamExt, TryStreamExt};

use super::odd::{OddRows, Oddity};
use super::report::{FileNames, FileState, FileVerdict};
use super::strays::StrayCheck;
use super::{LOOKED_AT_AGAIN, PAUSES, VerifyOptions};
use crate::data::digest::hashed;
use crate::data::{BlobRef, DataBackend, DataError};
use crate::metadata::{Layout, Snapshot};
use crate::migrate::blob::BlobRow;
use crate::migrate::data::{BlobRows, LivingRows};
use crate::migrate::error::{MigrateError, Side, explain};
use crate::migrate::known::{InListing, Known, Md5};
use crate::migrate::places::BlobPlaces;
use crate::migrate::progress::{Event, Progress};
use crate::model::{BackendDetails, FileStatus};

/// Compares the blobs of two data backends with the rows, and with each other.
pub(super) struct BlobCheck {
    pub from: Arc<dyn DataBackend>,
    pub to: Arc<dyn DataBackend>,
    /// The target encrypts each blob with a key of its own, kept in the file's row.
    pub to_keeps_keys: bool,
    pub source: LivingRows,
    /// The rows that name the target's blobs.
    pub names_blobs: LivingRows,
    pub options: VerifyOptions,
    pub progress: Arc<dyn Progress>,
    pub seen: Seen,
}

/// On which sides any blob was found, right or wrong.
#[derive(Default)]
pub(super) struct Seen {
    from: AtomicBool,
    to: AtomicBool,
}

/// A file of the source, and what the target's row says.
struct FilePair {
    row: BlobRow,
    there: TargetRow,
    /// In what way the rows are not equal.
    oddity: Option<Oddity>,
    /// Where its blob is at fault.
    places: BlobPlaces,
}

enum TargetRow {
    /// The rows of the target are not compared.
    NotAsked,
    Absent,
    Present(BackendDetails),
}

/// Both sides' blobs when the verification began.
struct Lists {
    from: Known,
    to: Known,
    /// They tell how a blob is. Who reads all blobs lists the target all the same, for those that
    /// no row names.
    tell: bool,
}

/// How a blob is on one side.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    /// As its row says, as far as was asked; with its MD5 if its bytes were read.
    Good(Option<[u8; 16]>),
    Missing,
    Wrong(String),
}

impl BlobCheck {
    pub async fn run(
        &self,
        source: &Snapshot,
        files: &Layout,
        target: Option<&Snapshot>,
        mut odd: OddRows,
    ) -> Result<FileVerdict, MigrateError> {
        let (blobs, bytes) = source.blob_totals().await?;
        self.progress.on(Event::BlobsBegin { blobs, bytes });
        let mut verdict = FileVerdict {
            bytes,
            deep: self.options.deep,
            ..FileVerdict::default()
        };
        let mut lists = self.list(blobs).await?;
        let mut rows = BlobRows::with_blob(source, files);
        let mut there = TargetRows::open(target).await?;
        let mut suspects = Vec::new();
        while let Some(batch) = rows.next().await? {
            let mut pairs = Vec::with_capacity(batch.len());
            for row in batch {
                lists.to.name(&row);
                let there = there.of(&row.file_id, &mut lists.to).await?;
                let oddity = odd.at(&row.file_id).await?;
                pairs.push(FilePair {
                    row,
                    there,
                    oddity,
                    places: BlobPlaces::default(),
                });
            }
            let looks = pairs.into_iter().map(|pair| self.look(pair, Some(&lists)));
            let mut looks = futures::stream::iter(looks).buffer_unordered(self.workers());
            while let Some((pair, state)) = looks.try_next().await? {
                match state {
                    FileState::Equal { .. }
                    | FileState::Gone
                    | FileState::RowDifferent
                    | FileState::Rejected => {}
                    _ if suspects.len() < LOOKED_AT_AGAIN => {
                        suspects.push((pair, state));
                        continue;
                    }
                    _ => {}
                }
                self.count(&mut verdict, &pair, state);
            }
        }
        for (pair, state) in self.settle(suspects).await? {
            self.count(&mut verdict, &pair, state);
        }
        verdict.shown.sort_by(|a, b| a.file_id.cmp(&b.file_id));
        verdict.bare = self.bare(&verdict);
        odd.finish().await?;
        there.finish(&mut lists.to).await?;
        let odd = odd.without_blob;
        verdict.without_row += odd.missing;
        verdict.row_different += odd.different;
        verdict.rejected += odd.rejected;
        let promise_none = source.count(&files.name).await?.saturating_sub(blobs);
        verdict.no_blob = promise_none.saturating_sub(odd.total());
        let strays = StrayCheck {
            to: &self.to,
            rows: &self.names_blobs,
            progress: self.progress.as_ref(),
        };
        verdict.strays = strays.run(&lists.to).await?;
        Ok(verdict)
    }

    /// Where none of the blobs is: another directory than was meant, or a disk that is not mounted.
    fn bare(&self, verdict: &FileVerdict) -> Vec<(Side, String)> {
        let wrong = |count: u64| count + verdict.both_wrong > 1;
        let sides = [
            (
                Side::Source,
                &self.from,
                &self.seen.from,
                wrong(verdict.source_wrong),
            ),
            (
                Side::Target,
                &self.to,
                &self.seen.to,
                wrong(verdict.target_wrong),
            ),
        ];
        let bare = sides.into_iter();
        bare.filter(|(_, _, seen, wrong)| *wrong && !seen.load(Ordering::Relaxed))
            .map(|(side, backend, _, _)| (side, backend.to_string()))
            .collect()
    }

    fn count(&self, verdict: &mut FileVerdict, pair: &FilePair, state: FileState) {
        if let Some(found) = verdict.count(|| pair.names(), state) {
            self.progress.on(Event::FileDiffers(&found));
        }
    }

    /// Looks at the blobs again that were not equal, until they are or it has been long enough.
    async fn settle(
        &self,
        mut suspects: Vec<(FilePair, FileState)>,
    ) -> Result<Vec<(FilePair, FileState)>, MigrateError> {
        let may_pass = |state: &FileState| matches!(state, FileState::Wrong(..));
        for pause in PAUSES {
            if !suspects.iter().any(|(_, state)| may_pass(state)) {
                break;
            }
            tokio::time::sleep(pause).await;
            let looks = suspects
                .into_iter()
                .map(async |(pair, state)| match may_pass(&state) {
                    true => self.look(pair, None).await,
                    false => Ok((pair, state)),
                });
            let looks = futures::stream::iter(looks).buffer_unordered(self.workers());
            suspects = looks.try_collect().await?;
        }
        for (pair, state) in &mut suspects {
            let is_equal = matches!(state, FileState::Equal { .. } | FileState::Gone);
            if !is_equal && self.source.has_removed(&pair.row).await? {
                *state = FileState::Gone;
            }
        }
        Ok(suspects)
    }

    fn workers(&self) -> usize {
        self.options.workers.get()
    }

    /// What the stores hold.
    async fn list(&self, blobs: u64) -> Result<Lists, MigrateError> {
        let tell = !self.options.deep;
        let (from, to) = tokio::try_join!(
            async {
                match tell {
                    true => Known::of(self.from.as_ref(), blobs, None).await,
                    false => Ok(Known::default()),
                }
            },
            Known::of(self.to.as_ref(), blobs, None),
        )?;
        Ok(Lists { from, to, tell })
    }

    /// Without lists, everything is asked for as it is now.
    async fn look(
        &self,
        mut pair: FilePair,
        lists: Option<&Lists>,
    ) -> Result<(FilePair, FileState), MigrateError> {
        let lists = lists.filter(|lists| lists.tell);
        let passed = AtomicU64::new(0);
        let row = &pair.row;
        let source = row.blob();
        let target = BlobRef {
            details: match &pair.there {
                TargetRow::Present(details) => details.clone(),
                TargetRow::Absent | TargetRow::NotAsked => BackendDetails::default(),
            },
            ..row.blob()
        };
        let has_key = !self.to_keeps_keys || target.details.sse_key().is_some();
        let (here, there) = tokio::try_join!(
            async {
                match listed(lists.map(|lists| &lists.from), &source, row) {
                    Some(condition) => Ok(condition),
                    None => {
                        self.condition(&self.from, &source, row, Some(&passed))
                            .await
                    }
                }
            },
            async {
                match (has_key, listed(lists.map(|lists| &lists.to), &target, row)) {
                    (true, Some(condition)) => Ok(condition),
                    (true, None) => self.condition(&self.to, &target, row, None).await,
                    // Without its key nobody can read it, nor ask about it.
                    (false, _) => Ok(Condition::Wrong("its row has no key to it".to_owned())),
                }
            },
        )?;
        let sides = [(&self.seen.from, &here), (&self.seen.to, &there)];
        for (seen, condition) in sides {
            seen.fetch_or(*condition != Condition::Missing, Ordering::Relaxed);
        }
        let bytes_left = row.announced_bytes().saturating_sub(passed.into_inner());
        self.progress.on(Event::BlobEnd { bytes_left });
        let state = state_of(&pair, &here, &there);
        if let FileState::Wrong(side, _) = &state {
            let is_on = |one| side.is_none_or(|side| side == one);
            pair.places = BlobPlaces {
                from: match is_on(Side::Source) {
                    true => here.place(&self.from, &source).await,
                    false => None,
                },
                to: match is_on(Side::Target) {
                    true => there.place(&self.to, &target).await,
                    false => None,
                },
            };
        }
        Ok((pair, state))
    }

    async fn condition(
        &self,
        backend: &Arc<dyn DataBackend>,
        blob: &BlobRef,
        row: &BlobRow,
        passed: Option<&AtomicU64>,
    ) -> Result<Condition, MigrateError> {
        let looked = match self.options.deep {
            true => self.read(backend, blob, row, passed).await,
            false => ask(backend, blob, row).await,
        };
        match looked {
            Ok(condition) => Ok(condition),
            Err(DataError::NotFound { .. }) => Ok(Condition::Missing),
            Err(error) if error.is_fatal() && !matches!(error, DataError::Denied { .. }) => {
                Err(error.into())
            }
            Err(error) => Ok(Condition::Wrong(explain(&error))),
        }
    }

    async fn read(
        &self,
        backend: &Arc<dyn DataBackend>,
        blob: &BlobRef,
        row: &BlobRow,
        passed: Option<&AtomicU64>,
    ) -> Result<Condition, DataError> {
        let found = backend.get(blob, None).await?;
        let (mut body, digest) = hashed(found.body);
        let mut read = 0;
        while let Some(chunk) = body.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk.len() as u64,
                Err(error) => return Ok(Condition::Wrong(format!("it cannot be read: {error}"))),
            };
            read += chunk;
            // What comes behind it is of no interest, and may be without an end.
            if let Some(expected) = row.size_bytes().filter(|expected| read > *expected) {
                let reason = format!("it has more than the {expected} bytes of its row");
                return Ok(Condition::Wrong(reason));
            }
            if let Some(passed) = passed {
                passed.fetch_add(chunk, Ordering::Relaxed);
                self.progress.on(Event::BlobBytes(chunk));
            }
        }
        Ok(match digest.get() {
            Some(digest) => judged(row, digest.size_bytes, Some(digest.md5)),
            None => Condition::Wrong("it cannot be read to its end".to_owned()),
        })
    }
}

impl Condition {
    /// Where the blob is that is like that, or should be.
    async fn place(&self, backend: &Arc<dyn DataBackend>, blob: &BlobRef) -> Option<String> {
        let found = match self {
            Self::Missing => None,
            Self::Good(_) | Self::Wrong(_) => backend.found_at(blob).await,
        };
        found.or_else(|| backend.place(blob))
    }
}

/// The condition of a blob, where a list tells it. What seems to be missing or wrong is asked about:
/// the answer has the reason.
fn listed(list: Option<&Known>, blob: &BlobRef, row: &BlobRow) -> Option<Condition> {
    // Only asking tells whether an encrypted blob has the key of its row.
    if blob.details.sse_key().is_some() {
        return None;
    }
    match list?.in_listing(row) {
        InListing::Found(Md5::Same) => Some(Condition::Good(row.md5)),
        InListing::Found(Md5::Untold) => Some(Condition::Good(None)),
        _ => None,
    }
}

async fn ask(
    backend: &Arc<dyn DataBackend>,
    blob: &BlobRef,
    row: &BlobRow,
) -> Result<Condition, DataError> {
    Ok(match backend.stat(blob).await? {
        Some(stat) => judged(row, stat.size_bytes, stat.md5),
        None => Condition::Missing,
    })
}

/// What is there, measured by what the row says.
fn judged(row: &BlobRow, size_bytes: u64, md5: Option<[u8; 16]>) -> Condition {
    match row.mismatch(size_bytes, md5) {
        Some(reason) => Condition::Wrong(reason),
        None => Condition::Good(md5),
    }
}

fn state_of(pair: &FilePair, here: &Condition, there: &Condition) -> FileState {
    use Condition::{Good, Missing, Wrong};
    let reason = |condition: &Condition| match condition {
        Wrong(reason) => reason.clone(),
        Missing | Good(_) => "it is missing".to_owned(),
    };
    match (here, there) {
        // About to be deleted: its bytes may go at any time, and are missed by nobody.
        (Missing | Wrong(_), _) if pair.row.status == FileStatus::Removed => FileState::Gone,
        _ if pair.oddity == Some(Oddity::Rejected) => FileState::Rejected,
        _ if matches!(pair.there, TargetRow::Absent) => FileState::WithoutRow,
        (Good(Some(one)), Good(Some(other))) if one != other => {
            let reason = "the two have other bytes, and the row has no MD5 to tell which are right";
            FileState::Wrong(None, reason.to_owned())
        }
        (Good(_), Good(_)) if pair.oddity.is_some() => FileState::RowDifferent,
        (Good(_), Good(md5)) => FileState::Equal {
            by_size: md5.is_none() && pair.row.size_bytes() != Some(0),
        },
        (Good(_), there) => FileState::Wrong(Some(Side::Target), reason(there)),
        (here, Good(_)) => FileState::Wrong(Some(Side::Source), reason(here)),
        (here, there) => {
            let reason = format!("source: {}; target: {}", reason(here), reason(there));
            FileState::Wrong(None, reason)
        }
    }
}

impl FilePair {
    fn names(&self) -> FileNames {
        FileNames {
            file_id: self.row.file_id.clone(),
            upload_id: self.row.upload_id.clone(),
            places: self.places.clone(),
        }
    }
}

/// The files of the target, asked for in the order of their ids.
struct TargetRows {
    rows: Option<BlobRows>,
    batch: VecDeque<BlobRow>,
    is_asked: bool,
}

impl TargetRows {
    async fn open(target: Option<&Snapshot>) -> Result<Self, MigrateError> {
        let rows = match target {
            Some(target) => {
                let layouts = target.layouts().await?;
                let files = layouts.iter().find(|layout| layout.name == "files");
                files.map(|files| BlobRows::all(target, files))
            }
            None => None,
        };
        Ok(Self {
            rows,
            batch: VecDeque::new(),
            is_asked: target.is_some(),
        })
    }

    /// The row of that file; ids must be asked for in ascending order. Rows on the way name their
    /// blobs.
    async fn of(&mut self, id: &str, blobs: &mut Known) -> Result<TargetRow, MigrateError> {
        if !self.is_asked {
            return Ok(TargetRow::NotAsked);
        }
        loop {
            while let Some(row) = self.batch.pop_front_if(|row| row.file_id.as_str() <= id) {
                blobs.name(&row);
                if row.file_id == id {
                    return Ok(TargetRow::Present(row.details));
                }
            }
            let more = match (&mut self.rows, self.batch.is_empty()) {
                (Some(rows), true) => rows.next().await?,
                _ => None,
            };
            match more {
                Some(more) => self.batch = more.into(),
                None => {
                    if self.batch.is_empty() {
                        self.rows = None;
                    }
                    return Ok(TargetRow::Absent);
                }
            }
        }
    }

    /// Lets the rows behind the last one that was asked for name their blobs.
    async fn finish(&mut self, blobs: &mut Known) -> Result<(), MigrateError> {
        loop {
            self.batch.drain(..).for_each(|row| blobs.name(&row));
            let more = match &mut self.rows {
                Some(rows) => rows.next().await?,
                None => None,
            };
            match more {
                Some(more) => self.batch = more.into(),
                None => return Ok(()),
            }
        }
    }
}

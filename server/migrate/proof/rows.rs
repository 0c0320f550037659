//! The rows: digests of every table, then the keys that differ.

use std::collections::HashSet;
use std::sync::Arc;

use super::odd::OddRows;
use super::report::{Difference, RowDifference, SHOWN, TableVerdict};
use super::{LOOKED_AT_AGAIN, PAUSES};
use crate::config::MetadataConfig;
use crate::metadata::{Layout, Reject, Rows, Snapshot};
use crate::migrate::compare::{Compared, Comparison, Standing};
use crate::migrate::error::MigrateError;
use crate::migrate::limits::Limiter;
use crate::migrate::metadata::not_compared;
use crate::migrate::progress::{Event, Progress};

/// Compares the rows of two databases.
pub(super) struct RowCheck<'a> {
    pub from: &'a MetadataConfig,
    pub to: &'a MetadataConfig,
    /// What `files.backend_details` says is each side's own business.
    pub own_blobs: bool,
    pub limiter: &'a Arc<Limiter>,
    pub progress: &'a dyn Progress,
}

/// A table that was looked at.
struct Looked<'a> {
    verdict: TableVerdict,
    layout: &'a Layout,
    target: Option<&'a Layout>,
    /// Where its differences are.
    rows: Rows,
    suspects: Suspects,
}

/// Rows that differ: the first of them by name, all by number.
#[derive(Default)]
struct Suspects {
    named: Vec<Suspect>,
    missing: u64,
    different: u64,
    extra: u64,
    /// There are more than can be looked at again: each was told as it was found.
    are_told: bool,
}

struct Suspect {
    /// As it is encoded, because what is shown of a key need not tell it from others.
    key: Vec<u8>,
    difference: RowDifference,
}

impl RowCheck<'_> {
    /// Also gives the rows of files that are not equal, to be looked at beside their blobs.
    pub async fn run(
        &self,
        source: &Snapshot,
        target: &Snapshot,
        layouts: &[Layout],
    ) -> Result<(Vec<TableVerdict>, OddRows), MigrateError> {
        let targets = target.layouts().await?;
        let mut tables = Vec::new();
        for layout in layouts {
            let there = targets.iter().find(|found| found.name == layout.name);
            tables.push(self.look(source, target, layout, there).await?);
        }
        for pause in PAUSES {
            if !tables.iter().any(|table| table.suspects.may_pass()) {
                break;
            }
            tokio::time::sleep(pause).await;
            let source = Snapshot::open(self.from).await?;
            let target = Snapshot::open(self.to).await?;
            for table in &mut tables {
                if table.suspects.may_pass() {
                    self.look_again(&source, &target, table).await?;
                }
            }
        }
        let files = tables.iter().find(|table| table.layout.name == "files");
        let files = files.filter(|files| files.is_odd());
        let odd = files.map(|files| self.comparison(source, target, files).merge());
        let tables = tables.into_iter();
        let verdicts = tables.map(|table| table.verdict(self.progress)).collect();
        Ok((verdicts, OddRows::of(odd)))
    }

    async fn look<'l>(
        &self,
        source: &Snapshot,
        target: &Snapshot,
        layout: &'l Layout,
        there: Option<&'l Layout>,
    ) -> Result<Looked<'l>, MigrateError> {
        let table = layout.name.as_str();
        let rows = source.count(table).await?;
        self.progress.on(Event::TableBegin { table, rows });
        let mut looked = Looked {
            verdict: TableVerdict {
                table: layout.name.clone(),
                ..TableVerdict::default()
            },
            layout,
            target: there,
            rows: Rows::All,
            suspects: Suspects::default(),
        };
        let comparison = self.comparison(source, target, &looked);
        match comparison.digests().await? {
            Some(digests) => {
                looked.rows = digests.differing();
                looked.verdict.proof = digests.proof();
                let rejects = digests.rejects.iter().map(RowDifference::from);
                looked.verdict.shown.extend(rejects);
                if !digests.are_same() {
                    let comparison = self.comparison(source, target, &looked);
                    let mut suspects = Suspects::default();
                    comparison
                        .run(|row| {
                            row.iter()
                                .for_each(|row| suspects.add(row, table, self.progress))
                        })
                        .await?;
                    looked.suspects = suspects;
                }
            }
            None => {
                looked.verdict.proof.source.rows = rows;
                looked.verdict.obstacle = (rows > 0).then_some(match there {
                    None => "the target has no such table",
                    Some(_) => "the target's table has another primary key",
                });
                looked.suspects.missing = rows;
            }
        }
        if let Some(there) = there {
            let columns = layout.columns.iter().map(|column| &column.name);
            let lost = columns.filter(|name| there.position(name).is_none());
            looked.verdict.lost_columns = lost.cloned().collect();
        }
        self.progress.on(Event::Rows { table, rows });
        self.progress.on(Event::TableEnd { table });
        Ok(looked)
    }

    /// Keeps the suspects that still differ.
    async fn look_again(
        &self,
        source: &Snapshot,
        target: &Snapshot,
        looked: &mut Looked<'_>,
    ) -> Result<(), MigrateError> {
        let before: HashSet<&[u8]> = looked
            .suspects
            .named
            .iter()
            .map(|suspect| suspect.key.as_slice())
            .collect();
        let mut still = Suspects::default();
        self.comparison(source, target, looked)
            .run(|row| {
                if let Ok(row) = row
                    && before.contains(row.key_bytes().as_slice())
                {
                    still.add(&row, &looked.verdict.table, self.progress);
                }
            })
            .await?;
        looked.verdict.settled += looked.suspects.total() - still.total();
        looked.suspects = still;
        Ok(())
    }

    fn comparison<'c>(
        &'c self,
        source: &'c Snapshot,
        target: &'c Snapshot,
        looked: &Looked<'c>,
    ) -> Comparison<'c> {
        Comparison {
            from: source,
            driver: target.driver(),
            to: looked.target.map(|layout| (target, layout)),
            layout: looked.layout,
            not_compared: not_compared(looked.layout, self.own_blobs),
            rows: looked.rows.clone(),
            limiter: self.limiter,
        }
    }
}

impl Looked<'_> {
    /// Whether any row of the source is not in the target as it is.
    fn is_odd(&self) -> bool {
        self.suspects.total() + self.verdict.proof.rejected > 0
    }

    /// What is left at the end; tells what was not told before.
    fn verdict(self, progress: &dyn Progress) -> TableVerdict {
        let mut verdict = self.verdict;
        verdict.missing = self.suspects.missing;
        verdict.different = self.suspects.different;
        verdict.extra = self.suspects.extra;
        let table = verdict.table.as_str();
        let tell = |row| progress.on(Event::RowDiffers { table, row });
        verdict.shown.iter().for_each(tell);
        if !self.suspects.are_told {
            self.suspects.tell(table, progress);
        }
        let named = self.suspects.named.into_iter();
        verdict
            .shown
            .extend(named.map(|suspect| suspect.difference));
        verdict.shown.truncate(SHOWN);
        verdict
    }
}

impl Suspects {
    /// Counts the row, and keeps it by name while there is hope that it passes.
    fn add(&mut self, row: &Compared<'_>, table: &str, progress: &dyn Progress) {
        let kind = match row.standing {
            Standing::Equal => return,
            Standing::Missing => Difference::Missing,
            Standing::Extra => Difference::Extra(row.why_extra()),
            Standing::Different => Difference::Different(row.columns()),
        };
        match kind {
            Difference::Missing => self.missing += 1,
            Difference::Extra(_) => self.extra += 1,
            Difference::Different(_) | Difference::Rejected(_) => self.different += 1,
        }
        let key = row.key();
        let difference = RowDifference { key, kind };
        if self.named.len() < LOOKED_AT_AGAIN {
            let key = row.key_bytes();
            self.named.push(Suspect { key, difference });
            return;
        }
        if !self.are_told {
            self.tell(table, progress);
            self.are_told = true;
        }
        let row = &difference;
        progress.on(Event::RowDiffers { table, row });
    }

    /// Tells those that are kept by name.
    fn tell(&self, table: &str, progress: &dyn Progress) {
        for suspect in &self.named {
            let row = &suspect.difference;
            progress.on(Event::RowDiffers { table, row });
        }
    }

    fn total(&self) -> u64 {
        self.missing + self.different + self.extra
    }

    /// Whether they are so few that they may be a server at work.
    fn may_pass(&self) -> bool {
        !self.named.is_empty() && self.named.len() as u64 == self.total()
    }
}

impl From<&Reject> for RowDifference {
    fn from(reject: &Reject) -> Self {
        Self {
            key: reject.key.clone(),
            kind: Difference::Rejected(reject.reason.clone()),
        }
    }
}

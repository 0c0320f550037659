//! Looks at every row of the source before the first write, and names what cannot go to the target.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Options;
use super::error::MigrateError;
use super::limits::{Limiter, Resting};
use super::plan::Plan;
use super::progress::{Event, Progress};
use super::rejects::RejectsFile;
use crate::config::Driver;
use crate::metadata::table::{Kind, TABLES};
use crate::metadata::{
    Encoding, Fault, Keys, Layout, Order, Reason, Reject, Request, Rows, Rules, SourceBatch, Tuple,
    shown_key,
};

/// Findings that are kept; all of them are told as they are found.
const FINDINGS_KEPT: usize = 100;

/// PostgreSQL's limit for an entry of an index, in bytes.
const MOST_INDEX_BYTES: usize = 2704;

/// One thing that is wrong with one row of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub table: String,
    /// For a person to read; secrets are masked.
    pub key: String,
    pub column: Option<String>,
    pub reason: Reason,
    pub effect: Effect,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { table, key, .. } = self;
        write!(f, "{table} {key}: ")?;
        if let Some(column) = &self.column {
            write!(f, "{column}: ")?;
        }
        self.reason.fmt(f)
    }
}

/// What becomes of a row because of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It cannot go to the target.
    Rejected,
    /// It goes; the target may yet refuse it.
    Doubtful,
    /// It goes as it is: the target holds rows without their parent.
    Kept,
    /// It is left out on request: cleaning the source would delete it.
    LeftOut,
    /// It goes without its NUL bytes, on request.
    Stripped,
}

impl Effect {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Doubtful => "doubtful",
            Self::Kept => "kept",
            Self::LeftOut => "left out",
            Self::Stripped => "mended",
        }
    }
}

/// What is wrong with a source. Bounded, however much that is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LintReport {
    /// The first hundred reasons for which rows are rejected.
    pub first: Vec<Finding>,
    /// The tables in which anything was found.
    pub tables: Vec<TableLint>,
}

/// What was found in one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableLint {
    pub table: String,
    /// Rows by what becomes of them.
    pub rows: BTreeMap<Effect, u64>,
    /// Findings by [`Reason::kind`].
    pub kinds: BTreeMap<&'static str, u64>,
}

impl LintReport {
    /// Rows of all tables that this becomes of.
    pub fn rows(&self, effect: Effect) -> u64 {
        let rows = self.tables.iter().map(|table| table.rows(effect));
        rows.sum()
    }
}

impl TableLint {
    pub fn rows(&self, effect: Effect) -> u64 {
        self.rows.get(&effect).copied().unwrap_or(0)
    }
}

/// One scan of the source.
pub(super) struct Lint<'a> {
    pub to: Driver,
    pub options: Options<'a>,
    pub rejects: Option<&'a mut RejectsFile>,
    /// Leaves a living source alone for a while between batches.
    pub limiter: &'a Arc<Limiter>,
    pub progress: &'a dyn Progress,
    pub cancel: &'a CancellationToken,
}

impl Lint<'_> {
    /// Scans every table. Whatever reads the source of the plan from then on leaves out and mends
    /// what the options ask for, and rejects what cannot go to the target for the same reasons.
    pub async fn run(mut self, plan: &mut Plan) -> Result<LintReport, MigrateError> {
        self.progress.on(Event::LintBegin);
        let mut rules = Rules::default();
        let mut report = LintReport::default();
        for layout in &plan.layouts {
            rules.set_missing_parents(&layout.name, plan.source.missing_parents(layout).await?);
            rules.set_same_keys(&layout.name, plan.source.same_keys(layout, self.to).await?);
            plan.source.set_rules(rules.clone());
            let mut scan = Scan::new(layout, self.to, self.options);
            let rows = plan.source.read_suspects(Request {
                layout: layout.clone(),
                encoding: plan.source.encoding_for(self.to),
                to: self.to,
                after: None,
                rows: Rows::of_shard(self.options.shard),
                order: Order::Any,
            });
            let mut rows = Resting::new(rows, Some(self.limiter));
            while let Some(batch) = self.next_batch(&mut rows).await? {
                let findings = scan.judge(&batch, plan.source.encoding_for(self.to));
                self.keep(&batch, &scan)?;
                self.tell(findings, &mut report);
            }
            rules.set_rejected(&layout.name, plan.source.few_enough(scan.rejected)?);
            report
                .tables
                .extend((!scan.lint.rows.is_empty()).then_some(scan.lint));
        }
        if self.to == Driver::Sqlite && !self.options.fix_orphans {
            rules.keep_orphans();
        }
        rules.skip_orphans = self.options.fix_orphans;
        rules.strip_nul = self.options.strip_nul;
        plan.source.set_rules(rules);
        if let Some(rejects) = self.rejects {
            rejects.sync()?;
        }
        Ok(report)
    }

    async fn next_batch(&self, rows: &mut Resting) -> Result<Option<SourceBatch>, MigrateError> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(MigrateError::Interrupted),
            batch = rows.next() => Ok(batch?),
        }
    }

    /// A row that is rejected is on stable storage before anything is written to the target.
    fn keep(&mut self, batch: &SourceBatch, scan: &Scan<'_>) -> Result<(), MigrateError> {
        let Some(rejects) = &mut self.rejects else {
            return Ok(());
        };
        let mut rejected = batch
            .rejects
            .iter()
            .filter(|reject| scan.effect_of(reject) == Effect::Rejected);
        rejected.try_for_each(|reject| rejects.add(reject))
    }

    fn tell(&self, findings: Vec<Finding>, report: &mut LintReport) {
        for finding in findings {
            self.progress.on(Event::Finding(&finding));
            if finding.effect == Effect::Rejected && report.first.len() < FINDINGS_KEPT {
                report.first.push(finding);
            }
        }
    }
}

/// The scan of one table.
struct Scan<'a> {
    layout: &'a Layout,
    to: Driver,
    options: Options<'a>,
    /// The columns of each index of the target.
    indexes: Vec<Vec<usize>>,
    /// The column by which children refer to rows of the table, if any do.
    referred: Option<usize>,
    rejected: Keys,
    lint: TableLint,
}

impl<'a> Scan<'a> {
    fn new(layout: &'a Layout, to: Driver, options: Options<'a>) -> Self {
        let mut keys = TABLES.iter().flat_map(|table| table.foreign_keys);
        let referred = keys
            .find(|key| key.parent == layout.name)
            .and_then(|key| layout.position(key.parent_column));
        Self {
            layout,
            to,
            options,
            indexes: match to {
                Driver::Postgres => indexes(layout),
                Driver::Sqlite => Vec::new(),
            },
            referred,
            rejected: Keys::new(),
            lint: TableLint {
                table: layout.name.clone(),
                ..TableLint::default()
            },
        }
    }

    /// Everything that is to be said about the batch.
    fn judge(&mut self, batch: &SourceBatch, encoding: Encoding) -> Vec<Finding> {
        let mut findings = Vec::new();
        for row in batch.rows.iter().filter(|_| !self.indexes.is_empty()) {
            if let Some(column) = self.long_text(row) {
                *self.lint.rows.entry(Effect::Doubtful).or_default() += 1;
                findings.push(Finding {
                    table: self.layout.name.clone(),
                    key: shown_key(self.layout, row, encoding),
                    column: Some(self.layout.columns[column].name.clone()),
                    reason: Reason::IndexEntry,
                    effect: Effect::Doubtful,
                });
            }
        }
        for reject in &batch.rejects {
            let effect = self.effect_of(reject);
            *self.lint.rows.entry(effect).or_default() += 1;
            if effect == Effect::Rejected
                && let Some(key) = self
                    .referred
                    .and_then(|column| reject.row.key_bytes(column))
            {
                self.rejected.insert(key.into());
            }
            findings.extend(reject.faults.iter().map(|fault| Finding {
                table: reject.table.clone(),
                key: reject.key.clone(),
                column: fault.column.clone(),
                reason: fault.reason.clone(),
                effect,
            }));
        }
        for finding in &findings {
            *self.lint.kinds.entry(finding.reason.kind()).or_default() += 1;
        }
        findings
    }

    /// What becomes of a row that cannot go to the target as it is.
    fn effect_of(&self, reject: &Reject) -> Effect {
        let orphan = |fault: &Fault| matches!(fault.reason, Reason::Orphan(_));
        let faults = &reject.faults;
        if self.options.fix_orphans && faults.iter().any(orphan) {
            Effect::LeftOut
        } else if self.to == Driver::Sqlite && faults.iter().all(orphan) {
            Effect::Kept
        } else if self.options.strip_nul && faults.iter().all(|fault| self.is_strippable(fault)) {
            Effect::Stripped
        } else {
            Effect::Rejected
        }
    }

    fn is_strippable(&self, fault: &Fault) -> bool {
        let column = fault.column.as_deref();
        let column = column.and_then(|column| self.layout.position(column));
        fault.reason == Reason::Nul
            && column.is_some_and(|column| !self.layout.finds_rows_by(column))
    }

    /// The longest text of an entry that may be too long for its index.
    fn long_text(&self, row: Tuple<'_>) -> Option<usize> {
        // Most rows are short as a whole.
        if row.as_bytes().len() <= MOST_INDEX_BYTES / 2 {
            return None;
        }
        let size = |column: &usize| row.field(*column).map_or(0, <[u8]>::len);
        let too_long = self.indexes.iter().find(|columns| {
            // Each value is aligned and has its length before it.
            let bytes: usize = columns.iter().map(|column| size(column) + 8).sum();
            bytes + 8 > MOST_INDEX_BYTES
        })?;
        too_long.iter().copied().max_by_key(size)
    }
}

/// The columns of each index with a text in it.
fn indexes(layout: &Layout) -> Vec<Vec<usize>> {
    let positions = |names: &mut dyn Iterator<Item = &str>| -> Option<Vec<usize>> {
        names.map(|name| layout.position(name)).collect()
    };
    let mut indexes = vec![layout.primary_key.clone()];
    match layout.known() {
        Some(table) => indexes.extend(
            table
                .indexes
                .iter()
                .filter_map(|index| positions(&mut index.columns.iter().copied())),
        ),
        None => indexes.extend(
            layout
                .indexes
                .iter()
                .filter_map(|index| positions(&mut index.columns.iter().map(String::as_str))),
        ),
    }
    let has_text = |columns: &Vec<usize>| {
        let mut columns = columns.iter();
        columns.any(|column| layout.columns[*column].kind == Kind::Text)
    };
    indexes.retain(has_text);
    indexes
}

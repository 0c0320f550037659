//! Two databases side by side: which rows are missing, which differ.

mod rejected;

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use super::error::MigrateError;
use super::limits::{Limiter, Resting};
use super::report::TableProof;
use crate::config::Driver;
use crate::metadata::table::Kind;
use crate::metadata::{
    Batch, Encoding, Layout, MetadataError, Order, Reject, Request, RowStream, Rows, Snapshot,
    SourceBatch, TableDigest, Tuple, order_of, shown_key,
};

use rejected::RejectedKeys;

/// What is said of a row that only the target has under a key of a rejected row: most likely that
/// row was mended and replayed.
const IN_PLACE_OF_REJECTED: &str = "in place of a row of the source that was rejected";

/// Rejected rows that are kept by name.
const REJECTS_KEPT: usize = 100;

/// How a row stands on the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Both have it, equal in every column that was compared.
    Equal,
    Different,
    /// The target has no row of that key.
    Missing,
    /// Only the target has a row of that key.
    Extra,
}

/// One row of the source, or one that only the target has.
pub(super) struct Compared<'a> {
    pub standing: Standing,
    row: Tuple<'a>,
    /// The row of the target, where both have one.
    other: Option<Tuple<'a>>,
    /// Only the target has it, and the source one of that key that the target cannot hold.
    replaces_rejected: bool,
    layout: &'a Layout,
    skipped: &'a [usize],
    encoding: Encoding,
}

impl Compared<'_> {
    /// The key of the row, for a person to read.
    pub fn key(&self) -> String {
        shown_key(self.layout, self.row, self.encoding)
    }

    /// Whether it is in the place of a row of the source that the target cannot hold.
    pub fn replaces_rejected(&self) -> bool {
        self.replaces_rejected
    }

    /// Why only the target has it, where that can be told.
    pub fn why_extra(&self) -> Option<&'static str> {
        self.replaces_rejected.then_some(IN_PLACE_OF_REJECTED)
    }

    /// The whole row: of the source, if it has one.
    pub fn row(&self) -> Tuple<'_> {
        self.row
    }

    /// The row of the target, where both have one.
    pub fn other(&self) -> Option<Tuple<'_>> {
        self.other
    }

    /// The key as it is encoded, which no other row of that side has.
    pub fn key_bytes(&self) -> Vec<u8> {
        self.row.project(&self.layout.primary_key)
    }

    /// The columns in which the two rows differ; none if only one side has it.
    pub fn columns(&self) -> Vec<String> {
        let Some(other) = self.other else {
            return Vec::new();
        };
        let pairs = self.row.fields().zip(other.fields()).enumerate();
        pairs
            .filter(|(column, (a, b))| a != b && !self.skipped.contains(column))
            .map(|(column, _)| self.layout.columns[column].name.clone())
            .collect()
    }
}

/// What one reading of a table told, on one side.
#[derive(Clone)]
pub(super) struct Reading {
    digest: TableDigest,
    /// Rows that the target cannot hold.
    rejected: u64,
    /// The first hundred of them, without their rows.
    rejects: Vec<Reject>,
}

impl Reading {
    /// Before the first row of `layout`, or of `there`, which is the same table on the other side.
    /// `None` if the two have nothing that could be equal: another key.
    pub fn of(
        layout: &Layout,
        there: &Layout,
        encoding: Encoding,
        not_compared: &[&str],
    ) -> Option<Self> {
        let (here, there) = common_layouts(layout, there)?;
        Some(Self {
            digest: TableDigest::new(&here, &there, encoding, not_compared),
            rejected: 0,
            rejects: Vec::new(),
        })
    }

    pub fn add(&mut self, batch: &SourceBatch) {
        batch.rows.iter().for_each(|row| self.digest.add(row));
        self.rejected += batch.rejects.len() as u64;
        let room = REJECTS_KEPT.saturating_sub(self.rejects.len());
        let named = batch.rejects.iter().take(room);
        self.rejects.extend(named.map(Reject::without_row));
    }

    async fn all_of(mut self, mut rows: Resting) -> Result<Self, MetadataError> {
        while let Some(batch) = rows.next().await? {
            self.add(&batch);
        }
        Ok(self)
    }
}

/// What one reading of both sides told.
#[derive(Clone)]
pub(super) struct Digests {
    pub from: TableDigest,
    pub to: TableDigest,
    /// Rows of the source that the target cannot hold.
    pub rejected: u64,
    /// The first hundred of them, without their rows.
    pub rejects: Vec<Reject>,
}

impl Digests {
    pub fn new(from: Reading, to: Reading) -> Self {
        Self {
            from: from.digest,
            to: to.digest,
            rejected: from.rejected,
            rejects: from.rejects,
        }
    }

    pub fn are_same(&self) -> bool {
        self.from.is_same(&self.to)
    }

    /// Whether both sides have the same rows in the range of keys that `key` falls into.
    pub fn are_same_around(&self, key: &str) -> bool {
        self.from.is_same_around(&self.to, key)
    }

    /// The rows among which every difference is.
    pub fn differing(&self) -> Rows {
        self.from
            .differing(&self.to)
            .map_or(Rows::All, Rows::Within)
    }

    pub fn proof(&self) -> TableProof {
        TableProof {
            source: (&self.from).into(),
            target: (&self.to).into(),
            rejected: self.rejected,
        }
    }
}

/// Compares the rows of one table, both sides read in key order.
pub(super) struct Comparison<'a> {
    pub from: &'a Snapshot,
    /// The engine that is to hold the rows.
    pub driver: Driver,
    /// `None` for a database that does not exist yet.
    pub to: Option<(&'a Snapshot, &'a Layout)>,
    pub layout: &'a Layout,
    /// Columns that may differ.
    pub not_compared: &'a [&'a str],
    /// Which rows of both sides.
    pub rows: Rows,
    /// Spares the source.
    pub limiter: &'a Arc<Limiter>,
}

impl Comparison<'_> {
    /// Reads both sides at the same time, as each finds its rows fastest. `None` if the target
    /// has nothing that could be equal: no such table, or one with another key.
    ///
    /// What [`Comparison::run`] finds equal, row by row, has equal digests here.
    pub async fn digests(&self) -> Result<Option<Digests>, MigrateError> {
        let (Some((here, _)), Some(from), Some(to)) =
            (self.common_layouts(), self.reading(), self.read_target())
        else {
            return Ok(None);
        };
        let rows = self.stream(self.from, &here, Order::Any);
        let from = from.all_of(Resting::new(rows, Some(self.limiter)));
        let from = AbortOnDropHandle::new(tokio::spawn(from));
        let to = to.await??;
        Ok(Some(Digests::new(from.await??, to)))
    }

    /// Reads the target only, for a source that was read before. `None` as for
    /// [`Comparison::digests`].
    pub fn read_target(&self) -> Option<AbortOnDropHandle<Result<Reading, MetadataError>>> {
        let (_, there) = self.common_layouts()?;
        let (snapshot, _) = self.to?;
        let rows = self.stream(snapshot, &there, Order::Any);
        let reading = self.reading()?.all_of(Resting::new(rows, None));
        Some(AbortOnDropHandle::new(tokio::spawn(reading)))
    }

    fn reading(&self) -> Option<Reading> {
        let (_, there) = self.to?;
        Reading::of(self.layout, there, self.encoding(), self.not_compared)
    }

    fn encoding(&self) -> Encoding {
        self.from.encoding_for(self.driver)
    }

    fn stream(&self, snapshot: &Snapshot, layout: &Layout, order: Order) -> RowStream {
        snapshot.read(Request {
            layout: layout.clone(),
            encoding: self.encoding(),
            to: self.driver,
            after: None,
            rows: self.rows.clone(),
            order,
        })
    }

    /// Calls `found` for each row of both sides, in key order, or with the reason why the target
    /// cannot hold it. Memory does not grow with the table.
    ///
    /// Columns that only one side has are not compared: a target that is yet to be upgraded lacks
    /// some.
    pub async fn run(&self, mut found: impl FnMut(Seen<'_>)) -> Result<(), MigrateError> {
        let mut merge = self.merge();
        while let Some(row) = merge.next().await? {
            found(row);
        }
        Ok(())
    }

    /// The same, one row after the other.
    pub fn merge(&self) -> Merge {
        let (layout, there) = match self.common_layouts() {
            Some((here, there)) => (here, Some(there)),
            None => (self.layout.clone(), None),
        };
        let skipped = self.not_compared.iter();
        let skipped = skipped.filter_map(|name| layout.position(name)).collect();
        let side = |snapshot, layout: &Layout, limiter| {
            let stream = self.stream(snapshot, layout, Order::Key);
            Side::new(Resting::new(stream, limiter))
        };
        Merge {
            from: side(self.from, &layout, Some(self.limiter)),
            to: there
                .zip(self.to)
                .map(|(there, (to, _))| side(to, &there, None)),
            kinds: layout.key_kinds(),
            layout,
            skipped,
            encoding: self.encoding(),
            in_hand: None,
            matched: false,
            rejects: VecDeque::new(),
            rejected: RejectedKeys::default(),
        }
    }

    fn common_layouts(&self) -> Option<(Layout, Layout)> {
        let (_, there) = self.to?;
        common_layouts(self.layout, there)
    }
}

/// The columns that both sides have, in the order of the first. `None` if they have another key.
fn common_layouts(layout: &Layout, there: &Layout) -> Option<(Layout, Layout)> {
    let columns = layout.columns.iter().map(|column| column.name.as_str());
    let names: Vec<&str> = columns
        .filter(|name| there.position(name).is_some())
        .collect();
    let (here, mut there) = (layout.project(&names), there.project(&names));
    if here.primary_key.is_empty() || here.primary_key != there.primary_key {
        return None;
    }
    for (there, here) in there.columns.iter_mut().zip(&here.columns) {
        there.kind = here.kind;
    }
    Some((here, there))
}

/// A row, or why the target cannot hold it.
pub(super) type Seen<'a> = Result<Compared<'a>, Box<Reject>>;

/// Both sides on their way through a table.
pub(super) struct Merge {
    from: Side,
    to: Option<Side>,
    layout: Layout,
    kinds: Vec<Kind>,
    skipped: Vec<usize>,
    encoding: Encoding,
    /// How the rows in hand stand to each other by their keys, once they were compared.
    in_hand: Option<Ordering>,
    /// Whether the source has the row of the target in hand.
    matched: bool,
    /// Rows of the source that were just passed.
    rejects: VecDeque<Reject>,
    rejected: RejectedKeys,
}

impl Merge {
    /// How the rows are encoded.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The columns of the rows, rejected ones included.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The next row of either side, or the reason why the target cannot hold it; `None` behind the
    /// last one.
    pub async fn next(&mut self) -> Result<Option<Seen<'_>>, MigrateError> {
        let standing = loop {
            self.advance();
            if self.from.fill(&mut self.rejects).await? {
                self.rejected.read_on(&self.rejects, &self.layout);
            }
            if let Some(to) = &mut self.to {
                // What the target has it can hold.
                to.fill(&mut VecDeque::new()).await?;
            }
            if let Some(reject) = self.rejects.pop_front() {
                return Ok(Some(Err(Box::new(reject))));
            }
            let Some((order, standing)) = self.compare() else {
                return Ok(None);
            };
            self.in_hand = Some(order);
            if standing != Standing::Extra || !self.matched {
                break standing;
            }
        };
        let (row, other) = (self.from.row(), self.to.as_ref().and_then(Side::row));
        let (row, other) = match standing {
            Standing::Extra => (other, None),
            Standing::Missing => (row, None),
            Standing::Equal | Standing::Different => (row, other),
        };
        Ok(row.map(|row| {
            Ok(Compared {
                standing,
                row,
                other,
                replaces_rejected: standing == Standing::Extra
                    && self.rejected.have(row, self.encoding, &self.layout),
                layout: &self.layout,
                skipped: &self.skipped,
                encoding: self.encoding,
            })
        }))
    }

    /// Leaves the row that was given out behind.
    fn advance(&mut self) {
        let Some(order) = self.in_hand.take() else {
            return;
        };
        // Two keys of the source may mean one of the target, so a row of the target is left only
        // when the source is past it.
        self.matched = order.is_eq() || (self.matched && order.is_lt());
        if order.is_le() {
            self.from.advance();
        } else if let Some(to) = &mut self.to {
            to.advance();
        }
    }

    /// `None` if both sides have come to their end.
    fn compare(&self) -> Option<(Ordering, Standing)> {
        let (row, other) = (self.from.row(), self.to.as_ref().and_then(Side::row));
        Some(match (row, other) {
            (None, None) => return None,
            (Some(_), None) => (Ordering::Less, Standing::Missing),
            (None, Some(_)) => (Ordering::Greater, Standing::Extra),
            (Some(row), Some(other)) => match self.order(row, other) {
                Ordering::Less => (Ordering::Less, Standing::Missing),
                Ordering::Equal if equal(row, other, &self.skipped) => {
                    (Ordering::Equal, Standing::Equal)
                }
                Ordering::Equal => (Ordering::Equal, Standing::Different),
                Ordering::Greater => (Ordering::Greater, Standing::Extra),
            },
        })
    }

    fn order(&self, row: Tuple<'_>, other: Tuple<'_>) -> Ordering {
        let key = &self.layout.primary_key;
        let (row, other) = (row.project(key), other.project(key));
        order_of(
            Tuple::new(&row),
            Tuple::new(&other),
            &self.kinds,
            self.encoding,
        )
    }
}

fn equal(a: Tuple<'_>, b: Tuple<'_>, skipped: &[usize]) -> bool {
    if skipped.is_empty() {
        return a == b;
    }
    let pairs = a.fields().zip(b.fields()).enumerate();
    pairs
        .into_iter()
        .all(|(column, (a, b))| a == b || skipped.contains(&column))
}

/// One side of a comparison: a stream of rows and the one in hand.
struct Side {
    stream: Resting,
    batch: Batch,
    row: usize,
    ended: bool,
}

impl Side {
    fn new(stream: Resting) -> Self {
        Self {
            stream,
            batch: Batch::default(),
            row: 0,
            ended: false,
        }
    }

    /// Makes sure that there is a row in hand unless there are no more; whether it had to read.
    async fn fill(&mut self, rejects: &mut VecDeque<Reject>) -> Result<bool, MigrateError> {
        let mut has_read = false;
        while self.row >= self.batch.len() && !self.ended {
            // What was gone through goes before the next comes.
            self.batch = Batch::default();
            self.row = 0;
            match self.stream.next().await? {
                Some(next) => {
                    has_read = true;
                    rejects.extend(next.rejects);
                    self.batch = next.rows;
                }
                None => self.ended = true,
            }
        }
        Ok(has_read)
    }

    fn row(&self) -> Option<Tuple<'_>> {
        (self.row < self.batch.len()).then(|| self.batch.tuple(self.row))
    }

    fn advance(&mut self) {
        self.row += 1;
    }
}

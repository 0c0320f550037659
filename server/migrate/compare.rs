//! Two databases side by side: which rows are missing, which differ.

use std::cmp::Ordering;

use tokio_util::task::AbortOnDropHandle;

use super::error::MigrateError;
use super::report::TableProof;
use crate::config::Driver;
use crate::metadata::{
    Batch, Encoding, Layout, MetadataError, Order, Reject, Request, RowStream, Rows, Snapshot,
    TableDigest, Tuple, order_of, shown_key,
};

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
    layout: &'a Layout,
    skipped: &'a [usize],
    encoding: Encoding,
}

impl Compared<'_> {
    /// The key of the row, for a person to read.
    pub fn key(&self) -> String {
        shown_key(self.layout, self.row, self.encoding)
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

/// What one reading of both sides told.
pub(super) struct Digests {
    pub from: TableDigest,
    pub to: TableDigest,
    /// Rows of the source that the target cannot hold.
    pub rejected: u64,
    /// The first hundred of them.
    pub rejects: Vec<Reject>,
}

impl Digests {
    pub fn are_same(&self) -> bool {
        self.from.is_same(&self.to)
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
}

impl Comparison<'_> {
    /// Reads both sides at the same time, as each finds its rows fastest. `None` if the target
    /// has nothing that could be equal: no such table, or one with another key.
    ///
    /// What [`Comparison::run`] finds equal, row by row, has equal digests here.
    pub async fn digests(&self) -> Result<Option<Digests>, MigrateError> {
        let encoding = self.from.encoding_for(self.driver);
        let (here, there) = self.common_layouts();
        let Some((there, (to, _))) = there.zip(self.to) else {
            return Ok(None);
        };
        let empty = TableDigest::new(&here, &there, encoding, self.not_compared);
        let start = |snapshot: &Snapshot, layout| {
            let stream = self.stream(snapshot, layout, encoding, Order::Any);
            AbortOnDropHandle::new(tokio::spawn(digest(stream, empty.clone())))
        };
        let (from, to) = (start(self.from, &here), start(to, &there));
        let (from, rejected, rejects) = from.await??;
        let (to, _, _) = to.await??;
        Ok(Some(Digests {
            from,
            to,
            rejected,
            rejects,
        }))
    }

    fn stream(
        &self,
        snapshot: &Snapshot,
        layout: &Layout,
        encoding: Encoding,
        order: Order,
    ) -> RowStream {
        snapshot.read(Request {
            layout: layout.clone(),
            encoding,
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
    pub async fn run(
        &self,
        mut found: impl FnMut(Result<Compared<'_>, &Reject>),
    ) -> Result<(), MigrateError> {
        let encoding = self.from.encoding_for(self.driver);
        let (layout, there) = self.common_layouts();
        let kinds = layout.key_kinds();
        let skipped: Vec<usize> = self
            .not_compared
            .iter()
            .filter_map(|name| layout.position(name))
            .collect();
        let side = |snapshot, layout: &Layout| {
            Side::new(self.stream(snapshot, layout, encoding, Order::Key))
        };
        let mut from = side(self.from, &layout);
        let mut to = there.zip(self.to).map(|(there, (to, _))| side(to, &there));
        let key_of = |row: Tuple<'_>| row.project(&layout.primary_key);
        let order = |row: Tuple<'_>, other: Tuple<'_>| {
            let (key, other) = (key_of(row), key_of(other));
            order_of(Tuple::new(&key), Tuple::new(&other), &kinds, encoding)
        };
        // Whether the source has the row of the target in hand.
        let mut matched = false;
        loop {
            from.fill(|reject| found(Err(reject))).await?;
            if let Some(to) = &mut to {
                to.fill(|_| ()).await?;
            }
            let (row, other) = (from.row(), to.as_ref().and_then(Side::row));
            let (order, standing) = match (row, other) {
                (None, None) => return Ok(()),
                (Some(_), None) => (Ordering::Less, Some(Standing::Missing)),
                (None, Some(_)) => (Ordering::Greater, (!matched).then_some(Standing::Extra)),
                (Some(row), Some(other)) => match order(row, other) {
                    Ordering::Less => (Ordering::Less, Some(Standing::Missing)),
                    Ordering::Equal if equal(row, other, &skipped) => {
                        (Ordering::Equal, Some(Standing::Equal))
                    }
                    Ordering::Equal => (Ordering::Equal, Some(Standing::Different)),
                    Ordering::Greater => (Ordering::Greater, (!matched).then_some(Standing::Extra)),
                },
            };
            let shown = if order.is_le() { row } else { other };
            if let (Some(standing), Some(row)) = (standing, shown) {
                found(Ok(Compared {
                    standing,
                    row,
                    other: other.filter(|_| order.is_eq()),
                    layout: &layout,
                    skipped: &skipped,
                    encoding,
                }));
            }
            // Two keys of the source may mean one of the target, so a row of the target is left
            // only when the source is past it.
            matched = order.is_eq() || (matched && order.is_lt());
            if order.is_le() {
                from.advance();
            } else if let Some(to) = &mut to {
                to.advance();
            }
        }
    }

    /// The columns that both sides have, in one order; nothing of the target if its key is another.
    fn common_layouts(&self) -> (Layout, Option<Layout>) {
        let Some((_, there)) = self.to else {
            return (self.layout.clone(), None);
        };
        let names: Vec<&str> = self
            .layout
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .filter(|name| there.position(name).is_some())
            .collect();
        let (here, mut there) = (self.layout.project(&names), there.project(&names));
        if here.primary_key.is_empty() || here.primary_key != there.primary_key {
            return (self.layout.clone(), None);
        }
        for (there, here) in there.columns.iter_mut().zip(&here.columns) {
            there.kind = here.kind;
        }
        (here, Some(there))
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

/// Rejected rows that are kept by name.
const REJECTS_KEPT: usize = 100;

/// The digest of all rows of a stream, how many rows it could not read, and the first of those.
async fn digest(
    mut stream: RowStream,
    mut digest: TableDigest,
) -> Result<(TableDigest, u64, Vec<Reject>), MetadataError> {
    let (mut rejected, mut rejects) = (0, Vec::new());
    while let Some(batch) = stream.next().await? {
        batch.rows.iter().for_each(|row| digest.add(row));
        rejected += batch.rejects.len() as u64;
        let room = REJECTS_KEPT.saturating_sub(rejects.len());
        rejects.extend(batch.rejects.into_iter().take(room));
    }
    Ok((digest, rejected, rejects))
}

/// One side of a comparison: a stream of rows and the one in hand.
struct Side {
    stream: RowStream,
    batch: Batch,
    row: usize,
    ended: bool,
}

impl Side {
    fn new(stream: RowStream) -> Self {
        Self {
            stream,
            batch: Batch::default(),
            row: 0,
            ended: false,
        }
    }

    /// Makes sure that there is a row in hand unless there are no more.
    async fn fill(&mut self, mut rejected: impl FnMut(&Reject)) -> Result<(), MigrateError> {
        while self.row >= self.batch.len() && !self.ended {
            match self.stream.next().await? {
                Some(next) => {
                    next.rejects.iter().for_each(&mut rejected);
                    self.batch = next.rows;
                    self.row = 0;
                }
                None => self.ended = true,
            }
        }
        Ok(())
    }

    fn row(&self) -> Option<Tuple<'_>> {
        (self.row < self.batch.len()).then(|| self.batch.tuple(self.row))
    }

    fn advance(&mut self) {
        self.row += 1;
    }
}

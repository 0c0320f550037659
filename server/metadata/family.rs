//! Which rows of a table are in which part, where several processes bring a part each.
//!
//! Rows that belong together go together, so that what one process reads, at one moment, has every
//! parent that it refers to.

use super::layout::Layout;
use super::stream::SourceBatch;
use super::tuple::Batch;
use crate::model::Shard;

/// Of rows as they are read, those of one part.
pub(super) struct Division {
    shard: Shard,
    /// Position of the column that a family shares.
    column: Option<usize>,
}

impl Layout {
    /// The column whose value decides in which part a row is: the upload of a file, the user of a
    /// token, of any other row the first of its key. Never to be changed.
    pub(super) fn family(&self) -> Option<usize> {
        let shared = match self.name.as_str() {
            "files" => self.position("upload_id"),
            "tokens" => self.position("user_id"),
            _ => None,
        };
        shared.or_else(|| self.primary_key.first().copied())
    }
}

impl Division {
    pub fn new(shard: Shard, layout: &Layout) -> Self {
        Self {
            shard,
            column: layout.family(),
        }
    }

    /// The rows of the batch that are in the part, rejected ones too.
    pub fn of(&self, batch: SourceBatch) -> SourceBatch {
        let share = batch.rows.as_bytes().len() / self.shard.of().get() as usize;
        let mut rows = Batch::with_capacity(share);
        for row in batch.rows.iter() {
            if self.holds(self.column.and_then(|column| row.field(column))) {
                rows.push_tuple(row.as_bytes());
            }
        }
        let mut rejects = batch.rejects;
        rejects.retain(|reject| {
            let key = self.column.and_then(|column| reject.row.key_bytes(column));
            self.holds(key.as_deref())
        });
        SourceBatch { rows, rejects }
    }

    fn holds(&self, key: Option<&[u8]>) -> bool {
        self.shard.holds(key.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::Column;
    use super::super::reject::Reject;
    use super::super::table::{Kind, TABLES};
    use super::super::tuple::Encoding;
    use super::*;

    fn layout(name: &str, columns: &[(&str, Kind)], primary_key: &[usize]) -> Layout {
        let column = |(name, kind): &(&str, Kind)| Column {
            name: (*name).to_owned(),
            kind: *kind,
            declared: String::new(),
        };
        Layout {
            name: name.to_owned(),
            columns: columns.iter().map(column).collect(),
            primary_key: primary_key.to_vec(),
            indexes: Vec::new(),
        }
    }

    fn known(name: &str) -> Layout {
        let table = TABLES.iter().find(|table| table.name == name).unwrap();
        let columns = table.columns.iter();
        let columns: Vec<(&str, Kind)> = columns.map(|column| (column.name, column.kind)).collect();
        let id = columns.iter().position(|column| column.0 == "id");
        layout(name, &columns, &[id.unwrap_or(0)])
    }

    fn shards(of: u32) -> impl Iterator<Item = Shard> {
        (1..=of).map(move |number| format!("{number}/{of}").parse().unwrap())
    }

    #[test]
    fn which_column_decides_never_changes() {
        let decides = |layout: &Layout| layout.columns[layout.family().unwrap()].name.clone();
        for (table, column) in [
            ("users", "id"),
            ("tokens", "user_id"),
            ("uploads", "id"),
            ("files", "upload_id"),
        ] {
            assert_eq!(decides(&known(table)), column, "{table}");
        }
        let columns = [("a", Kind::Text), ("b", Kind::Integer), ("c", Kind::Time)];
        assert_eq!(decides(&layout("strange", &columns, &[1, 0])), "b");
        assert_eq!(layout("keyless", &columns, &[]).family(), None);
    }

    /// A child in another part than its parent would be an orphan where the two were read at
    /// different moments.
    #[test]
    fn every_row_is_in_the_part_of_its_parent() {
        for table in TABLES {
            let layout = known(table.name);
            let family = layout
                .family()
                .map(|column| layout.columns[column].name.as_str());
            for key in table.foreign_keys {
                assert_eq!(family, Some(key.column), "{}", table.name);
                let parent = known(key.parent);
                let shared = parent
                    .family()
                    .map(|column| parent.columns[column].name.as_str());
                assert_eq!(shared, Some(key.parent_column), "{}", table.name);
            }
        }
    }

    #[test]
    fn all_parts_together_are_all_rows() {
        let columns = [("value", Kind::Text), ("id", Kind::Integer)];
        let strange = layout("strange", &columns, &[1]);
        let mut rows = Batch::default();
        for number in 0..1000 {
            rows.begin_row(2);
            rows.field(b"the same");
            rows.integer(number);
            rows.end_row();
        }
        let reject = |row| Reject::new(&strange, row, Encoding::Binary, "why".to_owned());
        let rejects: Vec<Reject> = rows.iter().take(50).map(reject).collect();
        for of in [1, 2, 5] {
            let (mut found, mut rejected) = (Vec::new(), Vec::new());
            for shard in shards(of) {
                let part = Division::new(shard, &strange).of(SourceBatch {
                    rows: rows.clone(),
                    rejects: rejects.clone(),
                });
                assert!(part.rows.len() > 900 / of as usize, "{shard}");
                found.extend(part.rows.iter().map(|row| row.as_bytes().to_vec()));
                rejected.extend(part.rejects.into_iter().map(|reject| reject.key));
            }
            let mut expected: Vec<_> = rows.iter().map(|row| row.as_bytes().to_vec()).collect();
            let mut keys: Vec<_> = rejects.iter().map(|reject| reject.key.clone()).collect();
            for list in [&mut found, &mut expected] {
                list.sort();
            }
            for list in [&mut rejected, &mut keys] {
                list.sort();
            }
            assert!(found == expected && rejected == keys, "{of}");
        }
    }
}

//! What is to be read of a table, and in which order.

use std::ops::RangeInclusive;

use super::digest::KeyRange;
use super::family::Division;
use super::layout::{Column, Layout};
use super::tuple::Encoding;
use crate::config::Driver;
use crate::model::Shard;

/// What to read of one table.
#[derive(Clone, Debug)]
pub struct Request {
    /// The columns, in the order in which they are wanted.
    pub layout: Layout,
    pub encoding: Encoding,
    /// The engine that is to hold the rows; those that it cannot hold are rejected.
    pub to: Driver,
    /// Rows after that key only; needs [`Order::Key`].
    pub after: Option<Cursor>,
    pub rows: Rows,
    pub order: Order,
}

/// The order in which the rows of a table come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By the key: text by its bytes, numbers and times by value.
    Key,
    /// As the database finds them fastest, several times faster than by key.
    Any,
}

impl Request {
    /// What a database is asked for, and what of its answer is wanted: it cannot tell parts.
    pub(super) fn divided(self) -> (Self, Option<Division>) {
        match self.rows {
            Rows::Part(shard) => {
                let division = Division::new(shard, &self.layout);
                let rows = Rows::All;
                (Self { rows, ..self }, Some(division))
            }
            _ => (self, None),
        }
    }

    /// The query, once for both engines: how they name the table, how they read a column, what they
    /// order by and how the key of the cursor is given are the caller's.
    pub(super) fn select(
        &self,
        from: &str,
        read: impl Fn(&Column) -> String,
        sort_key: impl Fn(&Column) -> String,
        after: &[String],
    ) -> String {
        let columns: Vec<String> = self.layout.columns.iter().map(read).collect();
        let mut sql = format!("SELECT {} FROM {from}", columns.join(", "));
        let key = self
            .layout
            .primary_key
            .iter()
            .map(|key| &self.layout.columns[*key]);
        let keys: Vec<String> = key.map(sort_key).collect();
        let chosen = self.rows.condition(keys.first().map(String::as_str));
        let key = keys.join(", ");
        let behind = (!after.is_empty()).then(|| format!("({key}) > ({})", after.join(", ")));
        let conditions: Vec<String> = chosen.into_iter().chain(behind).collect();
        if !conditions.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&conditions.join(" AND "));
        }
        if self.order == Order::Key && !key.is_empty() {
            sql.push_str(" ORDER BY ");
            sql.push_str(&key);
        }
        sql
    }
}

/// Which rows of a table to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    All,
    /// Of `files`, those whose status says that there are bytes.
    WithBlob,
    /// Those whose key begins with a text in one of these ranges; none if there is no range.
    Within(Vec<KeyRange>),
    /// Of SQLite, those with such a row-id.
    Numbered(RangeInclusive<i64>),
    /// Those of one part; each family of rows is in one.
    Part(Shard),
}

impl Rows {
    /// All, or those of a part.
    pub fn of_shard(shard: Option<Shard>) -> Self {
        shard.map_or(Self::All, Self::Part)
    }

    /// How many of so many rows these are, about.
    pub fn share_of(&self, rows: u64) -> u64 {
        match self {
            Self::Part(shard) => rows / u64::from(shard.of().get()),
            _ => rows,
        }
    }

    /// The condition, in the SQL of both engines; `key` is what they order the first column of
    /// the key by.
    fn condition(&self, key: Option<&str>) -> Option<String> {
        match (self, key) {
            (Self::WithBlob, _) => Some("status IN ('uploaded', 'removed')".to_owned()),
            (Self::Within(ranges), Some(key)) => {
                let ranges: Vec<String> = ranges.iter().map(|range| range.condition(key)).collect();
                Some(match ranges.is_empty() {
                    true => "1 = 0".to_owned(),
                    false => format!("({})", ranges.join(" OR ")),
                })
            }
            (Self::Numbered(range), _) => Some(format!(
                "_rowid_ BETWEEN {} AND {}",
                range.start(),
                range.end()
            )),
            (Self::All | Self::Part(_), _) | (Self::Within(_), None) => None,
        }
    }
}

/// The key of the last row read, written down so that a later run goes on behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(super) encoding: Encoding,
    /// The key's fields as a tuple; none of them is NULL.
    pub(super) key: Vec<u8>,
}

impl Cursor {
    /// As text, for a checkpoint.
    pub fn to_text(&self) -> String {
        use base64::Engine as _;
        let encoding = match self.encoding {
            Encoding::Binary => "binary",
            Encoding::Native => "native",
        };
        format!(
            "{encoding}:{}",
            base64::engine::general_purpose::STANDARD.encode(&self.key)
        )
    }

    /// Reads what [`Cursor::to_text`] wrote; `None` for anything else.
    pub fn from_text(text: &str) -> Option<Self> {
        use base64::Engine as _;
        let (encoding, key) = text.split_once(':')?;
        let encoding = match encoding {
            "binary" => Encoding::Binary,
            "native" => Encoding::Native,
            _ => return None,
        };
        let key = base64::engine::general_purpose::STANDARD.decode(key).ok()?;
        Some(Self { encoding, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::layout::quote;
    use crate::metadata::table::Kind;

    #[test]
    fn a_cursor_survives_being_written_down() {
        for encoding in [Encoding::Binary, Encoding::Native] {
            let cursor = Cursor {
                encoding,
                key: vec![0, 1, 255],
            };
            assert_eq!(Cursor::from_text(&cursor.to_text()), Some(cursor));
        }
        assert_eq!(Cursor::from_text("binary"), None);
        assert_eq!(Cursor::from_text("other:AA=="), None);
        assert_eq!(Cursor::from_text("binary:?"), None);
    }

    #[test]
    fn ranges_of_keys_are_a_condition_on_the_first_column_of_the_key() {
        let column = |name: &str| Column {
            name: name.to_owned(),
            kind: Kind::Text,
            declared: "text".to_owned(),
        };
        let range = |from: Option<&str>, until: Option<&str>| KeyRange {
            from: from.map(str::to_owned),
            until: until.map(str::to_owned),
        };
        let select = |ranges: Vec<KeyRange>| {
            let request = Request {
                layout: Layout {
                    name: "notes".to_owned(),
                    columns: vec![column("text"), column("id"), column("part")],
                    primary_key: vec![1, 2],
                    indexes: Vec::new(),
                },
                encoding: Encoding::Binary,
                to: Driver::Postgres,
                after: None,
                rows: Rows::Within(ranges),
                order: Order::Any,
            };
            let name = |column: &Column| column.name.clone();
            let sql = request.select(&quote(&request.layout.name), name, name, &[]);
            sql.replace("SELECT text, id, part FROM \"notes\"", "")
        };
        assert_eq!(
            select(vec![range(Some("a"), Some("b"))]),
            " WHERE ((id >= 'a' AND id < 'b'))"
        );
        assert_eq!(
            select(vec![range(None, Some("0")), range(Some("zz"), None)]),
            " WHERE ((id < '0') OR (id >= 'zz'))"
        );
        assert_eq!(select(vec![range(None, None)]), " WHERE (1 = 1)");
        assert_eq!(select(Vec::new()), " WHERE 1 = 0");
    }
}

//! Fields of tuples as parameters of a statement.

use jiff::tz::TimeZone;
use rusqlite::Statement;
use rusqlite::types::{ToSqlOutput, ValueRef};

use crate::metadata::layout::Layout;
use crate::metadata::table::Kind;
use crate::metadata::tuple::{Encoding, Native, POSTGRES_EPOCH_MICROS, Tuple};
use crate::model::{Timestamp, time};

/// How the fields of one table's rows are given to SQLite. Nothing is allocated per value.
pub struct Fields {
    encoding: Encoding,
    columns: Vec<Column>,
    /// The text of the time that is being bound.
    text: String,
}

struct Column {
    kind: Kind,
    zone: TimeZone,
}

impl Fields {
    pub fn new(layout: &Layout, encoding: Encoding, zone: &TimeZone) -> Self {
        let columns = layout.columns.iter().enumerate();
        let columns = columns.map(|(position, column)| Column {
            kind: column.kind,
            // A day that is part of a key is midnight UTC, in UTC, wherever the server is.
            zone: match layout.primary_key.contains(&position) {
                true => TimeZone::UTC,
                false => zone.clone(),
            },
        });
        Self {
            encoding,
            columns: columns.collect(),
            text: String::new(),
        }
    }

    /// Binds the field of column n, counted from 1, to parameter `?n`, if there is one.
    pub fn bind(&mut self, statement: &mut Statement<'_>, row: Tuple<'_>) -> rusqlite::Result<()> {
        let parameters = statement.parameter_count();
        let fields = row.fields().zip(&self.columns).take(parameters);
        for (position, (field, column)) in fields.enumerate() {
            let value = match self.encoding {
                Encoding::Native => native(field),
                Encoding::Binary => binary(field, column, &mut self.text),
            };
            statement.raw_bind_parameter(position + 1, ToSqlOutput::Borrowed(value))?;
        }
        Ok(())
    }
}

fn native(field: Option<&[u8]>) -> ValueRef<'_> {
    match Native::decode(field) {
        Some(Native::Integer(number)) => ValueRef::Integer(number),
        Some(Native::Real(number)) => ValueRef::Real(number),
        Some(Native::Text(text)) => ValueRef::Text(text),
        Some(Native::Blob(bytes)) => ValueRef::Blob(bytes),
        Some(Native::Null) | None => ValueRef::Null,
    }
}

fn binary<'a>(field: Option<&'a [u8]>, column: &Column, text: &'a mut String) -> ValueRef<'a> {
    let Some(bytes) = field else {
        return ValueRef::Null;
    };
    let number = || bytes.try_into().map_or(0, i64::from_be_bytes);
    match column.kind {
        Kind::Text => ValueRef::Text(bytes),
        Kind::Bytes => ValueRef::Blob(bytes),
        Kind::Integer => ValueRef::Integer(number()),
        Kind::Boolean => ValueRef::Integer(i64::from(bytes == [1])),
        Kind::Real => ValueRef::Real(bytes.try_into().map_or(0.0, f64::from_be_bytes)),
        Kind::Time => {
            let time = number()
                .checked_add(POSTGRES_EPOCH_MICROS)
                .and_then(|micros| Timestamp::from_microsecond(micros).ok());
            match time {
                Some(time) => {
                    text.clear();
                    time::write(time, &column.zone, text);
                    ValueRef::Text(text.as_bytes())
                }
                None => ValueRef::Null,
            }
        }
    }
}

//! Reads the rows of one table.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Statement, ToSql, params_from_iter};

use super::encode::{Judge, encode};
use super::failure;
use crate::metadata::MetadataError;
use crate::metadata::error::During;
use crate::metadata::layout::{Column, quote};
use crate::metadata::request::{Cursor, Request};
use crate::metadata::rules::Checks;
use crate::metadata::stream::{Message, Sender, SourceBatch, is_full};
use crate::metadata::table::Kind;
use crate::metadata::tuple::{Encoding, Native, POSTGRES_EPOCH_MICROS, Tuple};
use crate::model::time;

/// How many rows there were, whatever became of them. `None` if nobody wanted them all.
pub fn read_rows(
    connection: &Connection,
    request: &Request,
    checks: &Checks,
    batches: &Sender,
    label: &str,
) -> Result<Option<u64>, MetadataError> {
    let action = format!("read table {}", request.layout.name);
    let during = During {
        action: &action,
        backend: label,
    };
    let failed = |error| failure(during, &error);
    let mut statement = connection.prepare(&select(request)).map_err(failed)?;
    let after = after_key(request)
        .ok_or_else(|| during.failed("the checkpoint is not one of this table"))?;
    let mut rows = query(&mut statement, &after).map_err(failed)?;
    let judge = Judge::new(request, checks);
    let (mut batch, mut count) = (SourceBatch::roomy(), 0);
    while let Some(row) = rows.next().map_err(failed)? {
        count += 1;
        encode(row, &judge, &mut batch).map_err(failed)?;
        if is_full(&batch) {
            let full = std::mem::replace(&mut batch, SourceBatch::roomy());
            if batches.blocking_send(Message::Batch(full)).is_err() {
                return Ok(None);
            }
        }
    }
    if batch.rows.len() + batch.rejects.len() > 0 {
        let _ = batches.blocking_send(Message::Batch(batch));
    }
    Ok(Some(count))
}

fn query<'s>(
    statement: &'s mut Statement<'_>,
    after: &[ToSqlOutput<'_>],
) -> rusqlite::Result<rusqlite::Rows<'s>> {
    statement.query(params_from_iter(
        after.iter().map(|value| value as &dyn ToSql),
    ))
}

/// The statement that reads what `request` asks for, with the key of its cursor as parameters.
fn select(request: &Request) -> String {
    let keys = match request.after {
        Some(_) => request.layout.primary_key.len(),
        None => 0,
    };
    let parameters: Vec<String> = (1..=keys).map(|number| format!("?{number}")).collect();
    let from = quote(&request.layout.name);
    request.select(&from, |column| quote(&column.name), sort_key, &parameters)
}

/// Times are ordered as instants: their text may have several offsets.
fn sort_key(column: &Column) -> String {
    match column.kind {
        Kind::Time => format!("instant({})", quote(&column.name)),
        // The column may be declared with a collation of its own.
        Kind::Text => format!("{} COLLATE BINARY", quote(&column.name)),
        _ => quote(&column.name),
    }
}

/// The parameters of [`select`]. `None` if the cursor is not one of this table.
fn after_key(request: &Request) -> Option<Vec<ToSqlOutput<'_>>> {
    let Some(cursor) = &request.after else {
        return Some(Vec::new());
    };
    let kinds = request.layout.key_kinds();
    let fields: Vec<Option<&[u8]>> = Tuple::new(&cursor.key).fields().collect();
    if fields.len() != kinds.len() {
        return None;
    }
    fields
        .into_iter()
        .zip(kinds)
        .map(|(field, kind)| key_value(field, kind, cursor))
        .collect()
}

fn key_value<'a>(field: Option<&'a [u8]>, kind: Kind, cursor: &Cursor) -> Option<ToSqlOutput<'a>> {
    let value = match cursor.encoding {
        Encoding::Native => match (Native::decode(field)?, kind) {
            (Native::Text(text), Kind::Time) => {
                let time = time::parse(std::str::from_utf8(text).ok()?)?;
                ValueRef::Integer(time::to_micros(time))
            }
            (Native::Integer(number), _) => ValueRef::Integer(number),
            (Native::Real(number), _) => ValueRef::Real(number),
            (Native::Text(text), _) => ValueRef::Text(text),
            (Native::Blob(bytes), _) => ValueRef::Blob(bytes),
            (Native::Null, _) => return None,
        },
        Encoding::Binary => match kind {
            Kind::Text => ValueRef::Text(field?),
            Kind::Bytes => ValueRef::Blob(field?),
            Kind::Integer => ValueRef::Integer(i64::from_be_bytes(field?.try_into().ok()?)),
            Kind::Time => ValueRef::Integer(
                i64::from_be_bytes(field?.try_into().ok()?).checked_add(POSTGRES_EPOCH_MICROS)?,
            ),
            Kind::Boolean => ValueRef::Integer(i64::from(field? == [1])),
            Kind::Real => ValueRef::Real(f64::from_be_bytes(field?.try_into().ok()?)),
        },
    };
    Some(ToSqlOutput::Borrowed(value))
}

//! Rows as JSON: whole, with the storage class of each value, to be read and mended by a person.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::tz::TimeZone;
use rusqlite::types::ValueRef;
use serde_json::{Map, Value as Json, json};

use super::fault::{Fault, Reason};
use super::layout::{self, Layout};
use super::reject::StoredRow;
use super::sqlite::encode::binary;
use super::table::Kind;
use super::tuple::{Batch, Encoding, Native, POSTGRES_EPOCH_MICROS, Tuple};
use crate::model::{Timestamp, time};

impl StoredRow {
    /// The row as an object: NULL, or the value below the name of its storage class (`integer`,
    /// `real`, `text`, `text_base64` where it is no text that JSON can hold, `blob` in base64,
    /// `boolean`, `time`).
    pub fn to_json(&self, layout: &Layout) -> Map<String, Json> {
        let columns = layout.columns.iter().zip(Tuple::new(&self.tuple).fields());
        columns
            .map(|(column, field)| {
                let value = match self.encoding {
                    Encoding::Native => native(Native::decode(field)),
                    Encoding::Binary => {
                        field.map_or(Json::Null, |field| of_kind(field, column.kind))
                    }
                };
                (column.name.clone(), value)
            })
            .collect()
    }
}

fn native(value: Option<Native<'_>>) -> Json {
    match value {
        None | Some(Native::Null) => Json::Null,
        Some(Native::Integer(number)) => json!({ "integer": number }),
        // As text, which is exact and knows infinity.
        Some(Native::Real(number)) => json!({ "real": number.to_string() }),
        Some(Native::Text(bytes)) => text(bytes),
        Some(Native::Blob(bytes)) => json!({ "blob": BASE64.encode(bytes) }),
    }
}

fn text(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => json!({ "text": text }),
        _ => json!({ "text_base64": BASE64.encode(bytes) }),
    }
}

fn of_kind(field: &[u8], kind: Kind) -> Json {
    let number = || field.try_into().map_or(0, i64::from_be_bytes);
    match kind {
        Kind::Text => text(field),
        Kind::Bytes => json!({ "blob": BASE64.encode(field) }),
        Kind::Integer => json!({ "integer": number() }),
        Kind::Boolean => json!({ "boolean": field == [1] }),
        Kind::Real => {
            json!({ "real": field.try_into().map_or(0.0, f64::from_be_bytes).to_string() })
        }
        Kind::Time => json!({ "time": shown_time(number()) }),
    }
}

/// A time of PostgreSQL, in microseconds since 2000.
fn shown_time(micros: i64) -> String {
    let time = micros
        .checked_add(POSTGRES_EPOCH_MICROS)
        .and_then(|micros| Timestamp::from_microsecond(micros).ok());
    match (micros, time) {
        (i64::MAX, _) => "infinity".to_owned(),
        (i64::MIN, _) => "-infinity".to_owned(),
        (_, Some(time)) => time.to_string(),
        (micros, None) => format!("{micros} microseconds after 2000-01-01T00:00:00Z"),
    }
}

/// A value that was read from JSON.
#[derive(Debug, PartialEq)]
enum Read {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
    Boolean(bool),
    Time(String),
}

impl Read {
    /// # Errors
    ///
    /// What is wrong with the JSON.
    fn of(json: &Json) -> Result<Self, String> {
        let Json::Object(object) = json else {
            return match json {
                Json::Null => Ok(Self::Null),
                _ => Err("is neither null nor an object with a storage class".to_owned()),
            };
        };
        let (Some((class, value)), 1) = (object.iter().next(), object.len()) else {
            return Err("must have one storage class".to_owned());
        };
        let text = || value.as_str().map(str::to_owned);
        let bytes = || BASE64.decode(value.as_str()?).ok();
        let read = match class.as_str() {
            "integer" => value.as_i64().map(Self::Integer),
            "real" => match value.as_str() {
                Some(text) => text.parse().ok().map(Self::Real),
                None => value.as_f64().map(Self::Real),
            },
            "text" => text().map(|text| Self::Text(text.into_bytes())),
            "text_base64" => bytes().map(Self::Text),
            "blob" => bytes().map(Self::Blob),
            "boolean" => value.as_bool().map(Self::Boolean),
            "time" => text().map(Self::Time),
            _ => return Err(format!("has the unknown storage class {class}")),
        };
        read.ok_or_else(|| format!("is no {class}"))
    }

    fn native(&self) -> Native<'_> {
        match self.value() {
            ValueRef::Null => Native::Null,
            ValueRef::Integer(number) => Native::Integer(number),
            ValueRef::Real(number) => Native::Real(number),
            ValueRef::Text(bytes) => Native::Text(bytes),
            ValueRef::Blob(bytes) => Native::Blob(bytes),
        }
    }

    fn value(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(bytes) => ValueRef::Text(bytes),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
            Self::Boolean(truth) => ValueRef::Integer(i64::from(*truth)),
            Self::Time(time) => ValueRef::Text(time.as_bytes()),
        }
    }
}

/// A row that was read from JSON, to be encoded for a target.
#[derive(Debug)]
pub struct ReadRow(Vec<Read>);

impl ReadRow {
    /// Reads the columns of `layout`, each of which `row` must have.
    ///
    /// # Errors
    ///
    /// What is wrong with the JSON, with the column.
    pub fn of(row: &Map<String, Json>, layout: &Layout) -> Result<Self, String> {
        let read = layout.columns.iter().map(|column| {
            let value = row.get(&column.name).unwrap_or(&Json::Null);
            Read::of(value).map_err(|cause| format!("column {} {cause}", column.name))
        });
        read.collect::<Result<_, _>>().map(Self)
    }

    /// The row as it was read.
    pub fn stored(&self) -> StoredRow {
        let mut row = Batch::default();
        row.begin_row(self.0.len());
        self.0.iter().for_each(|read| row.native(read.native()));
        row.end_row();
        StoredRow {
            encoding: Encoding::Native,
            tuple: row.as_bytes().to_vec(),
        }
    }

    /// Appends the row to `out`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with its values; nothing is appended then.
    pub fn encode(
        &self,
        layout: &Layout,
        encoding: Encoding,
        out: &mut Batch,
    ) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        out.begin_row(layout.columns.len());
        for (position, (read, column)) in self.0.iter().zip(&layout.columns).enumerate() {
            let is_key = layout.primary_key.contains(&position);
            let encoded = match (read, encoding) {
                (Read::Null, _) if is_key => Err(Reason::NullInKey),
                (Read::Blob(_), Encoding::Binary) if is_key => Err(Reason::BytesInKey),
                (read, Encoding::Native) => push_native(read, out),
                (read, Encoding::Binary) => {
                    let limit = layout::max_length(&layout.name, &column.name);
                    binary(read.value(), column.kind, limit, out)
                }
            };
            faults.extend(encoded.err().map(|reason| Fault {
                column: Some(column.name.clone()),
                reason,
            }));
        }
        if faults.is_empty() {
            out.end_row();
            return Ok(());
        }
        out.abandon_row();
        Err(faults)
    }
}

fn push_native(read: &Read, out: &mut Batch) -> Result<(), Reason> {
    match read {
        Read::Time(text) => {
            let time = time::parse(text).ok_or(Reason::NoTime)?;
            out.native(Native::Text(time::format(time, &TimeZone::UTC).as_bytes()));
        }
        read => out.native(read.native()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::layout::Column;

    fn layout(kinds: &[Kind]) -> Layout {
        let columns = kinds.iter().enumerate().map(|(number, kind)| Column {
            name: format!("c{number}"),
            kind: *kind,
            declared: String::new(),
        });
        Layout {
            name: "notes".to_owned(),
            columns: columns.collect(),
            primary_key: vec![0],
            indexes: Vec::new(),
        }
    }

    fn there_and_back(batch: &Batch, layout: &Layout, encoding: Encoding) -> Json {
        let stored = StoredRow {
            encoding,
            tuple: batch.tuple(0).as_bytes().to_vec(),
        };
        let json = stored.to_json(layout);
        let mut back = Batch::default();
        ReadRow::of(&json, layout)
            .unwrap()
            .encode(layout, encoding, &mut back)
            .unwrap();
        assert_eq!(back.as_bytes(), batch.as_bytes());
        Json::Object(json)
    }

    #[test]
    fn every_storage_class_survives_to_the_last_bit() {
        let values = [
            Native::Text(b"a key"),
            Native::Null,
            Native::Integer(i64::MIN),
            Native::Real(0.1),
            Native::Real(f64::NEG_INFINITY),
            Native::Text(b"\xff\0"),
            Native::Blob(b"\0\x01"),
            Native::Text("😀 \"\\\n".as_bytes()),
        ];
        let mut batch = Batch::default();
        batch.begin_row(values.len());
        values.iter().for_each(|value| batch.native(*value));
        batch.end_row();
        let json = there_and_back(&batch, &layout(&[Kind::Text; 8]), Encoding::Native);
        assert_eq!(json["c1"], Json::Null);
        assert_eq!(json["c5"], json!({ "text_base64": "/wA=" }));
        assert_eq!(json["c6"], json!({ "blob": "AAE=" }));
    }

    #[test]
    fn every_kind_survives() {
        let kinds = [
            Kind::Text,
            Kind::Integer,
            Kind::Boolean,
            Kind::Time,
            Kind::Real,
            Kind::Bytes,
        ];
        let mut batch = Batch::default();
        batch.begin_row(kinds.len());
        batch.field(b"id");
        batch.integer(-7);
        batch.boolean(true);
        batch.time(1_714_979_289_000_001);
        batch.real(1e-300);
        batch.field(b"\xff");
        batch.end_row();
        let json = there_and_back(&batch, &layout(&kinds), Encoding::Binary);
        assert_eq!(json["c3"], json!({ "time": "2024-05-06T07:08:09.000001Z" }));
    }

    #[test]
    fn a_value_that_the_target_cannot_hold_is_named() {
        let layout = layout(&[Kind::Text, Kind::Time, Kind::Boolean]);
        let row = json!({
            "c0": { "text_base64": "AA==" }, "c1": { "time": "infinity" }, "c2": { "integer": 2 },
        });
        let read = ReadRow::of(row.as_object().unwrap(), &layout).unwrap();
        let mut batch = Batch::default();
        let faults = read
            .encode(&layout, Encoding::Binary, &mut batch)
            .unwrap_err();
        let reasons: Vec<_> = faults.into_iter().map(|fault| fault.reason).collect();
        assert_eq!(reasons, [Reason::Nul, Reason::NoTime, Reason::NoBoolean]);
        assert!(batch.as_bytes().is_empty());
    }

    #[test]
    fn what_is_no_value_is_told_with_its_column() {
        let layout = layout(&[Kind::Text]);
        for (value, cause) in [
            (json!("plain"), "c0 is neither"),
            (json!({}), "c0 must have one"),
            (json!({ "text": "a", "blob": "" }), "c0 must have one"),
            (json!({ "integer": 1.5 }), "c0 is no integer"),
            (json!({ "blob": "?" }), "c0 is no blob"),
            (json!({ "number": 1 }), "unknown storage class number"),
        ] {
            let row = json!({ "c0": value });
            let error = ReadRow::of(row.as_object().unwrap(), &layout).unwrap_err();
            assert!(error.contains(cause), "{error}");
        }
    }
}

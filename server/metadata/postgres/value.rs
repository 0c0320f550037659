//! Values as PostgreSQL sends and takes them: in binary, by the type that the server says.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::metadata::value::Value;
use crate::model::time;

type BoxError = Box<dyn Error + Sync + Send>;

/// From 1970 to 2000, where PostgreSQL begins to count.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, BoxError> {
        match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Text(text) => out.put_slice(text.as_bytes()),
            Self::Boolean(boolean) => out.put_u8(u8::from(*boolean)),
            Self::Integer(number) => match *ty {
                Type::INT2 => out.put_i16((*number).try_into()?),
                Type::INT4 => out.put_i32((*number).try_into()?),
                _ => out.put_i64(*number),
            },
            Self::Time(time) => out.put_i64(time::to_micros(*time) - EPOCH_MICROS),
            Self::Day(day) => {
                let midnight = day.to_zoned(TimeZone::UTC)?.timestamp();
                out.put_i64(time::to_micros(midnight) - EPOCH_MICROS);
            }
        }
        Ok(IsNull::No)
    }

    /// What a value is sent as depends on the value too, so that is checked in `to_sql_checked`.
    fn accepts(ty: &Type) -> bool {
        is_text(ty) || is_integer(ty) || is_time(ty) || *ty == Type::BOOL
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, BoxError> {
        Ok(match *ty {
            Type::BOOL => Self::Boolean(raw != [0]),
            Type::INT2 => Self::Integer(i16::from_be_bytes(raw.try_into()?).into()),
            Type::INT4 => Self::Integer(i32::from_be_bytes(raw.try_into()?).into()),
            Type::INT8 => Self::Integer(i64::from_be_bytes(raw.try_into()?)),
            Type::TIMESTAMPTZ => read_time(i64::from_be_bytes(raw.try_into()?)),
            _ => Self::Text(std::str::from_utf8(raw)?.to_owned()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, BoxError> {
        Ok(Self::Null)
    }

    fn accepts(ty: &Type) -> bool {
        <Self as ToSql>::accepts(ty)
    }
}

/// The infinities, and years that no calendar of ours has, are no time.
fn read_time(micros: i64) -> Value {
    micros
        .checked_add(EPOCH_MICROS)
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .map_or(Value::Null, Value::Time)
}

fn is_text(ty: &Type) -> bool {
    [Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME].contains(ty)
}

fn is_integer(ty: &Type) -> bool {
    [Type::INT2, Type::INT4, Type::INT8].contains(ty)
}

fn is_time(ty: &Type) -> bool {
    *ty == Type::TIMESTAMPTZ
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(value: &Value, ty: &Type) -> Value {
        let mut out = BytesMut::new();
        match value.to_sql(ty, &mut out).unwrap() {
            IsNull::Yes => Value::from_sql_null(ty).unwrap(),
            IsNull::No => Value::from_sql(ty, &out).unwrap(),
        }
    }

    #[test]
    fn values_come_back_through_the_type_of_their_column() {
        let time: Timestamp = "1999-12-31T23:59:59.000001Z".parse().unwrap();
        for (value, ty) in [
            (Value::from("愛"), Type::TEXT),
            (Value::from("愛"), Type::VARCHAR),
            (Value::from(-1_i64), Type::INT2),
            (Value::from(-70_000_i64), Type::INT4),
            (Value::from(i64::MIN), Type::INT8),
            (Value::from(true), Type::BOOL),
            (Value::from(false), Type::BOOL),
            (Value::from(time), Type::TIMESTAMPTZ),
            (Value::Null, Type::TIMESTAMPTZ),
        ] {
            assert_eq!(round_trip(&value, &ty), value, "{ty}");
        }
    }

    #[test]
    fn nanoseconds_are_cut_to_microseconds() {
        let time: Timestamp = "2024-01-02T03:04:05.999999999Z".parse().unwrap();
        let cut: Timestamp = "2024-01-02T03:04:05.999999Z".parse().unwrap();
        assert_eq!(
            round_trip(&Value::from(time), &Type::TIMESTAMPTZ),
            Value::from(cut)
        );
    }

    #[test]
    fn a_day_is_its_midnight_in_utc() {
        let day = jiff::civil::date(2026, 7, 8);
        let midnight: Timestamp = "2026-07-08T00:00:00Z".parse().unwrap();
        assert_eq!(
            round_trip(&Value::Day(day), &Type::TIMESTAMPTZ),
            Value::from(midnight)
        );
    }

    #[test]
    fn infinities_are_no_times_and_large_numbers_do_not_wrap() {
        for micros in [i64::MIN, i64::MAX] {
            let raw = micros.to_be_bytes();
            assert_eq!(
                Value::from_sql(&Type::TIMESTAMPTZ, &raw).unwrap(),
                Value::Null
            );
        }
        let mut out = BytesMut::new();
        assert!(
            Value::from(70_000_i64)
                .to_sql(&Type::INT2, &mut out)
                .is_err()
        );
    }
}

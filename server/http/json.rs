//! JSON as Plik's clients write and read it.
//!
//! Answers are compact and safe inside HTML. In requests, key names match without regard to case,
//! unknown keys are ignored, `null` leaves the default, and types are strict.

use std::fmt;
use std::io;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use crate::model::Timestamp;

/// The JSON text of an answer.
pub fn write(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::with_capacity(512);
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut out, WebSafe,
    ))?;
    Ok(out)
}

/// A time that is always present: an unknown one is year 1, which clients read as "not set".
pub fn time_or_zero<S: Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_str("0001-01-01T00:00:00Z"),
    }
}

/// A time that may be missing, then `null`.
pub fn time_or_null<S: Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

/// Escapes what could end a `<script>` element or a JavaScript line.
struct WebSafe;

impl Formatter for WebSafe {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut written = 0;
        for (at, letter) in fragment.char_indices() {
            let escape = match letter {
                '<' => "\\u003c",
                '>' => "\\u003e",
                '&' => "\\u0026",
                '\u{2028}' => "\\u2028",
                '\u{2029}' => "\\u2029",
                _ => continue,
            };
            writer.write_all(&fragment.as_bytes()[written..at])?;
            writer.write_all(escape.as_bytes())?;
            written = at + letter.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[written..])
    }
}

/// What the keys of a JSON object are read into.
pub trait Fields: Default {
    /// Reads the value of `key`, which is in lower case; `false` if the key is none of ours, and
    /// then the value has not been touched.
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// A JSON object whose keys match without regard to case. `null` is an object without keys.
#[derive(Debug, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Fields> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(ObjectVisitor(PhantomData))
            .map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Fields> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: de::Error>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut fields = T::default();
        while let Some(key) = map.next_key::<String>()? {
            if !fields.read(&key.to_lowercase(), &mut map)? {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(fields)
    }
}

/// Reads the next value into `slot`, unless it is `null`. For [`Fields::read`].
pub fn read_into<'de, T, A>(slot: &mut T, map: &mut A) -> Result<bool, A::Error>
where
    T: Deserialize<'de>,
    A: MapAccess<'de>,
{
    if let Some(value) = map.next_value()? {
        *slot = value;
    }
    Ok(true)
}

/// Reads the next value, a text, into `slot`, unless it is `null`. For [`Fields::read`].
///
/// A NUL character is refused: SQLite would keep it, PostgreSQL cannot.
pub fn read_text_into<'de, A: MapAccess<'de>>(
    slot: &mut String,
    map: &mut A,
) -> Result<bool, A::Error> {
    read_into(slot, map)?;
    if slot.contains('\0') {
        return Err(de::Error::custom("a text must not contain a NUL character"));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Sample {
        count: i64,
        flag: bool,
        text: String,
    }

    impl Fields for Sample {
        fn read<'de, A: MapAccess<'de>>(
            &mut self,
            key: &str,
            map: &mut A,
        ) -> Result<bool, A::Error> {
            match key {
                "count" => read_into(&mut self.count, map),
                "oneflag" => read_into(&mut self.flag, map),
                "text" => read_text_into(&mut self.text, map),
                _ => Ok(false),
            }
        }
    }

    fn read(text: &str) -> Result<Sample, serde_json::Error> {
        serde_json::from_str::<Object<Sample>>(text).map(|object| object.0)
    }

    #[test]
    fn keys_match_without_regard_to_case_and_unknown_ones_are_ignored() {
        let sample = read(r#"{"COUNT":3,"other":{"a":[1,{}]},"OneFlag":true,"tExt":"é"}"#);
        let expected = Sample {
            count: 3,
            flag: true,
            text: "é".into(),
        };
        assert_eq!(sample.unwrap(), expected);
        assert_eq!(read(r#"{"count":1,"Count":2}"#).unwrap().count, 2);
    }

    #[test]
    fn null_leaves_the_default() {
        assert_eq!(read("null").unwrap(), Sample::default());
        let sample = read(r#"{"count":7,"count":null,"text":null,"oneFlag":null}"#).unwrap();
        assert_eq!(sample.count, 7);
        assert_eq!(sample.text, "");
    }

    #[test]
    fn types_are_strict() {
        for text in [
            r#"{"count":"3"}"#,
            r#"{"count":3.0}"#,
            r#"{"count":1e3}"#,
            r#"{"count":9223372036854775808}"#,
            r#"{"oneFlag":"true"}"#,
            r#"{"oneFlag":1}"#,
            r#"{"text":5}"#,
            r#"{"text":"a\u0000b"}"#,
            r#"{} {}"#,
            r#"[]"#,
            r#""x""#,
            r#""#,
            r#"{"count":1"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(
            read(r#" {"count":-9223372036854775808} "#).unwrap().count,
            i64::MIN
        );
    }

    #[test]
    fn answers_are_compact_and_safe_inside_html() {
        #[derive(Serialize)]
        struct Answer {
            text: &'static str,
            list: Option<Vec<i64>>,
        }
        let answer = Answer {
            text: "<a href=\"x\">&é\u{2028}\u{2029}\n</a>",
            list: None,
        };
        assert_eq!(
            String::from_utf8(write(&answer).unwrap()).unwrap(),
            r#"{"text":"\u003ca href=\"x\"\u003e\u0026é\u2028\u2029\n\u003c/a\u003e","list":null}"#
        );
    }

    #[test]
    fn times_drop_trailing_zeros_and_are_utc() {
        #[derive(Serialize)]
        struct Times {
            #[serde(serialize_with = "time_or_zero")]
            created: Option<Timestamp>,
            #[serde(serialize_with = "time_or_null")]
            expires: Option<Timestamp>,
        }
        let text = |created, expires| {
            String::from_utf8(write(&Times { created, expires }).unwrap()).unwrap()
        };
        let time: Timestamp = "2026-11-20T22:50:43.307286700+02:00".parse().unwrap();
        assert_eq!(
            text(Some(time), Timestamp::from_second(0).ok()),
            r#"{"created":"2026-11-20T20:50:43.3072867Z","expires":"1970-01-01T00:00:00Z"}"#
        );
        assert_eq!(
            text(None, None),
            r#"{"created":"0001-01-01T00:00:00Z","expires":null}"#
        );
    }
}

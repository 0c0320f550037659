//! The lines of a file of rejected rows, and what may be wrong with them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::files;
use crate::metadata::{Layout, ReadRow};
use crate::migrate::error::{BadLine, MigrateError};
use crate::migrate::rejects::{FORMAT, Line};

/// Bad lines that are named.
const BAD_LINES_KEPT: usize = 100;

/// A longer line is no row: both databases stop at 1 GB per value, Plik long before.
const MOST_LINE_BYTES: u64 = 512 << 20;

/// Reads every line, and counts them by table.
pub fn check(file: &Path, layouts: &[Layout]) -> Result<HashMap<String, u64>, MigrateError> {
    let mut counts = HashMap::new();
    let (mut bad, mut total) = (Vec::new(), 0);
    let mut lines = Lines::open(file)?;
    while let Some((number, text)) = lines.next_line()? {
        let line = parse(&text).and_then(|line| {
            let layout = layout_of(&line, layouts)?;
            ReadRow::of(&line.row, &layout)?;
            Ok(line.table)
        });
        match line {
            Ok(table) => *counts.entry(table).or_default() += 1,
            Err(cause) => {
                total += 1;
                if bad.len() < BAD_LINES_KEPT {
                    bad.push(BadLine {
                        line: number,
                        cause,
                    });
                }
            }
        }
    }
    match total {
        0 => Ok(counts),
        total => Err(MigrateError::BadLines {
            path: file.to_owned(),
            lines: bad,
            total,
        }),
    }
}

/// # Errors
///
/// What is wrong with the line; no value is shown.
pub fn parse(text: &[u8]) -> Result<Line, String> {
    if text.len() as u64 >= MOST_LINE_BYTES {
        return Err("it is too long for a row".to_owned());
    }
    let line: Line = serde_json::from_slice(text).map_err(|error| {
        let column = error.column();
        match error.is_data() {
            true => format!("it lacks a part of a rejected row, or has one of another type (near column {column})"),
            false => format!("it is no JSON, from column {column} on"),
        }
    })?;
    match (line.format, line.encoding.as_str()) {
        (FORMAT, "native" | "binary") => Ok(line),
        (FORMAT, _) => Err("its encoding is neither native nor binary".to_owned()),
        (format, _) => Err(format!(
            "it has format {format}, this program reads {FORMAT}"
        )),
    }
}

/// The columns of the target that the line has.
pub fn layout_of(line: &Line, layouts: &[Layout]) -> Result<Layout, String> {
    let table = &line.table;
    let Some(layout) = layouts.iter().find(|layout| layout.name == *table) else {
        return Err(format!("the target has no table {table}"));
    };
    let names: Vec<&str> = line.row.keys().map(String::as_str).collect();
    if let Some(name) = names.iter().find(|name| layout.position(name).is_none()) {
        return Err(format!("table {table} of the target has no column {name}"));
    }
    let found = layout.project(&names);
    match found.primary_key.is_empty() {
        true => Err(format!(
            "it lacks a column of the key ({})",
            layout.key_names().join(", ")
        )),
        false => Ok(found),
    }
}

/// The lines of a file that are not blank, with their numbers from 1.
pub struct Lines<'a> {
    path: &'a Path,
    lines: BufReader<File>,
    number: usize,
}

impl<'a> Lines<'a> {
    pub fn open(path: &'a Path) -> Result<Self, MigrateError> {
        // It is read more than once.
        let file = files::open_regular(path, File::options().read(true))
            .map_err(|source| unreadable(path, source))?;
        Ok(Self {
            path,
            lines: BufReader::new(file),
            number: 0,
        })
    }

    pub fn next_line(&mut self) -> Result<Option<(usize, Vec<u8>)>, MigrateError> {
        loop {
            let mut text = Vec::new();
            let mut bounded = (&mut self.lines).take(MOST_LINE_BYTES);
            let length = bounded
                .read_until(b'\n', &mut text)
                .map_err(|source| unreadable(self.path, source))?;
            self.number += 1;
            if length == 0 {
                return Ok(None);
            }
            if !text.trim_ascii().is_empty() {
                return Ok(Some((self.number, text)));
            }
        }
    }
}

fn unreadable(path: &Path, source: io::Error) -> MigrateError {
    MigrateError::ReplayFile {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Column;
    use crate::metadata::table::Kind;

    fn line(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        let mut line = serde_json::json!({
            "format": 1, "source": "s", "table": "users", "key": "joe", "reasons": [],
            "encoding": "native", "row": { "id": { "text": "joe" } },
        });
        change(&mut line);
        line.to_string().into_bytes()
    }

    fn users() -> Layout {
        let columns = [("id", Kind::Text), ("name", Kind::Text)];
        Layout {
            name: "users".to_owned(),
            columns: columns
                .map(|(name, kind)| Column {
                    name: name.to_owned(),
                    kind,
                    declared: "text".to_owned(),
                })
                .to_vec(),
            primary_key: vec![0],
            indexes: Vec::new(),
        }
    }

    #[test]
    fn bad_lines_are_named_with_number_and_cause() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rows");
        let lines = [
            line(|_| ()),
            b"  ".to_vec(),
            b"{".to_vec(),
            line(|line| line["format"] = 2.into()),
            line(|line| line["table"] = "notes".into()),
            line(|line| line["row"]["age"] = serde_json::Value::Null),
            line(|line| line["row"] = serde_json::json!({ "name": { "text": "x" } })),
            line(|line| line["row"]["name"] = "secret".into()),
            line(|line| line["encoding"] = "other".into()),
            line(|line| line["table"] = 7.into()),
        ];
        std::fs::write(&path, lines.join(&b'\n')).unwrap();
        let Err(MigrateError::BadLines { lines, total, .. }) = check(&path, &[users()]) else {
            unreachable!("the lines are bad")
        };
        assert_eq!(total, 8);
        let found: Vec<String> = lines
            .iter()
            .map(|bad| format!("{} {}", bad.line, bad.cause))
            .collect();
        let expected = [
            "3 it is no JSON",
            "4 it has format 2",
            "5 the target has no table notes",
            "6 table users of the target has no column age",
            "7 it lacks a column of the key (id)",
            "8 column name is neither",
            "9 its encoding is neither",
            "10 it lacks a part",
        ];
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
            assert!(!found.contains("secret"), "{found}");
        }
    }
}

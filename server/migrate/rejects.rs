//! Rows that cannot go to the target, kept whole in a file of JSON lines.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::error::MigrateError;
use crate::files;
use crate::metadata::{Encoding, Fault, Layout, Reject, Snapshot};

/// The version of the lines, in each of them.
pub(super) const FORMAT: u32 = 1;

/// One line of a file of rejected rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub format: u32,
    /// The database that the row comes from.
    pub source: String,
    pub table: String,
    /// For a person to find the row.
    pub key: String,
    pub reasons: Vec<LineReason>,
    /// `native` if the values have the storage classes of SQLite, else `binary`.
    pub encoding: String,
    pub row: Map<String, Json>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LineReason {
    #[serde(default)]
    pub column: Option<String>,
    pub kind: String,
    pub reason: String,
}

impl LineReason {
    pub fn all(faults: &[Fault]) -> Vec<Self> {
        let reasons = faults.iter().map(|fault| Self {
            column: fault.column.clone(),
            kind: fault.reason.kind().to_owned(),
            reason: fault.reason.to_string(),
        });
        reasons.collect()
    }
}

/// A file that rejected rows are appended to, each once.
///
/// Only its owner can read it, since rows hold tokens and passwords. One that is there is never
/// overwritten: if its rows are all of the same source it is continued, else refused.
pub(super) struct RejectsFile {
    path: PathBuf,
    out: BufWriter<File>,
    source: String,
    layouts: HashMap<String, Layout>,
    /// Digests of the rows that the file has.
    seen: HashSet<[u8; 16]>,
    dirty: bool,
}

impl RejectsFile {
    /// # Errors
    ///
    /// [`MigrateError::RejectsTaken`] if the file has rows of another source, or something else.
    pub fn open(path: &Path, from: &Snapshot, layouts: &[Layout]) -> Result<Self, MigrateError> {
        let failed = |source| MigrateError::Rejects {
            path: path.to_owned(),
            source,
        };
        let source = from.identity().to_string();
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let file = files::open_regular(path, &mut options).map_err(failed)?;
        let seen = continued(&file, &source).map_err(failed)?;
        let seen = seen.ok_or_else(|| MigrateError::RejectsTaken(path.to_owned()))?;
        sync_directory(path).map_err(failed)?;
        let named = |layout: &Layout| (layout.name.clone(), layout.clone());
        Ok(Self {
            path: path.to_owned(),
            out: BufWriter::new(file),
            source,
            layouts: layouts.iter().map(named).collect(),
            seen,
            dirty: false,
        })
    }

    /// Appends the row unless it is there. It is on stable storage after [`RejectsFile::sync`].
    pub fn add(&mut self, reject: &Reject) -> Result<(), MigrateError> {
        let Some(layout) = self.layouts.get(&reject.table) else {
            return Ok(());
        };
        let line = Line {
            format: FORMAT,
            source: self.source.clone(),
            table: reject.table.clone(),
            key: reject.key.clone(),
            reasons: LineReason::all(&reject.faults),
            encoding: match reject.row.encoding {
                Encoding::Native => "native".to_owned(),
                Encoding::Binary => "binary".to_owned(),
            },
            row: reject.row.to_json(layout),
        };
        if self.seen.insert(digest(&line)) {
            write_line(&mut self.out, &line).map_err(|source| self.failed(source))?;
            self.dirty = true;
        }
        Ok(())
    }

    /// Brings everything to stable storage.
    pub fn sync(&mut self) -> Result<(), MigrateError> {
        if std::mem::take(&mut self.dirty) {
            let flushed = self
                .out
                .flush()
                .and_then(|()| self.out.get_ref().sync_all());
            flushed.map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> MigrateError {
        MigrateError::Rejects {
            path: self.path.clone(),
            source,
        }
    }
}

pub(super) fn write_line(out: &mut impl Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// A new name is on stable storage when its directory is.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Which row a line is about, whatever was wrong with it.
fn digest(line: &Line) -> [u8; 16] {
    let row = Json::Object(line.row.clone()).to_string();
    Md5::new()
        .chain_update(&line.table)
        .chain_update([0])
        .chain_update(row)
        .finalize()
        .into()
}

/// The rows that the file has. `None` if it has anything but rows of `source`. A last line without
/// its end gets one if it is whole, as an editor may leave it, and is taken away if a run that was
/// cut off has left the beginning of one.
fn continued(mut file: &File, source: &str) -> io::Result<Option<HashSet<[u8; 16]>>> {
    let mut seen = HashSet::new();
    let mut whole = 0;
    file.seek(SeekFrom::Start(0))?;
    let mut lines = BufReader::new(file);
    let mut text = Vec::new();
    loop {
        text.clear();
        let length = lines.read_until(b'\n', &mut text)?;
        if length == 0 {
            return Ok(Some(seen));
        }
        let has_end = text.last() == Some(&b'\n');
        match serde_json::from_slice::<Line>(&text) {
            Ok(line) if line.source == source && line.format == FORMAT => {
                seen.insert(digest(&line));
                if !has_end {
                    file.write_all(b"\n")?;
                }
            }
            Err(error) if !has_end && error.is_eof() && is_begun(&text, source)? => {
                file.set_len(whole)?;
            }
            _ => return Ok(None),
        }
        whole += length as u64;
    }
}

/// Whether `text` begins as each line with a row of `source` does.
fn is_begun(text: &[u8], source: &str) -> io::Result<bool> {
    let source = serde_json::to_string(source)?;
    let begin = format!("{{\"format\":{FORMAT},\"source\":{source},\"table\":\"");
    let length = text.len().min(begin.len());
    Ok(text[..length] == begin.as_bytes()[..length])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(key: &str) -> Line {
        Line {
            format: FORMAT,
            source: "sqlite:1:2".to_owned(),
            table: "files".to_owned(),
            key: key.to_owned(),
            reasons: Vec::new(),
            encoding: "native".to_owned(),
            row: Map::from_iter([("id".to_owned(), Json::from(key))]),
        }
    }

    fn text(lines: &[Line]) -> String {
        let mut out = Vec::new();
        for line in lines {
            write_line(&mut out, line).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    /// How many rows a file of that text is found to have, and what it has then.
    fn go_on(text: &str) -> (Option<usize>, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rejects.jsonl");
        fs::write(&path, text).unwrap();
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).open(&path).unwrap();
        let seen = continued(&file, "sqlite:1:2").unwrap();
        let seen = seen.map(|seen| seen.len());
        (seen, fs::read_to_string(&path).unwrap())
    }

    #[test]
    fn a_line_that_was_cut_off_is_taken_away_wherever_it_was_cut() {
        let whole = text(&[line("a")]);
        let both = text(&[line("a"), line("b")]);
        for cut in whole.len() + 1..both.len() - 1 {
            assert_eq!(go_on(&both[..cut]), (Some(1), whole.clone()), "{cut}");
        }
        assert_eq!(go_on(&whole[..1]), (Some(0), String::new()));
    }

    #[test]
    fn a_whole_line_stays_though_its_end_is_missing() {
        let both = text(&[line("a"), line("b")]);
        assert_eq!(go_on(both.trim_end()), (Some(2), both));
    }

    #[test]
    fn what_is_no_line_of_ours_is_refused_and_stays() {
        let ours = text(&[line("a")]);
        let other = text(&[Line {
            source: "sqlite:3:4".to_owned(),
            ..line("a")
        }]);
        for text in [
            "{\"format\":\"a3\",\"printer\":\"x\"}",
            "{\"format\":1}",
            "{\"format\":1,\"source\":\"sqlite:3:4\",\"table\":\"fi",
            "a note\n",
            other.trim_end(),
            &format!("{ours}a note at the end"),
            &format!("{ours}{other}"),
            &format!("{ours}{{\"format\":1,}}"),
        ] {
            assert_eq!(go_on(text), (None, text.to_owned()));
        }
    }
}

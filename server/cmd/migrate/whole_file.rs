//! A file that appears under its name when all of it is written.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Written beside its place and renamed at the end. Dropped before that, it leaves nothing.
///
/// Only its owner can read it: keys of rows are enough to download what they name.
pub struct WholeFile {
    path: PathBuf,
    draft: PathBuf,
    out: Option<BufWriter<File>>,
}

impl WholeFile {
    /// Fails where nothing can be written; what has the name already stays until [`finish`]. It must
    /// be empty or what `is_earlier` knows: nobody's file is lost by a slip of the hand.
    ///
    /// [`finish`]: WholeFile::finish
    pub fn create(path: &Path, is_earlier: fn(File) -> bool) -> io::Result<Self> {
        match fs::metadata(path) {
            Ok(found) if !found.is_file() => {
                return Err(io::Error::other("there is something that is no file"));
            }
            Ok(found) if found.len() > 0 && !File::open(path).is_ok_and(is_earlier) => {
                return Err(io::Error::other(
                    "there is a file, and not an earlier one of this kind",
                ));
            }
            _ => {}
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut draft_name = OsString::from(".");
        draft_name.push(name);
        draft_name.push(format!(".{}.partial", std::process::id()));
        let draft = path.with_file_name(draft_name);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        Ok(Self {
            path: path.to_owned(),
            draft,
            out: Some(BufWriter::new(file)),
        })
    }

    /// Gives the file its name, and returns when that is on stable storage.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        let Some(out) = self.out.take() else {
            return Ok(());
        };
        out.get_ref().sync_all()?;
        fs::rename(&self.draft, &self.path)?;
        let directory = match self.path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        };
        File::open(directory)?.sync_all()
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Some(out) => out.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if self.out.is_some() {
            // Nothing more can be done about a draft that does not go.
            let _ = fs::remove_file(&self.draft);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn the_old_file_stays_until_the_new_one_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        fs::write(&path, "old").unwrap();
        let mut file = WholeFile::create(&path, |_| true).unwrap();
        file.write_all(b"new").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(directory.path()), ["report.json"]);
    }

    #[test]
    fn one_that_is_given_up_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = WholeFile::create(&directory.path().join("report.json"), |_| true).unwrap();
        file.write_all(b"new").unwrap();
        drop(file);
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn what_is_not_known_is_not_replaced_unless_it_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        fs::write(&path, "notes").unwrap();
        assert!(WholeFile::create(&path, |_| false).is_err());
        assert_eq!(names(directory.path()), ["report.json"]);
        fs::write(&path, "").unwrap();
        assert!(WholeFile::create(&path, |_| false).is_ok());
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        assert!(WholeFile::create(directory.path(), |_| true).is_err());
        assert!(WholeFile::create(Path::new("/dev/null"), |_| true).is_err());
        assert!(WholeFile::create(&directory.path().join("absent/report.json"), |_| true).is_err());
    }
}

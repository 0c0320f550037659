//! The bytes of made-up files, derived from the seed and the file's id.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

use super::FakedbError;
use super::entities;
use super::random::{Kind, Random};

/// Bytes made, hashed and written at a time.
const BUFFER: usize = 256 * 1024;

/// Makes blobs below a directory, in the layout of the `file` backend. Without a directory it only
/// knows what they would hold.
#[derive(Debug)]
pub struct Blobs {
    seed: u64,
    directory: PathBuf,
    buffer: Vec<u8>,
}

impl Blobs {
    pub fn new(seed: u64, directory: &Path) -> Self {
        Self {
            seed,
            directory: directory.to_owned(),
            buffer: vec![0; BUFFER],
        }
    }

    /// Writes the blob of `file`, if a file of its status has one, and returns the MD5 of the
    /// content. An older blob is replaced. Nothing is synced: what is made up can be made again.
    pub fn make(&mut self, file: &entities::File) -> Result<String, FakedbError> {
        if !file.has_blob {
            return self
                .content(file, &mut io::sink())
                .map_err(|source| self.failed(file, source));
        }
        self.create(file)
            .and_then(|mut blob| self.content(file, &mut blob))
            .map_err(|source| self.failed(file, source))
    }

    fn content(&mut self, file: &entities::File, out: &mut impl Write) -> io::Result<String> {
        let mut random = Random::of(self.seed, Kind::Content, number(&file.id));
        let mut md5 = Md5::new();
        let mut left = file.size;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            let part = &mut self.buffer[..length];
            random.fill(part, file.is_text);
            md5.update(&*part);
            out.write_all(part)?;
            left -= length as u64;
        }
        Ok(md5
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }

    fn create(&self, file: &entities::File) -> io::Result<File> {
        let path = self.path(file);
        match File::create(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path.with_file_name(""))?;
                File::create(&path)
            }
            result => result,
        }
    }

    fn path(&self, file: &entities::File) -> PathBuf {
        self.directory.join(&file.id[..2]).join(&file.id)
    }

    fn failed(&self, file: &entities::File, source: io::Error) -> FakedbError {
        FakedbError::Io {
            action: "write the blob",
            path: self.path(file),
            source,
        }
    }
}

/// A number that differs for ids that differ, but for a chance of one in 2^64.
fn number(id: &str) -> u64 {
    // FNV-1a.
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

//! What a client asks for: the bodies of requests that create uploads, in both shapes.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::http::json::{Fields, Object, read_into, read_text_into};

/// What a client asks for when it creates an upload.
#[derive(Debug, Default)]
pub struct UploadParams {
    pub ttl: i64,
    pub extend_ttl: bool,
    pub one_shot: bool,
    pub removable: bool,
    pub stream: bool,
    pub comments: String,
    pub login: String,
    pub password: String,
    pub e2ee: String,
    pub files: Vec<FileParams>,
}

/// What a client announces of one file.
#[derive(Debug, Default)]
pub struct FileParams {
    pub file_name: String,
    pub file_type: String,
    pub file_size: i64,
    pub reference: String,
}

impl Fields for UploadParams {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "ttl" => read_into(&mut self.ttl, map),
            "extend_ttl" => read_into(&mut self.extend_ttl, map),
            "oneshot" => read_into(&mut self.one_shot, map),
            "removable" => read_into(&mut self.removable, map),
            "stream" => read_into(&mut self.stream, map),
            "comments" => read_text_into(&mut self.comments, map),
            "login" => read_text_into(&mut self.login, map),
            "password" => read_text_into(&mut self.password, map),
            "e2ee" => read_text_into(&mut self.e2ee, map),
            "files" => {
                let mut files: Vec<Object<FileParams>> = Vec::new();
                read_into(&mut files, map)?;
                self.files = files.into_iter().map(|file| file.0).collect();
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

impl Fields for FileParams {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "filename" => read_text_into(&mut self.file_name, map),
            "filetype" => read_text_into(&mut self.file_type, map),
            "filesize" => read_into(&mut self.file_size, map),
            "reference" => read_text_into(&mut self.reference, map),
            _ => Ok(false),
        }
    }
}

/// The shape that clients older than 1.3 and ShareX send: `files` is an object, its keys are of no
/// interest.
#[derive(Debug, Default)]
pub struct OldUploadParams(pub UploadParams);

impl Fields for OldUploadParams {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "files" => {
                let mut files = FilesByKey::default();
                read_into(&mut files, map)?;
                self.0.files = files.0;
                Ok(true)
            }
            "ttl" | "oneshot" | "removable" | "stream" | "comments" | "login" | "password" => {
                self.0.read(key, map)
            }
            _ => Ok(false),
        }
    }
}

/// The values of an object, in the order in which they are written.
#[derive(Default)]
struct FilesByKey(Vec<FileParams>);

impl<'de> Deserialize<'de> for FilesByKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FilesByKey::default())
    }
}

impl<'de> Visitor<'de> for FilesByKey {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of files")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some((_, file)) = map.next_entry::<String, Object<FileParams>>()? {
            self.0.push(file.0);
        }
        Ok(self)
    }
}

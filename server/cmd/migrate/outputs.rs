//! The files that a run writes beside its target: none may take the place of one that it needs, or
//! of another of them.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::args::{ReplayArgs, RunArgs, VerifyArgs};
use super::dialect;
use crate::cmd::exit::{Exit, Failure};
use crate::config::{DataConfig, Loaded, MetadataConfig};
use crate::files;
use crate::metadata;

/// Behind the name of a SQLite database: itself, what SQLite has beside it, and what plikd has.
const OF_A_DATABASE: [&str; 8] = [
    "",
    "-wal",
    "-shm",
    "-journal",
    ".lock",
    ".loading",
    ".migrating",
    ".moved",
];

/// What a run writes, and what it needs.
#[derive(Default)]
pub struct Outputs {
    /// The option of each, and what it names.
    written: Vec<(&'static str, PathBuf)>,
    /// What each is, for a person.
    needed: Vec<(&'static str, PathBuf)>,
}

impl Outputs {
    pub fn of_run(args: &RunArgs, source: &Loaded, target: Option<&Loaded>) -> Self {
        let mut outputs = Self::default();
        outputs.write("--report", args.tell.report.as_deref());
        outputs.write("--plan", args.plan.as_deref());
        outputs.write("--rejects", args.options().rejects);
        outputs.need("the file of --limits", args.limits.file());
        outputs.need("the plan that is run", args.plan_file.as_deref());
        outputs.need_server(source);
        match &args.dialect.dialect {
            Some(_) => outputs.need_database("the database", Path::new(dialect::DEFAULT_FILE)),
            None => outputs.need_target(args.to.as_deref(), target),
        }
        outputs
    }

    pub fn of_verification(args: &VerifyArgs, source: &Loaded, target: Option<&Loaded>) -> Self {
        let mut outputs = Self::default();
        outputs.write("--report", args.tell.report.as_deref());
        outputs.need("the file of --limits", args.limits.file());
        outputs.need_server(source);
        outputs.need_target(Some(&args.to), target);
        outputs
    }

    pub fn of_replay(args: &ReplayArgs, source: &Loaded, target: Option<&Loaded>) -> Self {
        let mut outputs = Self::default();
        outputs.write("--rejects", args.rejects.as_deref());
        outputs.need("the file that is replayed", Some(&args.file));
        outputs.need_server(source);
        outputs.need_target(Some(&args.to), target);
        outputs
    }

    fn write(&mut self, option: &'static str, path: Option<&Path>) {
        self.written
            .extend(path.map(|path| (option, path.to_owned())));
    }

    fn need(&mut self, what: &'static str, path: Option<&Path>) {
        self.needed.extend(path.map(|path| (what, path.to_owned())));
    }

    fn need_server(&mut self, server: &Loaded) {
        self.need("the configuration of this server", server.path.as_deref());
        let aside = server.aside.as_ref();
        let aside = aside.and_then(|aside| aside.configured.as_ref());
        for database in aside.into_iter().chain([&server.config.metadata]) {
            self.need_configured("a file of the database of this server", database);
        }
        self.need_directory("the directory of this server's blobs", &server.config.data);
    }

    /// Of a target whose configuration cannot be used, nothing is known.
    fn need_target(&mut self, to: Option<&Path>, target: Option<&Loaded>) {
        self.need("the configuration of the target", to);
        if let Some(target) = target {
            self.need_configured("a file of the target's database", &target.config.metadata);
            self.need_directory("the directory of the target's blobs", &target.config.data);
        }
    }

    fn need_directory(&mut self, what: &'static str, blobs: &DataConfig) {
        if let DataConfig::File(config) = blobs {
            self.need(what, Some(Path::new(&config.directory)));
        }
    }

    fn need_configured(&mut self, what: &'static str, database: &MetadataConfig) {
        if let Some(path) = metadata::sqlite_path(database) {
            self.need_database(what, &path);
        }
    }

    fn need_database(&mut self, what: &'static str, path: &Path) {
        let files = OF_A_DATABASE.map(|suffix| {
            let mut name = OsString::from(path);
            name.push(suffix);
            (what, PathBuf::from(name))
        });
        self.needed.extend(files);
    }

    /// # Errors
    ///
    /// [`Exit::Usage`] if something to be written has the place of something else, by whatever
    /// name, whether that is there already or will be.
    pub fn check(&self) -> Result<(), Failure> {
        for (number, (option, path)) in self.written.iter().enumerate() {
            let place = Place::of(path);
            let is_there = |(_, other): &&(&str, PathBuf)| Place::of(other).is(&place);
            let path = path.display();
            let error = if let Some((what, _)) = self.needed.iter().find(is_there) {
                anyhow!("{option} cannot be {path}: that is {what}")
            } else if let Some((other, _)) = self.written[..number].iter().find(is_there) {
                anyhow!("{option} cannot be {path}: that is what {other} names")
            } else {
                continue;
            };
            let hint = format!("give {option} a file of its own");
            return Err(Failure::new(Exit::Usage, error).with_hint(hint));
        }
        Ok(())
    }
}

/// Where a file is, or will be.
struct Place {
    found: Option<Metadata>,
    /// Without symbolic links.
    path: PathBuf,
}

impl Place {
    fn of(path: &Path) -> Self {
        Self {
            found: fs::metadata(path).ok(),
            path: files::resolved(path),
        }
    }

    fn is(&self, other: &Self) -> bool {
        let inode = |found: &Metadata| (found.dev(), found.ino());
        match (&self.found, &other.found) {
            (Some(one), Some(other)) => inode(one) == inode(other),
            (None, None) => self.path == other.path,
            _ => false,
        }
    }
}

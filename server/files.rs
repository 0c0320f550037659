//! Files that a person names.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Links that lead on to links before they are taken for a ring, as the kernel does.
const MAX_LINKS: usize = 40;

/// The file that a name leads to, which may still be to be created. A name that leads nowhere stays
/// as it is: whoever opens it tells why.
pub fn resolved(name: &Path) -> PathBuf {
    let mut path = name.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = directory_of(&path).join(target),
            Err(_) => break,
        }
    }
    let resolved = match path.file_name() {
        Some(file) => fs::canonicalize(directory_of(&path)).map(|directory| directory.join(file)),
        None => fs::canonicalize(&path),
    };
    resolved.unwrap_or_else(|_| name.to_owned())
}

/// The directory that a file is in, or will be.
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Opens a file that can be read again from its start, and never makes its reader wait.
///
/// # Errors
///
/// Also for a pipe, a device or a directory.
pub fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // A pipe without writer would not even open otherwise; a regular file does not care.
    let file = options.custom_flags(libc::O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_leads_to_a_file_that_is_still_to_be_created() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        symlink("second", root.join("first")).unwrap();
        symlink(root.join("to come"), root.join("second")).unwrap();
        assert_eq!(resolved(&root.join("first")), root.join("to come"));
        let nowhere = root.join("absent/file");
        assert_eq!(resolved(&nowhere), nowhere);
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
        for path in [Path::new("/dev/null"), directory.path(), &pipe] {
            let error = open_regular(path, File::options().read(true)).unwrap_err();
            assert_eq!(error.to_string(), "it is no regular file", "{path:?}");
        }
    }
}

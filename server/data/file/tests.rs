use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::data::contract::{
    Subject, assert_missing, assert_stored, blob, body, bytes, collect, contract_tests, new_blob,
    put,
};

struct Files {
    directory: TempDir,
    backend: Arc<FileBackend>,
}

impl Files {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let backend = Arc::new(open(directory.path(), Access::Serve).await.unwrap());
        Self { directory, backend }
    }

    fn path_of(&self, blob: &BlobRef) -> PathBuf {
        let name = BlobName::of(blob).unwrap();
        self.directory.path().join(name.path())
    }
}

async fn open(directory: &Path, access: Access) -> Result<FileBackend, DataError> {
    let config = FileConfig {
        directory: directory.to_str().unwrap().into(),
    };
    FileBackend::open_with(&config, access, Tuning::default()).await
}

/// Every path below `directory`, and those of empty directories.
fn listing(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let below = listing(&path);
            if below.is_empty() {
                all.push(path);
            }
            all.extend(below);
        } else {
            all.push(path);
        }
    }
    all
}

#[async_trait]
impl Subject for Files {
    fn backend(&self) -> Arc<dyn DataBackend> {
        self.backend.clone()
    }

    /// A dropped put cleans up on a blocking thread, which it cannot wait for.
    async fn leftovers(&self) -> Vec<String> {
        for _ in 0..100 {
            if names_of_drafts(self.directory.path()).is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        names_of_drafts(self.directory.path())
    }

    async fn at(&self, place: &str) -> u64 {
        assert!(place.starts_with('/'), "{place}");
        fs::metadata(place).unwrap().len()
    }

    async fn put_as_older_release(&self, blob: &BlobRef, bytes: Bytes) {
        let path = BlobName::of(blob).unwrap().old_path();
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Unfinished blobs, and directories that nothing is in.
fn names_of_drafts(directory: &Path) -> Vec<String> {
    listing(directory)
        .into_iter()
        .filter(|path| path.is_dir() || path.file_name().unwrap().as_encoded_bytes()[0] == b'.')
        .map(|path| path.display().to_string())
        .collect()
}

contract_tests!(Files::new(), []);

#[tokio::test]
async fn a_blob_is_where_older_releases_look_for_it() {
    let files = Files::new().await;
    put(&*files.backend, &blob("FileId123"), &bytes(5, 1)).await;
    let path = files.directory.path().join("Fi/FileId123");
    assert_eq!(fs::read(&path).unwrap(), bytes(5, 1));
    assert_eq!(listing(files.directory.path()), [path]);
}

#[tokio::test]
async fn the_last_blob_of_a_directory_takes_it_along() {
    let files = Files::new().await;
    let one = put(&*files.backend, &blob("aa1"), &bytes(5, 1)).await;
    let other = put(&*files.backend, &blob("aa2"), &bytes(5, 2)).await;
    files.put_as_older_release(&blob("bb1"), bytes(5, 3)).await;
    files.backend.remove(&one).await.unwrap();
    assert_stored(&*files.backend, &other, &bytes(5, 2)).await;
    files.backend.remove(&other).await.unwrap();
    files.backend.remove(&blob("bb1")).await.unwrap();
    assert_eq!(fs::read_dir(files.directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_start_sweeps_what_a_crash_left_and_nothing_else() {
    let files = Files::new().await;
    let at = put(&*files.backend, &blob("aa1"), &bytes(5, 1)).await;
    let leftover = files.directory.path().join("aa/.upload-left");
    let alone = files.directory.path().join("bb/.upload-alone");
    let used = files.directory.path().join("aa/.upload-used");
    fs::create_dir(files.directory.path().join("bb")).unwrap();
    fs::write(&leftover, "crashed").unwrap();
    fs::write(&alone, "crashed").unwrap();
    let holder = File::create(&used).unwrap();
    holder.lock().unwrap();

    open(files.directory.path(), Access::Serve).await.unwrap();

    assert!(!leftover.exists());
    assert!(!alone.parent().unwrap().exists());
    assert!(used.exists(), "another server is writing it");
    assert_stored(&*files.backend, &at, &bytes(5, 1)).await;
}

#[tokio::test]
async fn a_blob_being_written_is_not_swept_by_another_server() {
    let files = Files::new().await;
    let (send, receive) = tokio::sync::mpsc::channel::<io::Result<Bytes>>(1);
    let content = bytes(600_000, 1);
    let body = futures::stream::unfold(receive, |mut receive| async {
        receive.recv().await.map(|chunk| (chunk, receive))
    });
    let backend = Arc::clone(&files.backend);
    let to = new_blob();
    let at = to.clone();
    let put = tokio::spawn(async move { backend.put(&to, Box::pin(body), None).await });
    send.send(Ok(content.slice(..550_000))).await.unwrap();
    while listing(files.directory.path()).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    open(files.directory.path(), Access::Serve).await.unwrap();

    send.send(Ok(content.slice(550_000..))).await.unwrap();
    drop(send);
    put.await.unwrap().unwrap();
    assert_stored(&*files.backend, &at, &content).await;
}

#[tokio::test]
async fn reading_creates_nothing_and_an_absent_directory_has_no_blobs() {
    let around = tempfile::tempdir().unwrap();
    let directory = around.path().join("a/files");
    for access in [Access::ReadOnly, Access::Probe] {
        let backend = open(&directory, access).await.unwrap();
        assert!(backend.is_absent());
        assert_missing(&backend, &new_blob()).await;
        backend.remove(&new_blob()).await.unwrap();
        assert!(backend.available_bytes().await.unwrap().is_some());
    }
    assert_eq!(listing(around.path()), [] as [PathBuf; 0]);
    assert!(!open(&directory, Access::Serve).await.unwrap().is_absent());
    assert!(directory.is_dir());
    assert!(!open(&directory, Access::Probe).await.unwrap().is_absent());
}

#[tokio::test]
async fn probing_sweeps_nothing() {
    let files = Files::new().await;
    fs::create_dir(files.directory.path().join("aa")).unwrap();
    let leftover = files.directory.path().join("aa/.upload-left");
    fs::write(&leftover, "crashed").unwrap();
    for access in [Access::ReadOnly, Access::Probe] {
        open(files.directory.path(), access).await.unwrap();
        assert!(leftover.exists());
    }
}

#[tokio::test]
async fn a_file_in_place_of_the_directory_is_an_error() {
    let around = tempfile::tempdir().unwrap();
    let file = around.path().join("files");
    fs::write(&file, "").unwrap();
    for access in [Access::Serve, Access::ReadOnly, Access::Probe] {
        assert!(open(&file, access).await.is_err(), "{access:?}");
    }
}

#[tokio::test]
async fn a_blob_that_is_no_file_is_not_read() {
    let files = Files::new().await;
    let secret = files.directory.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    fs::create_dir(files.directory.path().join("aa")).unwrap();
    symlink(&secret, files.path_of(&blob("aa1"))).unwrap();
    fs::create_dir(files.path_of(&blob("aa2"))).unwrap();
    for at in [blob("aa1"), blob("aa2")] {
        let error = files.backend.get(&at, None).await.err().unwrap();
        assert!(matches!(error, DataError::Failed { .. }), "{error:?}");
        assert!(files.backend.stat(&at).await.is_err());
    }
    let at = put(&*files.backend, &blob("aa1"), &bytes(5, 1)).await;
    assert_stored(&*files.backend, &at, &bytes(5, 1)).await;
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
}

#[tokio::test]
async fn a_blob_cut_short_while_it_is_read_is_an_error() {
    let files = Files::new().await;
    let at = put(&*files.backend, &new_blob(), &bytes(1_000_000, 1)).await;
    let found = files.backend.get(&at, None).await.unwrap();
    let file = File::options()
        .write(true)
        .open(files.path_of(&at))
        .unwrap();
    file.set_len(500_000).unwrap();
    let error = collect(found.body).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_download_survives_the_removal_of_its_blob() {
    let files = Files::new().await;
    let content = bytes(1_000_000, 1);
    let at = put(&*files.backend, &new_blob(), &content).await;
    let found = files.backend.get(&at, None).await.unwrap();
    files.backend.remove(&at).await.unwrap();
    assert!(collect(found.body).await.unwrap() == content);
}

#[tokio::test]
async fn details_of_other_backends_survive() {
    let files = Files::new().await;
    let to = BlobRef {
        details: crate::model::BackendDetails::new("{foo:\"bar\"}"),
        ..new_blob()
    };
    let stored = files.backend.put(&to, body(&bytes(1, 1)), None).await;
    assert_eq!(stored.unwrap().details, to.details);
}

/// Root may write everywhere.
fn is_root(own_directory: &Path) -> bool {
    fs::metadata(own_directory).unwrap().uid() == 0
}

#[tokio::test]
async fn a_directory_that_may_not_be_written_to_is_named() {
    let around = tempfile::tempdir().unwrap();
    fs::set_permissions(around.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let store = Store {
        tuning: Tuning::default(),
        directory: around.path().to_owned(),
        durable: Mutex::default(),
    };
    let error = store.failed("write blob x", io::ErrorKind::PermissionDenied.into());
    assert!(matches!(error, DataError::Denied { .. }), "{error:?}");
    assert!(
        error
            .hint()
            .unwrap()
            .contains(around.path().to_str().unwrap())
    );
    for access in [Access::Serve, Access::Probe] {
        let opened = open(around.path(), access).await;
        assert_eq!(opened.is_ok(), is_root(around.path()), "{access:?}");
    }
}

#[test]
fn a_full_disk_is_told_apart() {
    let store = Store {
        tuning: Tuning::default(),
        directory: "files".into(),
        durable: Mutex::default(),
    };
    for code in [libc::ENOSPC, libc::EDQUOT] {
        let error = store.failed("write blob x", io::Error::from_raw_os_error(code));
        assert!(matches!(error, DataError::Full { .. }), "{error:?}");
        assert!(error.is_fatal());
        assert_eq!(
            error.to_string(),
            "directory files has no space left to write blob x"
        );
    }
    let error = store.failed("write blob x", io::Error::from_raw_os_error(libc::EROFS));
    assert!(matches!(error, DataError::Denied { .. }), "{error:?}");
}

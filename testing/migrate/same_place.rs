//! A source and a target that are the same place, by whatever name.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::Result;

use crate::interlocks::refused;
use crate::places::{Database, Store};
use crate::scene::{NO_FILES, SMALL, Scene, run};

#[test]
fn the_same_database_by_another_name() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    symlink(scene.path("from.db"), scene.path("link.db"))?;
    fs::hard_link(scene.path("from.db"), scene.path("hard.db"))?;
    fs::create_dir(scene.path("sub"))?;
    for path in ["from.db", "link.db", "hard.db", "sub/../from.db"] {
        for path in [scene.path(path), PathBuf::from(path)] {
            let to = Store::Directory(scene.path("to.files"));
            let to = scene.server("to", Database::Sqlite(path), to)?;
            refused(&scene, &from, &to, &["--metadata-only"], 2)?.says(&[
                "source and target are the same metadata",
                "hint: give the file of --to",
            ])?;
            fs::remove_file(&to.config)?;
        }
    }
    Ok(())
}

#[test]
fn the_same_directory_by_another_name() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    symlink(scene.path("from.files"), scene.path("link"))?;
    for path in [
        scene.path("link"),
        scene.path("from.files/."),
        "from.files".into(),
    ] {
        let to = scene.server(
            "to",
            Database::Sqlite(scene.path("to.db")),
            Store::Directory(path),
        )?;
        for options in [&["--data-only"][..], &[]] {
            refused(&scene, &from, &to, options, 2)?
                .says(&["source and target are the same data"])?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn the_same_bucket_by_another_host_name() -> Result<()> {
    let scene = Scene::new()?;
    let made_up = scene.made_up("made", SMALL)?;
    let store = Store::bucket()?;
    let Store::Bucket {
        server,
        bucket,
        settings,
    } = &store
    else {
        unreachable!("a bucket was made")
    };
    let alias = Store::Bucket {
        server: server.replace("127.0.0.1", "127.1"),
        bucket: bucket.clone(),
        settings: settings.clone(),
    };
    let from = scene.server("from", Database::Sqlite(scene.path("from.db")), store)?;
    scene.migrate(&made_up, &from, &[])?.expect(0)?;
    let to = scene.server("to", Database::Sqlite(scene.path("to.db")), alias)?;
    for options in [&["--data-only"][..], &[]] {
        refused(&scene, &from, &to, options, 2)?
            .says(&["source and target are the same data", "by another name"])?;
    }
    Ok(())
}

#[test]
fn a_directory_inside_the_other() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    symlink(scene.path("from.files"), scene.path("link"))?;
    for (path, said) in [
        (scene.path("from.files/new"), "the target's "),
        (scene.path("link/deep/er"), "the target's "),
        (scene.path("."), "the source's "),
    ] {
        let to = scene.server(
            "to",
            Database::Sqlite(scene.path("to.db")),
            Store::Directory(path),
        )?;
        refused(&scene, &from, &to, &[], 2)?.says(&[
            "source and target are the same data",
            said,
            " is inside the ",
            "from.files",
        ])?;
    }
    // A name that only begins the same is another place.
    let to = scene.server(
        "to",
        Database::Sqlite(scene.path("to.db")),
        Store::Directory(scene.path("from.files2")),
    )?;
    scene.migrate(&from, &to, &[])?.expect(0)?;
    Ok(())
}

#[test]
#[ignore = "needs PostgreSQL: set PLIKD_TEST_POSTGRES"]
fn the_same_postgres_by_another_host_name() -> Result<()> {
    let scene = Scene::new()?;
    let made_up = scene.made_up("made-up", NO_FILES)?;
    let files = |name: &str| Store::Directory(scene.path(name));
    let from = scene.server("from", Database::postgres()?, files("from"))?;
    scene.migrate(&made_up, &from, &[])?.expect(0)?;
    let url = from.database.url().replace("127.0.0.1", "localhost");
    let to =
        format!("[MetadataBackendConfig]\nDriver = \"postgres\"\nConnectionString = \"{url}\"\n");
    let to = scene.write("to.cfg", &to)?;
    run(scene.migration(&from.config, &to, &[]))?
        .expect(2)?
        .says(&["source and target are the same metadata"])?;
    Ok(())
}

#[test]
#[ignore = "needs S3: set PLIKD_TEST_S3"]
fn the_same_bucket_unless_the_prefix_differs() -> Result<()> {
    let scene = Scene::new()?;
    let made_up = scene.made_up("made-up", SMALL)?;
    let bucket = Store::bucket()?;
    let sqlite = |name: &str| Database::Sqlite(scene.path(name));
    let from = scene.server("from", sqlite("from.db"), bucket.clone())?;
    scene.migrate(&made_up, &from, &[])?.expect(0)?;
    let to = scene.server("to", sqlite("to.db"), bucket.clone())?;
    refused(&scene, &from, &to, &[], 2)?.says(&["source and target are the same data"])?;
    let Store::Bucket { server, bucket, .. } = bucket else {
        unreachable!("a bucket was made")
    };
    let server = server.replace("127.0.0.1", "localhost");
    let other_name = Store::Bucket {
        server: server.clone(),
        bucket: bucket.clone(),
        settings: String::new(),
    };
    let to = scene.server("to", sqlite("to.db"), other_name)?;
    refused(&scene, &from, &to, &[], 2)?;
    let settings = "Prefix = \"below\"".to_owned();
    let below = scene.server(
        "below",
        sqlite("to.db"),
        Store::Bucket {
            server,
            bucket,
            settings,
        },
    )?;
    scene.migrate(&from, &below, &[])?.expect(0)?;
    Ok(())
}

/// With the target's section for data alone, the database of both is one.
#[test]
fn the_database_of_both_is_not_called_new() -> Result<()> {
    let scene = Scene::new()?;
    let from = scene.made_up("from", SMALL)?;
    let files = Store::Directory(scene.path("to.files"));
    let to = scene.write("to.cfg", &files.section())?;
    run(scene.migration(&from.config, &to, &["--dry-run"]))?
        .expect(2)?
        .says(&["source and target are the same metadata"])?
        .never_says(&["target metadata: "])?;
    Ok(())
}

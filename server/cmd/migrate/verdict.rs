//! What a person reads when a verification is over.

use indicatif::{BinaryBytes, HumanCount, HumanDuration};

use super::words::{noun, one_line};
use crate::migrate::Side;
use crate::migrate::proof::{
    Difference, FileDifference, FileVerdict, RowDifference, SHOWN, StrayBlobs, TableVerdict,
    Verification,
};

/// What was found, for a person to read.
pub fn text(found: &Verification) -> String {
    let mut text: String = found.tables.iter().map(table_text).collect();
    if let Some(files) = &found.files {
        text += &files_text(files);
    }
    text += &match found.is_equal() {
        true => format!("equal: compared in {}\n", HumanDuration(found.elapsed)),
        false => format!(
            "different: compared in {}\n{}",
            HumanDuration(found.elapsed),
            next_text(found)
        ),
    };
    text
}

/// One line for each thing that mends something of what was found.
fn next_text(found: &Verification) -> String {
    let none = FileVerdict::default();
    let files = found.files.as_ref().unwrap_or(&none);
    let is_bare = |side| files.bare.iter().any(|(bare, _)| *bare == side);
    let rows = |count: fn(&TableVerdict) -> u64| found.tables.iter().any(|table| count(table) > 0);
    let lost_columns = |table: &TableVerdict| !table.lost_columns.is_empty();
    let steps = [
        (
            rows(|table| table.missing)
                || files.without_row > 0
                || found.tables.iter().any(lost_columns),
            "run the migration again: it copies what is missing",
        ),
        (
            rows(|table| table.different),
            "run the migration with --sync: rows that differ become those of the source",
        ),
        (
            rows(|table| table.extra),
            "look at the rows that only the target has: its own stay; those that are gone from the \
             source go with --sync --delete",
        ),
        (
            rows(|table| table.proof.rejected),
            "mend the rows that the target cannot hold in the source, then run the migration again",
        ),
        (
            files.target_wrong > 0 && !is_bare(Side::Target),
            "remove the blobs that are wrong in the target there, then run the migration again",
        ),
        (
            is_bare(Side::Target),
            "see that the configuration names the right place for the blobs of the target; if so, \
             run the migration again",
        ),
        (
            is_bare(Side::Source),
            "see that the configuration names the right place for the blobs of the source, and \
             that its disk is mounted",
        ),
        (
            files.source_wrong > 0 && !is_bare(Side::Source),
            "restore the blobs that are wrong in the source, from the target if it has them",
        ),
        (
            files.both_wrong > 0 && files.bare.is_empty(),
            "restore the blobs that are wrong in both from a backup, or remove their files",
        ),
    ];
    let steps = steps.iter().filter(|(applies, _)| *applies);
    steps.map(|(_, step)| format!("next: {step}\n")).collect()
}

fn table_text(table: &TableVerdict) -> String {
    let (source, target) = (&table.proof.source, &table.proof.target);
    let verdict = match (table.is_equal(), table.obstacle) {
        (_, Some(obstacle)) => obstacle.to_owned(),
        (true, None) => "equal".to_owned(),
        (false, None) => "different".to_owned(),
    };
    let mut text = format!(
        "{:<20} {:>12} {} in the source, {} in the target, {verdict}",
        table.table,
        HumanCount(source.rows).to_string(),
        noun(source.rows, "row"),
        HumanCount(target.rows),
    );
    let counts = [
        (table.missing, "missing"),
        (table.different, "different"),
        (table.extra, "only in the target"),
        (table.proof.rejected, "that the target cannot hold"),
        (table.settled, "in use, equal at a second look"),
    ];
    for (count, what) in counts {
        if count > 0 {
            text += &format!(", {} {what}", HumanCount(count));
        }
    }
    if source.digest == target.digest {
        text += &format!(", digest {}\n", source.digest);
    } else {
        text += &format!(", digests {} and {}\n", source.digest, target.digest);
    }
    for column in &table.lost_columns {
        text += &format!("  column {column}: the target does not have it\n");
    }
    for row in &table.shown {
        text += &row_text(&table.table, row);
    }
    text + &more(table.differences(), table.shown.len())
}

fn row_text(table: &str, row: &RowDifference) -> String {
    let key = &row.key;
    match &row.kind {
        Difference::Missing => format!("  missing: {table} {key}\n"),
        Difference::Extra(None) => format!("  extra: {table} {key}\n"),
        Difference::Extra(Some(reason)) => format!("  extra: {table} {key}: {reason}\n"),
        Difference::Different(columns) => {
            format!("  different: {table} {key}: {}\n", columns.join(", "))
        }
        Difference::Rejected(reason) => format!("  cannot be held: {table} {key}: {reason}\n"),
    }
}

fn files_text(files: &FileVerdict) -> String {
    let how = match files.deep {
        true => "read on both sides",
        false => "asked for on both sides",
    };
    let mut text = format!(
        "{:<20} {:>12} {}, {}, {how}: {} equal",
        "blobs",
        HumanCount(files.files()).to_string(),
        noun(files.files(), "file"),
        BinaryBytes(files.bytes),
        HumanCount(files.equal)
    );
    let counts = [
        (files.no_blob, "without bytes by their status"),
        (files.gone, "removed and gone"),
        (files.without_row, "without row in the target"),
        (files.row_different, "with another row in the target"),
        (files.rejected, "whose row the target cannot hold"),
        (files.source_wrong, "wrong in the source"),
        (files.target_wrong, "wrong in the target"),
        (files.both_wrong, "wrong in both"),
    ];
    for (count, what) in counts {
        if count > 0 {
            text += &format!(", {} {what}", HumanCount(count));
        }
    }
    text.push('\n');
    text += &by_size_text(files.by_size);
    for (side, place) in &files.bare {
        text += &format!(
            "  {}: {place} has none of these blobs\n",
            side_text(Some(*side))
        );
    }
    // For all blobs of such a place one line is enough.
    let named = files.shown.iter().filter(|file| !files.is_of_bare(file));
    let named: String = named.map(file_text).collect();
    if !named.is_empty() || files.bare.is_empty() {
        text += &named;
        text += &more(files.to_be_named, files.shown.len());
    }
    match &files.strays {
        Some(strays) => text + &strays_text(strays),
        None => {
            text + "blobs that no row names were not looked for: the target has too many blobs\n"
        }
    }
}

/// What has not been proven of the equal ones, if anything.
fn by_size_text(blobs: u64) -> String {
    match blobs {
        0 => String::new(),
        blobs => format!(
            "  {} of the equal by the size of their blob only, as the target tells no MD5 of it: --deep reads it\n",
            HumanCount(blobs)
        ),
    }
}

/// Nothing if there are none.
fn strays_text(strays: &StrayBlobs) -> String {
    if strays.blobs == 0 {
        return String::new();
    }
    let mut text = format!(
        "{:<20} {:>12} {} of the target that no row names, {}: no difference\n",
        "strays",
        HumanCount(strays.blobs).to_string(),
        noun(strays.blobs, "blob"),
        BinaryBytes(strays.bytes)
    );
    for stray in &strays.shown {
        let of_upload = stray.upload_id.as_ref();
        let of_upload = of_upload.map(|id| format!(" of upload {id}"));
        let blob = format!("blob {}{}", stray.file_id, of_upload.unwrap_or_default());
        text += &format!("  {}\n", one_line(&blob));
    }
    text + &more(strays.blobs, strays.shown.len())
}

fn file_text(file: &FileDifference) -> String {
    let side = side_text(file.kind.side());
    let FileDifference {
        file_id,
        upload_id,
        places,
        reason,
        ..
    } = file;
    let blob = format!("{side}: blob {file_id} of upload {upload_id}{places}: {reason}");
    format!("  {}\n", one_line(&blob))
}

fn side_text(side: Option<Side>) -> &'static str {
    match side {
        Some(Side::Source) => "source",
        Some(Side::Target) => "target",
        None => "both",
    }
}

/// How many differences are not named.
fn more(differences: u64, shown: usize) -> String {
    match differences.saturating_sub(shown as u64) {
        0 => String::new(),
        more => format!(
            "  and {} more; the first {SHOWN} are named\n",
            HumanCount(more)
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::migrate::BlobPlaces;
    use crate::migrate::proof::{FileFault, StrayBlob};
    use crate::migrate::{TableContent, TableProof};

    fn content(rows: u64, digest: &str) -> TableContent {
        TableContent {
            rows,
            digest: digest.to_owned(),
        }
    }

    #[test]
    fn what_differs_is_named_below_its_table() {
        let users = TableVerdict {
            table: "users".to_owned(),
            proof: TableProof {
                source: content(1234, "ab"),
                target: content(1234, "ab"),
                rejected: 0,
            },
            ..TableVerdict::default()
        };
        let files = TableVerdict {
            table: "files".to_owned(),
            proof: TableProof {
                source: content(3, "ab"),
                target: content(2, "cd"),
                rejected: 0,
            },
            missing: 1,
            different: 1,
            shown: vec![
                RowDifference {
                    key: "aaa".to_owned(),
                    kind: Difference::Missing,
                },
                RowDifference {
                    key: "bbb".to_owned(),
                    kind: Difference::Different(vec!["size".to_owned(), "md5".to_owned()]),
                },
            ],
            ..TableVerdict::default()
        };
        let found = Verification {
            tables: vec![users, files],
            files: Some(FileVerdict {
                equal: 2,
                by_size: 1,
                target_wrong: 101,
                to_be_named: 101,
                strays: Some(StrayBlobs {
                    blobs: 1,
                    bytes: 5,
                    shown: vec![StrayBlob {
                        file_id: "sss".to_owned(),
                        upload_id: None,
                        size_bytes: 5,
                    }],
                }),
                bytes: 2048,
                shown: vec![FileDifference {
                    file_id: "aaa".to_owned(),
                    upload_id: "uuu".to_owned(),
                    kind: FileFault::Wrong(Some(Side::Target)),
                    places: BlobPlaces {
                        to: Some("/srv/files/aa/aaa".to_owned()),
                        ..BlobPlaces::default()
                    },
                    reason: "it is missing".to_owned(),
                }],
                ..FileVerdict::default()
            }),
            elapsed: Duration::from_secs(60),
        };
        assert_eq!(
            text(&found),
            "users                       1,234 rows in the source, 1,234 in the target, equal, digest ab\n\
             files                           3 rows in the source, 2 in the target, different, \
             1 missing, 1 different, digests ab and cd\n  \
               missing: files aaa\n  \
               different: files bbb: size, md5\n\
             blobs                         103 files, 2.00 KiB, asked for on both sides: 2 equal, \
             101 wrong in the target\n  \
               1 of the equal by the size of their blob only, as the target tells no MD5 of it: \
             --deep reads it\n  \
               target: blob aaa of upload uuu (/srv/files/aa/aaa): it is missing\n  \
               and 100 more; the first 100 are named\n\
             strays                          1 blob of the target that no row names, 5 B: no difference\n  \
               blob sss\n\
             different: compared in 60 seconds\n\
             next: run the migration again: it copies what is missing\n\
             next: run the migration with --sync: rows that differ become those of the source\n\
             next: remove the blobs that are wrong in the target there, then run the migration again\n"
        );
    }

    #[test]
    fn a_place_without_any_of_the_blobs_is_told_once() {
        let lost = |kind, reason: &str| FileDifference {
            file_id: "aaa".to_owned(),
            upload_id: "uuu".to_owned(),
            kind,
            places: BlobPlaces::default(),
            reason: reason.to_owned(),
        };
        let target = || FileFault::Wrong(Some(Side::Target));
        let files = FileVerdict {
            target_wrong: 300,
            bare: vec![(Side::Target, "directory /other".to_owned())],
            to_be_named: 300,
            shown: vec![
                lost(target(), "it is missing"),
                lost(target(), "it is missing"),
            ],
            ..FileVerdict::default()
        };
        assert_eq!(
            files_text(&files).lines().skip(1).collect::<Vec<_>>(),
            [
                "  target: directory /other has none of these blobs",
                "blobs that no row names were not looked for: the target has too many blobs"
            ]
        );
        let found = Verification {
            files: Some(files.clone()),
            ..Verification::default()
        };
        assert!(next_text(&found).starts_with("next: see that the configuration names the right"));
        assert_eq!(next_text(&found).lines().count(), 1);
        // What is wrong with others is named all the same.
        let mut more = files;
        more.shown
            .push(lost(FileFault::WithoutRow, "its row is not in the target"));
        let text = files_text(&more);
        assert!(
            text.contains("blob aaa of upload uuu: its row is not") && text.contains("297 more")
        );
    }

    #[test]
    fn one_is_no_plural() {
        let mut found = Verification {
            files: Some(FileVerdict {
                equal: 1,
                ..FileVerdict::default()
            }),
            ..Verification::default()
        };
        let source = content(1, "ab");
        found.tables.push(TableVerdict {
            proof: TableProof {
                target: source.clone(),
                source,
                rejected: 0,
            },
            ..TableVerdict::default()
        });
        let text = text(&found);
        assert!(
            text.contains(" 1 row in the source, 1 in the target") && text.contains(" 1 file, ")
        );
    }

    #[test]
    fn what_is_next_follows_from_what_was_found() {
        let next = |table, files| {
            next_text(&Verification {
                tables: vec![table],
                files: Some(files),
                ..Verification::default()
            })
        };
        let extra = TableVerdict {
            extra: 2,
            ..TableVerdict::default()
        };
        let text = next(extra, FileVerdict::default());
        assert!(text.starts_with("next: look at the rows that only the target has"));
        assert_eq!(text.lines().count(), 1);
        let files = FileVerdict {
            source_wrong: 1,
            both_wrong: 1,
            ..FileVerdict::default()
        };
        let text = next(TableVerdict::default(), files);
        assert!(text.contains("wrong in the source, from the target"));
        assert!(text.contains("from a backup") && !text.contains("run the migration"));
    }

    #[test]
    fn two_equal_servers_are_equal() {
        assert_eq!(
            text(&Verification::default()),
            "equal: compared in 0 seconds\n"
        );
    }
}

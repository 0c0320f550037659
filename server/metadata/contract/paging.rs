//! Lists read page by page.

use super::place::{Place, upload};
use super::promises;
use crate::metadata::Metadata;
use crate::metadata::cursor::{KeyKind, Page, PageRequest, SortKey, Start};
use crate::metadata::value::Row;

promises! {
    pages_go_forth_and_back_without_gaps_and_repeats,
    pages_survive_rows_that_come_and_go,
}

const KEYS: &[SortKey] = &[
    SortKey {
        column: "created_at",
        expression: "uploads.created_at",
        kind: KeyKind::Time,
    },
    SortKey {
        column: "ttl",
        expression: "uploads.ttl",
        kind: KeyKind::Integer,
    },
    SortKey {
        column: "id",
        expression: "uploads.id",
        kind: KeyKind::Text,
    },
];

async fn page(metadata: &Metadata, ascending: bool, start: Start) -> Page {
    let request = PageRequest {
        limit: 3,
        ascending,
        start,
    };
    let mut params = Vec::new();
    let clauses = request
        .clauses(metadata.engine().dialect(), KEYS, &mut params)
        .unwrap();
    let sql = format!(
        "SELECT id, ttl, created_at FROM uploads WHERE {} ORDER BY {} LIMIT {}",
        clauses.condition, clauses.order, clauses.limit
    );
    let rows = metadata.engine().query("list", sql, params).await.unwrap();
    request.page(rows, KEYS)
}

fn ids(rows: &[Row]) -> Vec<String> {
    rows.iter().map(|row| row.text("id")).collect()
}

/// Eight uploads, `a` to `h`, in the order of their times: unknown times first, then several
/// offsets, a microsecond apart, equal times told apart by `ttl` and id.
async fn eight(place: &Place) -> Metadata {
    let metadata = place.open().await;
    for (id, ttl, created_at) in [
        ("c", 1, "'2026-11-20 22:48:59.999999+02:00'"),
        ("a", 0, "NULL"),
        ("g", 5, "'2026-11-20 15:49:00.000001-05:00'"),
        ("b", 1, "NULL"),
        ("f", 2, "'2026-11-20 20:49:00+00:00'"),
        ("e", 1, "'2026-11-20 15:49:00-05:00'"),
        ("h", 0, "'2027-01-01 00:00:00+14:00'"),
        ("d", 1, "'2026-11-20 20:49:00+00:00'"),
    ] {
        metadata.create_upload(&upload(id), &[]).await.unwrap();
        place
            .script(&format!(
                "UPDATE uploads SET ttl = {ttl}, created_at = {created_at} WHERE id = '{id}'"
            ))
            .await;
    }
    metadata
}

async fn pages_go_forth_and_back_without_gaps_and_repeats(place: &Place) {
    let metadata = eight(place).await;
    for ascending in [true, false] {
        let mut expected: Vec<String> = "abcdefgh".chars().map(String::from).collect();
        if !ascending {
            expected.reverse();
        }
        let mut forth = Vec::new();
        let mut start = Start::First;
        let last = loop {
            let page = page(&metadata, ascending, start).await;
            forth.extend(ids(&page.rows));
            match page.after {
                Some(after) => start = Start::After(after),
                None => break page.before.unwrap(),
            }
        };
        assert_eq!(forth, expected);
        let mut back = Vec::new();
        let mut start = Start::Before(last);
        loop {
            let page = page(&metadata, ascending, start).await;
            back.splice(0..0, ids(&page.rows));
            match page.before {
                Some(before) => start = Start::Before(before),
                None => break,
            }
        }
        // All but the last page, where it started.
        assert_eq!(back, expected[..6]);
    }
}

async fn pages_survive_rows_that_come_and_go(place: &Place) {
    let metadata = eight(place).await;
    let first = page(&metadata, true, Start::First).await;
    place
        .script("DELETE FROM uploads WHERE id IN ('a', 'c', 'e')")
        .await;
    let second = page(&metadata, true, Start::After(first.after.unwrap())).await;
    assert_eq!(ids(&second.rows), ["d", "f", "g"]);
}

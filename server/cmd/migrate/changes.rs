//! Rows and blobs that a run changes or removes in the target, or would, and rows that differ or that
//! only the target has: each is named for a person as long as they are few.

use std::sync::atomic::{AtomicU64, Ordering};

use super::words::one_line;
use crate::migrate::{Action, Event};

/// So many of a kind are named to one who has not asked for all.
const FEW: u64 = 20;

/// What is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Change,
    Conflict,
    Extra,
}

impl Kind {
    /// What an event is about, if it is named for a person only as long as there are few.
    pub fn of(event: &Event<'_>) -> Option<Self> {
        match event {
            Event::Updated { .. } | Event::Deleted { .. } | Event::BlobDeleted { .. } => {
                Some(Self::Change)
            }
            Event::Conflict { .. } => Some(Self::Conflict),
            Event::Extra { .. } => Some(Self::Extra),
            Event::Would { action, .. } => match action {
                Action::Update | Action::Delete => Some(Self::Change),
                Action::Conflict => Some(Self::Conflict),
                Action::Extra => Some(Self::Extra),
                _ => None,
            },
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Change => "rows and blobs that change or go",
            Self::Conflict => "rows in conflict",
            Self::Extra => "rows that only the target has",
        }
    }
}

/// How many of each kind were named.
pub struct Changes {
    all: bool,
    named: [AtomicU64; 3],
}

impl Changes {
    /// With `all` every one is named.
    pub fn new(all: bool) -> Self {
        Self {
            all,
            named: Default::default(),
        }
    }

    /// Whether every row and blob is of interest.
    pub fn all(&self) -> bool {
        self.all
    }

    /// What is to be said about something of this kind that `line` is about.
    pub fn few(&self, kind: Kind, line: String) -> Option<String> {
        if self.all {
            return Some(line);
        }
        match self.named[kind as usize].fetch_add(1, Ordering::Relaxed) {
            named if named < FEW => Some(line),
            FEW => Some(format!(
                "the first {FEW} {} are named above; -v names all of them, and so do --report and \
                 --json",
                kind.name()
            )),
            _ => None,
        }
    }
}

/// The line about a change of the target; `None` if the event is about something else.
pub fn line(event: &Event<'_>) -> Option<String> {
    Some(match event {
        Event::Updated { table, key } => format!("updated: {table} {key}"),
        Event::Deleted { table, key } => {
            format!("deleted: {table} {key}: it is gone from the source")
        }
        Event::BlobDeleted { file_id, upload_id } => {
            let upload = upload_id.map(|id| format!(" of upload {id}"));
            one_line(&format!(
                "deleted: blob {file_id}{}",
                upload.unwrap_or_default()
            ))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_changes_are_named_and_all_of_them_on_request() {
        let said = |changes: &Changes, kind| {
            let lines = (0..100).filter_map(|_| changes.few(kind, "deleted: users a".to_owned()));
            lines.count()
        };
        assert_eq!(said(&Changes::new(true), Kind::Change), 100);
        let changes = Changes::new(false);
        for kind in [Kind::Change, Kind::Conflict, Kind::Extra] {
            assert_eq!(said(&changes, kind), 21, "{kind:?}");
            assert_eq!(changes.few(kind, String::new()), None);
        }
    }
}

//! Rows and blobs that a run changes or removes in the target, or would: each is named for a
//! person as long as they are few.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::migrate::{Action, Event};

/// So many are named to one who has not asked for all.
const FEW: u64 = 20;

/// How many were named.
pub struct Changes {
    all: bool,
    named: AtomicU64,
}

impl Changes {
    /// With `all` every one is named.
    pub fn new(all: bool) -> Self {
        Self {
            all,
            named: AtomicU64::new(0),
        }
    }

    /// Whether every row and blob is of interest.
    pub fn all(&self) -> bool {
        self.all
    }

    /// What is to be said about a change that `line` is about.
    pub fn few(&self, line: String) -> Option<String> {
        if self.all {
            return Some(line);
        }
        match self.named.fetch_add(1, Ordering::Relaxed) {
            named if named < FEW => Some(line),
            FEW => Some(format!(
                "the first {FEW} rows and blobs that change or go are named above; -v names all \
                 of them, and so do --report and --json"
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
            format!("deleted: blob {file_id}{}", upload.unwrap_or_default())
        }
        _ => return None,
    })
}

/// Whether the event is about a change of the target that a dry run foresees.
pub fn is_foreseen(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::Would {
            action: Action::Update | Action::Delete,
            ..
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_changes_are_named_and_all_of_them_on_request() {
        let said = |changes: &Changes| {
            let lines = (0..100).filter_map(|_| changes.few("deleted: users a".to_owned()));
            lines.count()
        };
        assert_eq!(said(&Changes::new(true)), 100);
        let changes = Changes::new(false);
        assert_eq!(said(&changes), 21);
        assert_eq!(changes.few(String::new()), None);
    }
}

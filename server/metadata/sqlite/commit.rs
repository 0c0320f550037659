//! Group commit: one thread takes every write that is waiting and commits them together, so that
//! many writers share the price of one sync to disk.

use std::thread;

use jiff::tz::TimeZone;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{failure, run};
use crate::metadata::MetadataError;
use crate::metadata::engine::{Expect, Statement, Written};
use crate::metadata::error::During;

/// Writes that may wait; a further one waits for its place.
const QUEUE: usize = 256;
/// Writes committed together, so that the first of them does not wait for ever.
const GROUP: usize = 128;

pub struct Writer {
    queue: mpsc::Sender<Message>,
    label: String,
}

enum Message {
    Write(Job),
    Close(oneshot::Sender<()>),
}

struct Job {
    action: &'static str,
    statements: Vec<Statement>,
    answer: oneshot::Sender<Result<Written, MetadataError>>,
}

impl Writer {
    pub fn start(
        connection: Connection,
        label: String,
        zone: TimeZone,
    ) -> Result<Self, MetadataError> {
        let (queue, messages) = mpsc::channel(QUEUE);
        let committer = Committer {
            connection,
            label: label.clone(),
            zone,
        };
        thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || committer.work(messages))
            .map_err(|error| {
                let during = During {
                    action: "start its writer thread",
                    backend: &label,
                };
                during.failed(error)
            })?;
        Ok(Self { queue, label })
    }

    pub async fn write(
        &self,
        action: &'static str,
        statements: Vec<Statement>,
    ) -> Result<Written, MetadataError> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            action,
            statements,
            answer,
        };
        let closed = || {
            let backend = &self.label;
            During { action, backend }.failed("it was closed")
        };
        self.queue
            .send(Message::Write(job))
            .await
            .map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Waits until every write accepted so far is answered and the connection is closed.
    pub async fn close(&self) {
        let (closed, wait) = oneshot::channel();
        // An error means that the thread has ended, which is what is asked for.
        if self.queue.send(Message::Close(closed)).await.is_ok() {
            let _ = wait.await;
        }
    }
}

struct Committer {
    connection: Connection,
    label: String,
    zone: TimeZone,
}

/// What became of each job of a group; the outer error is one that spared none of them.
type Outcomes = Vec<Result<Written, MetadataError>>;

impl Committer {
    fn work(self, mut messages: mpsc::Receiver<Message>) {
        let mut closing = None;
        while closing.is_none()
            && let Some(first) = messages.blocking_recv()
        {
            let mut group = Vec::new();
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Write(job) => group.push(job),
                    Message::Close(closed) => {
                        closing = Some(closed);
                        break;
                    }
                }
                next = (group.len() < GROUP)
                    .then(|| messages.try_recv().ok())
                    .flatten();
            }
            self.commit(group);
        }
        drop(self);
        if let Some(closed) = closing {
            // The one who closes may have stopped waiting.
            let _ = closed.send(());
        }
    }

    fn commit(&self, group: Vec<Job>) {
        if group.is_empty() {
            return;
        }
        if let Err(error) = self.connection.execute_batch("BEGIN IMMEDIATE") {
            for job in group {
                let refused = failure(self.during(job.action), &error);
                job.answer(Err(refused));
            }
            return;
        }
        match self.run_group(&group) {
            Ok(outcomes) => {
                for (job, outcome) in group.into_iter().zip(outcomes) {
                    job.answer(outcome);
                }
            }
            Err(error) => {
                self.roll_back();
                self.commit_one_by_one(group, &error);
            }
        }
    }

    /// The transaction of the group is lost, by the fault of one of its jobs or of the disk: each
    /// tries again on its own, so that it gets its own answer.
    fn commit_one_by_one(&self, mut group: Vec<Job>, error: &rusqlite::Error) {
        if group.len() > 1 {
            for job in group {
                self.commit(vec![job]);
            }
        } else if let Some(job) = group.pop() {
            let lost = failure(self.during(job.action), error);
            job.answer(Err(lost));
        }
    }

    fn run_group(&self, group: &[Job]) -> rusqlite::Result<Outcomes> {
        let outcomes = group
            .iter()
            .map(|job| self.run_job(job))
            .collect::<rusqlite::Result<Outcomes>>()?;
        self.connection.execute_batch("COMMIT")?;
        Ok(outcomes)
    }

    /// Runs one job inside the transaction of the group, all of it or nothing.
    fn run_job(&self, job: &Job) -> rusqlite::Result<Result<Written, MetadataError>> {
        self.connection.execute_batch("SAVEPOINT job")?;
        let outcome = self.run_statements(&job.statements);
        match outcome {
            Ok(written @ Written::Done(_)) => {
                self.connection.execute_batch("RELEASE job")?;
                Ok(Ok(written))
            }
            Ok(refused) => self.undo_job().map(|()| Ok(refused)),
            // A full disk and the like end the whole transaction.
            Err(error) if self.connection.is_autocommit() => Err(error),
            Err(error) => {
                self.undo_job()?;
                Ok(Err(failure(self.during(job.action), &error)))
            }
        }
    }

    fn undo_job(&self) -> rusqlite::Result<()> {
        self.connection
            .execute_batch("ROLLBACK TO job; RELEASE job")
    }

    fn run_statements(&self, statements: &[Statement]) -> rusqlite::Result<Written> {
        let mut done = Vec::with_capacity(statements.len());
        for (position, statement) in statements.iter().enumerate() {
            // The only writer has nobody to lock out.
            if statement.lock && statement.expect == Expect::Any {
                done.push(0);
                continue;
            }
            let rows = run(&self.connection, statement, &self.zone)?;
            if !statement.expect.is_met_by(rows) {
                return Ok(Written::Refused {
                    statement: position,
                    rows,
                });
            }
            done.push(rows);
        }
        Ok(Written::Done(done))
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!("{} cannot roll back: {error}", self.label);
        }
    }

    fn during<'a>(&'a self, action: &'a str) -> During<'a> {
        During {
            action,
            backend: &self.label,
        }
    }
}

impl Job {
    fn answer(self, outcome: Result<Written, MetadataError>) {
        // Whoever asked may have gone; the write stands all the same.
        let _ = self.answer.send(outcome);
    }
}

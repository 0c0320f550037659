//! The same work, done in turn by several programs.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::measure::{self, Usage};

/// The name of the one that the others are compared with.
pub const PLIKD: &str = "plikd";

/// A piece of work, and those who do it; plikd is the first of them.
pub struct Contest<'a> {
    pub amount: Amount,
    pub log: PathBuf,
    pub contestants: Vec<Contestant<'a>>,
}

/// How much a piece of work is.
#[derive(Clone, Copy, Debug)]
pub enum Amount {
    Rows(u64),
    Blobs(u64),
    Bytes(u64),
}

pub struct Contestant<'a> {
    pub name: &'static str,
    pub start: Start<'a>,
}

/// Makes the state that every run starts from, which is not measured.
pub type Start<'a> = Box<dyn Fn() -> Result<Attempt<'a>> + 'a>;

/// A run that is about to begin.
pub struct Attempt<'a> {
    pub command: Command,
    pub check: Check<'a>,
}

/// Fails unless the work was done, then sees to it that what was made is removed.
pub type Check<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// What became of a contest.
pub struct Standing {
    pub work: &'static str,
    pub amount: Amount,
    pub results: Vec<(&'static str, Result<Vec<Usage>>)>,
}

impl<'a> Contest<'a> {
    pub fn add(&mut self, name: &'static str, start: impl Fn() -> Result<Attempt<'a>> + 'a) {
        self.contestants.push(Contestant {
            name,
            start: Box::new(start),
        });
    }

    /// Everybody does the work once, then everybody once more: a machine that gets slower
    /// meanwhile is as slow for all. Whoever fails is out, with the reason.
    ///
    /// # Errors
    ///
    /// plikd failed.
    pub fn run(self, work: &'static str, rounds: NonZeroUsize) -> Result<Standing> {
        ensure!(
            self.contestants
                .first()
                .is_some_and(|one| one.name == PLIKD),
            "{work} has no plikd"
        );
        let mut results: Vec<_> = self
            .contestants
            .iter()
            .map(|one| (one.name, Ok(Vec::new())))
            .collect();
        for _ in 0..rounds.get() {
            for (contestant, (name, result)) in self.contestants.iter().zip(&mut results) {
                let Ok(usages) = result else { continue };
                match self.attempt(contestant) {
                    Ok(usage) => {
                        let seconds = usage.wall.as_secs_f64();
                        eprintln!("  {name:<22} {seconds:>8.2} s");
                        usages.push(usage);
                    }
                    Err(error) if *name == PLIKD => return Err(error).context(work),
                    Err(error) => {
                        eprintln!("  {name:<22} failed: {error:#}");
                        *result = Err(error);
                    }
                }
            }
        }
        Ok(Standing {
            work,
            amount: self.amount,
            results,
        })
    }

    fn attempt(&self, contestant: &Contestant<'_>) -> Result<Usage> {
        let mut attempt = (contestant.start)()?;
        // What earlier runs left to be written is not this one's.
        rustix::fs::sync();
        let usage = measure::run(&mut attempt.command, &self.log)?;
        if let Err(error) = (attempt.check)() {
            let said = measure::end_of(&self.log)?;
            bail!("the work was not done: {error:#}:\n{said}");
        }
        Ok(usage)
    }
}

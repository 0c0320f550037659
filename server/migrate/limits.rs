//! What a migration may take from those that live beside it.

mod limited;
mod limiter;
mod priority;
mod resting;
mod schedule;

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::Deserialize;

pub(super) use limited::Limited;
pub use limiter::Limiter;
pub use priority::lower_priority;
pub(super) use resting::Resting;
pub use schedule::Schedule;

/// Limits that can change while a migration runs. By default there are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Bytes of blobs per second, of all workers together.
    pub bandwidth: Schedule,
    /// Requests per second to S3 servers, of both ends together.
    pub max_rps: Option<NonZeroU32>,
    pub nice: Option<Nice>,
}

impl Limits {
    /// Reads the TOML file of `--limits`: the keys `bwlimit`, `max-rps` and `nice`, each with the
    /// value of the option of that name. What it does not name is not limited.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, with key or line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: LimitsFile = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.unwrap_or_default().matches('\n').count();
            let wrong = text.lines().nth(line).unwrap_or_default().trim();
            let reason = error.message().replace('\n', " ");
            format!("line {}, `{wrong}`: {reason}", line + 1)
        })?;
        let wrong = |key: &str, error: String| format!("{key}: {error}");
        Ok(Self {
            bandwidth: match file.bwlimit {
                Some(text) => text.parse().map_err(|error| wrong("bwlimit", error))?,
                None => Schedule::default(),
            },
            max_rps: file.max_rps,
            nice: match file.nice {
                Some(ratio) => Some(Nice::new(ratio).map_err(|error| wrong("nice", error))?),
                None => None,
            },
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LimitsFile {
    bwlimit: Option<String>,
    max_rps: Option<NonZeroU32>,
    nice: Option<f64>,
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bandwidth == Schedule::default() {
            true => f.write_str("bandwidth unlimited")?,
            false => write!(f, "bandwidth {}", self.bandwidth)?,
        }
        match self.max_rps {
            Some(requests) => write!(f, ", requests {requests}/s")?,
            None => f.write_str(", requests unlimited")?,
        }
        match self.nice {
            Some(Nice(ratio)) => write!(f, ", nice {ratio}"),
            None => f.write_str(", nice off"),
        }
    }
}

/// How long the source is left alone after each batch of rows: so many times as long as the batch
/// took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nice(f64);

impl Nice {
    /// More than that is no migration any more.
    const MOST: f64 = 100.0;

    fn new(ratio: f64) -> Result<Self, String> {
        match (0.0..=Self::MOST).contains(&ratio) {
            true => Ok(Self(ratio)),
            false => Err(format!("a number from 0 to {} is needed", Self::MOST)),
        }
    }

    /// The number.
    pub fn ratio(self) -> f64 {
        self.0
    }
}

impl FromStr for Nice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // What is no number is not within the range either.
        Self::new(text.parse().unwrap_or(f64::NAN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_values_of_the_options() {
        let limits = Limits::parse(
            "# at noon\nbwlimit = \"08:00,5MiB 19:00,off\"\nmax-rps = 50\nnice = 1\n",
        );
        assert_eq!(
            limits.unwrap(),
            Limits {
                bandwidth: "08:00,5MiB 19:00,off".parse().unwrap(),
                max_rps: NonZeroU32::new(50),
                nice: Some(Nice(1.0)),
            }
        );
        assert_eq!(Limits::parse("").unwrap(), Limits::default());
    }

    #[test]
    fn a_bad_file_is_refused_with_what_is_wrong() {
        for (text, said) in [
            ("bwlimit = \"fast\"", "bwlimit: "),
            ("bwlimit = 5", "bwlimit"),
            ("max-rps = 0", "max-rps"),
            ("max-rps = -1", "max-rps"),
            ("max_rps = 5", "max_rps"),
            ("nice = -1", "nice: a number from 0 to 100"),
            ("nice = nan", "nice: a number from 0 to 100"),
            ("nice = inf", "nice: a number from 0 to 100"),
            ("bwlimit", "line 1"),
            ("nice = 1\nmax-rps = 0\n", "line 2, `max-rps = 0`: "),
        ] {
            let error = Limits::parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
            assert!(!error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn niceness_is_a_ratio() {
        assert_eq!("0.5".parse(), Ok(Nice(0.5)));
        for text in ["", "very", "-0.1", "101", "NaN"] {
            assert!(text.parse::<Nice>().is_err(), "{text}");
        }
    }

    #[test]
    fn they_are_shown_in_one_line() {
        assert_eq!(
            Limits::default().to_string(),
            "bandwidth unlimited, requests unlimited, nice off"
        );
        let limits = Limits::parse("bwlimit = \"1MiB\"\nmax-rps = 9\nnice = 0.5").unwrap();
        assert_eq!(
            limits.to_string(),
            "bandwidth 1.00 MiB/s, requests 9/s, nice 0.5"
        );
    }
}

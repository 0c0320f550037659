//! A rate that depends on the time of day.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use indicatif::BinaryBytes;
use jiff::civil::Time;

use crate::config::size;

/// Bytes per second; `None` is as fast as it goes.
pub type Rate = Option<NonZeroU64>;

/// How many bytes per second may pass, and when. By default any number, always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Each rate with the time of day from which on it holds, earliest first. The last one of a
    /// day holds until the first one of the next.
    entries: Vec<(Time, Rate)>,
}

impl Schedule {
    /// The rate at a time of the day.
    pub fn at(&self, time: Time) -> Rate {
        let begun = self.entries.iter().rfind(|(from, _)| *from <= time);
        begun.or(self.entries.last()).and_then(|(_, rate)| *rate)
    }
}

/// `50MiB` for always, or times of day with rates: `08:00,5MiB 19:00,off`.
impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut entries = match words[..] {
            [] => return Err("a rate is missing: `50MiB`, `off` or `08:00,5MiB 19:00,off`".into()),
            [rate] if !rate.contains(',') => vec![(Time::midnight(), parse_rate(rate)?)],
            _ => words
                .into_iter()
                .map(parse_entry)
                .collect::<Result<Vec<_>, _>>()?,
        };
        entries.sort_by_key(|(from, _)| *from);
        match entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(format!("{} is there twice", shown(pair[0].0))),
            None => Ok(Self { entries }),
        }
    }
}

fn parse_entry(text: &str) -> Result<(Time, Rate), String> {
    let wrong = || format!("`{text}` is no time and rate, such as `08:00,5MiB`");
    let (time, rate) = text.split_once(',').ok_or_else(wrong)?;
    Ok((parse_time(time).ok_or_else(wrong)?, parse_rate(rate)?))
}

fn parse_time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let number = |digits: &str| -> Option<i8> {
        let two = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        two.then(|| digits.parse().ok()).flatten()
    };
    Time::new(number(hour)?, number(minute)?, 0, 0).ok()
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    if text == "off" {
        return Ok(None);
    }
    let bytes =
        size::parse(text).map_err(|_| format!("`{text}` is no rate, such as `50MiB` or `off`"))?;
    let rate = u64::try_from(bytes).ok().and_then(NonZeroU64::new);
    match rate {
        Some(rate) => Ok(Some(rate)),
        None => Err(format!(
            "`{text}` lets nothing pass; `off` is no limit at all"
        )),
    }
}

fn shown(time: Time) -> String {
    format!("{:02}:{:02}", time.hour(), time.minute())
}

/// Per second, as it can be parsed by a person.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |rate: &Rate| match rate {
            Some(rate) => format!("{}/s", BinaryBytes(rate.get())),
            None => "off".to_owned(),
        };
        match &self.entries[..] {
            [] => f.write_str("off"),
            [(_, always)] => f.write_str(&rate(always)),
            entries => {
                let entries = entries.iter().map(|(from, entry)| {
                    let (from, rate) = (shown(*from), rate(entry));
                    format!("{from} {rate}")
                });
                f.write_str(&entries.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate_at(schedule: &str, hour: i8, minute: i8) -> Option<u64> {
        let schedule: Schedule = schedule.parse().unwrap();
        let time = Time::constant(hour, minute, 0, 0);
        schedule.at(time).map(NonZeroU64::get)
    }

    #[test]
    fn one_rate_holds_always() {
        for hour in [0, 12, 23] {
            assert_eq!(rate_at("50MiB", hour, 59), Some(50 << 20));
            assert_eq!(rate_at("off", hour, 59), None);
            assert_eq!(Schedule::default().at(Time::constant(hour, 0, 0, 0)), None);
        }
    }

    #[test]
    fn a_rate_holds_until_the_next_one_and_over_midnight() {
        for text in [
            "08:00,5MiB 12:30,10MiB 19:00,off",
            "19:00,off  12:30,10MiB 08:00,5MiB",
        ] {
            assert_eq!(rate_at(text, 8, 0), Some(5 << 20));
            assert_eq!(rate_at(text, 12, 29), Some(5 << 20));
            assert_eq!(rate_at(text, 12, 30), Some(10 << 20));
            assert_eq!(rate_at(text, 19, 0), None);
            assert_eq!(rate_at(text, 7, 59), None);
        }
        assert_eq!(rate_at("08:00,off 19:00,1KiB", 3, 0), Some(1024));
        assert_eq!(rate_at("08:00,1KiB", 3, 0), Some(1024));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("", "a rate is missing"),
            ("0", "lets nothing pass"),
            ("-1", "lets nothing pass"),
            ("fast", "`fast` is no rate, such as `50MiB`"),
            ("08:00", "08:00"),
            ("8:00,5MiB", "`8:00,5MiB` is no time and rate"),
            ("25:00,5MiB", "`25:00,5MiB` is no time and rate"),
            ("08:60,5MiB", "no time and rate"),
            ("08:00,5MiB 19:00", "`19:00` is no time and rate"),
            ("08:00,5MiB 08:00,off", "08:00 is there twice"),
            ("08:00,", ""),
            ("08:00,5MiB,off", ""),
        ] {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn it_is_shown_to_a_person() {
        let shown = |text: &str| text.parse::<Schedule>().unwrap().to_string();
        assert_eq!(shown("50MiB"), "50.00 MiB/s");
        assert_eq!(
            shown("19:00,off 08:00,512KiB"),
            "08:00 512.00 KiB/s, 19:00 off"
        );
    }
}

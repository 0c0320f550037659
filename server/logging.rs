//! Log lines: `[03/14/2026 15:09:26][INFO    ] text key=value`, in local time.
//!
//! A line stays one line whatever a client sends: control characters are escaped. Fields follow the
//! text, first those of the event, then those of the spans around it, the outermost first.

use std::fmt::{self, Write};

use jiff::Zoned;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::SetGlobalDefaultError;
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

/// What is worth a line, as `LogLevel` calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    Debug,
    Info,
    Warning,
    /// Only what wants a person. `FATAL` means the same: what ends the program is not hidden.
    Critical,
}

impl Threshold {
    /// The threshold of that name; anything unknown is [`Threshold::Info`].
    pub fn named(name: &str) -> Self {
        match name {
            "DEBUG" => Self::Debug,
            "WARNING" => Self::Warning,
            "CRITICAL" | "FATAL" => Self::Critical,
            _ => Self::Info,
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warning => LevelFilter::WARN,
            Self::Critical => LevelFilter::ERROR,
        }
    }
}

/// Sends the log lines of this process to `destination`, from now until it ends. Libraries are heard
/// only when they warn.
///
/// # Errors
///
/// When something else took the log lines already.
pub fn init<W>(threshold: Threshold, destination: W) -> Result<(), SetGlobalDefaultError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing::subscriber::set_global_default(subscriber(threshold, destination, Zoned::now))
}

fn subscriber<W>(
    threshold: Threshold,
    destination: W,
    now: fn() -> Zoned,
) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let libraries = threshold.filter().min(LevelFilter::WARN);
    let filter = Targets::new()
        .with_default(libraries)
        .with_target(env!("CARGO_CRATE_NAME"), threshold.filter());
    let lines = tracing_subscriber::fmt::layer()
        .fmt_fields(Fields)
        .event_format(Lines { now })
        .with_writer(destination);
    tracing_subscriber::registry().with(filter).with(lines)
}

/// Writes one event as one line.
struct Lines {
    now: fn() -> Zoned,
}

impl<S> FormatEvent<S, Fields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, Fields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let now = (self.now)();
        write!(
            writer,
            "[{:02}/{:02}/{:04} {:02}:{:02}:{:02}][{:<8}]",
            now.month(),
            now.day(),
            now.year(),
            now.hour(),
            now.minute(),
            now.second(),
            level_name(*event.metadata().level()),
        )?;
        if !parts.message.is_empty() {
            write!(writer, " {}", parts.message)?;
        }
        writer.write_str(&parts.fields)?;
        for span in context
            .event_scope()
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(fields) = span.extensions().get::<FormattedFields<Fields>>() {
                writer.write_str(fields)?;
            }
        }
        writeln!(writer)
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "CRITICAL",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
}

/// Writes the fields of spans as those of events: each after a space.
struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: tracing_subscriber::field::RecordFields>(
        &self,
        mut writer: Writer<'w>,
        fields: R,
    ) -> fmt::Result {
        let mut parts = Parts::default();
        fields.record(&mut parts);
        writer.write_str(&parts.fields)
    }

    fn add_fields(
        &self,
        current: &'w mut FormattedFields<Self>,
        fields: &span::Record<'_>,
    ) -> fmt::Result {
        self.format_fields(current.as_writer(), fields)
    }
}

/// The message of an event, and its other fields as ` key=value`, both escaped.
#[derive(Default)]
struct Parts {
    message: String,
    fields: String,
}

impl Parts {
    fn add(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            escape(value, false, &mut self.message);
            return;
        }
        let quote = value.is_empty()
            || value.contains(|c: char| matches!(c, '"' | '=' | '\\') || c.is_whitespace());
        self.fields.push(' ');
        self.fields.push_str(field.name());
        self.fields.push('=');
        if quote {
            self.fields.push('"');
        }
        escape(value, quote, &mut self.fields);
        if quote {
            self.fields.push('"');
        }
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.add(field, &text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// Appends text without the characters that would end a line, move a terminal's cursor, or, between
/// quotes, end the quotes.
fn escape(text: &str, quoted: bool, out: &mut String) {
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '"' | '\\' if quoted => out.extend(['\\', c]),
            // Line and paragraph separators end a line for some readers.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                out.extend(c.escape_unicode());
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use jiff::civil::date;
    use jiff::tz::{Offset, TimeZone};
    use tracing::{debug, error, info, info_span, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn clock() -> Zoned {
        let zone = TimeZone::fixed(Offset::constant(-3));
        date(2026, 3, 4)
            .at(5, 6, 7, 999_999_999)
            .to_zoned(zone)
            .unwrap()
    }

    /// What `log` writes, without the time and the level of each line.
    fn lines(threshold: Threshold, log: impl FnOnce()) -> String {
        let written = Written::default();
        let destination = written.clone();
        let subscriber = subscriber(threshold, move || destination.clone(), clock);
        tracing::subscriber::with_default(subscriber, log);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn text(log: impl FnOnce()) -> String {
        let line = lines(Threshold::Info, log);
        let text = line
            .strip_prefix("[03/04/2026 05:06:07][INFO    ]")
            .unwrap();
        text.strip_suffix('\n').unwrap().to_owned()
    }

    #[test]
    fn a_line_has_local_time_a_padded_level_and_its_text() {
        let written = lines(Threshold::Debug, || {
            debug!("one");
            info!("two");
            warn!("three");
            error!("four");
        });
        assert_eq!(
            written,
            "[03/04/2026 05:06:07][DEBUG   ] one\n\
             [03/04/2026 05:06:07][INFO    ] two\n\
             [03/04/2026 05:06:07][WARNING ] three\n\
             [03/04/2026 05:06:07][CRITICAL] four\n"
        );
    }

    #[test]
    fn fields_follow_the_text() {
        let written = text(|| {
            info!(file.id = %"7Wq3", size_bytes = 5, done = true, ratio = 0.5, "blob stored");
        });
        assert_eq!(
            written,
            " blob stored file.id=7Wq3 size_bytes=5 done=true ratio=0.5"
        );
        assert_eq!(text(|| info!(only = 1)), " only=1");
    }

    #[test]
    fn values_that_would_be_misread_are_quoted() {
        let written = text(|| {
            info!(
                name = "a b",
                quote = "say \"hi\"",
                empty = "",
                slash = r"a\b",
                plain = "é/ü",
                "x"
            );
        });
        assert_eq!(
            written,
            r#" x name="a b" quote="say \"hi\"" empty="" slash="a\\b" plain=é/ü"#
        );
    }

    #[test]
    fn nothing_breaks_out_of_its_line() {
        let evil = "a\r\n[03/04/2026 05:06:07][INFO    ] forged\u{1b}[2J\0\u{85}\u{2028}";
        let written = text(|| info!(name = evil, "{evil}"));
        assert!(
            !written.contains(|c: char| c.is_control() || c == '\u{2028}'),
            "{written:?}"
        );
        assert!(written.starts_with(" a\\r\\n[03/04/2026"), "{written}");
        assert!(written.contains("forged\\u{1b}[2J\\u{0}\\u{85}\\u{2028} name=\"a\\r\\n"));
    }

    #[test]
    fn an_error_is_written_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot store blob")]
        struct Outer(#[source] io::Error);
        let outer = Outer(io::Error::other("disk full"));
        let error: &(dyn std::error::Error + 'static) = &outer;
        let written = text(|| info!(error, "x"));
        assert_eq!(written, " x error=\"cannot store blob: disk full\"");
    }

    #[test]
    fn the_fields_of_spans_come_after_those_of_the_event() {
        let written = text(|| {
            let outer = info_span!("request", id = 7, status = tracing::field::Empty);
            outer.record("status", 200);
            let _outer = outer.enter();
            let _inner = info_span!("upload", upload = "x y").entered();
            info!(own = 1, "done");
        });
        assert_eq!(written, " done own=1 id=7 status=200 upload=\"x y\"");
    }

    #[test]
    fn libraries_are_heard_only_when_they_warn() {
        let log = || {
            debug!("ours");
            tracing::info!(target: "hyper::proto", "theirs");
            tracing::warn!(target: "hyper::proto", "trouble");
        };
        let debug = lines(Threshold::Debug, log);
        assert!(
            debug.contains("ours") && debug.contains("trouble"),
            "{debug}"
        );
        assert!(!debug.contains("theirs"), "{debug}");
        let info = lines(Threshold::Info, log);
        assert!(!info.contains("ours") && info.contains("trouble"), "{info}");
        assert_eq!(lines(Threshold::Critical, log), "");
    }

    #[test]
    fn a_threshold_is_named_in_capitals_or_is_info() {
        for (name, threshold) in [
            ("DEBUG", Threshold::Debug),
            ("INFO", Threshold::Info),
            ("WARNING", Threshold::Warning),
            ("CRITICAL", Threshold::Critical),
            ("FATAL", Threshold::Critical),
            ("debug", Threshold::Info),
            ("", Threshold::Info),
        ] {
            assert_eq!(Threshold::named(name), threshold, "{name}");
        }
    }
}

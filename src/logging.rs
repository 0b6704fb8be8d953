//! The log: `tracing` events to standard error, for people or as JSON, and panics among them.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::{self, PanicHookInfo};

use shards::log_limited;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, nearest, quote};

const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace", "off"];

/// Which events are logged: a level, or directives of `tracing_subscriber::EnvFilter`. Checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(String);

impl Filter {
    /// Checks `text`.
    ///
    /// # Errors
    /// The reason why it is no filter. Each directive has to end in a level: `EnvFilter` would take
    /// a mistyped level for the name of a module, and then log nothing else.
    pub fn parse(text: &str) -> Result<Filter, String> {
        text.split(',').try_for_each(check_directive)?;
        match EnvFilter::try_new(text) {
            Ok(_) => Ok(Filter(text.to_owned())),
            Err(error) => Err(format!("{}: {error}", quote(text))),
        }
    }

    /// The filter's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_directive(directive: &str) -> Result<(), String> {
    let level = directive
        .rsplit_once('=')
        .map_or(directive, |(_, level)| level);
    if LEVELS.contains(&level) {
        return Ok(());
    }
    let nearest = nearest(level, LEVELS.iter().copied());
    let (level, known) = (quote(level), LEVELS.join(", "));
    Err(format!(
        "unknown level {level}; the nearest is {nearest} (known: {known})"
    ))
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The directives, though checked, were refused.
    #[error("log filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// There is a subscriber already.
    #[error("logging is set up already")]
    AlreadySet(#[from] tracing_subscriber::util::TryInitError),
}

/// Logs to standard error from now on, for the whole process. Times are in UTC; text has colours
/// on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
///
/// # Errors
/// [`LoggingError`], in particular when it is called twice.
pub fn init(filter: &Filter, format: LogFormat) -> Result<(), LoggingError> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter.as_str())?)
        .with_writer(std::io::stderr)
        .with_ansi(!no_color && std::io::stderr().is_terminal())
        // It would report a failing standard error there, by a macro that panics if that fails.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => builder.finish().try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

/// Logs panics as errors with their place. Where errors are not logged (before [`init`], or by the
/// filter), the hook that was there before still prints them.
pub fn install_panic_hook() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if tracing::enabled!(tracing::Level::ERROR) {
            log_panic(info);
        } else {
            previous(info);
        }
    }));
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string);
    let thread = std::thread::current();
    // Captured only if RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let captured = backtrace.status() == BacktraceStatus::Captured;
    log_limited!(
        error,
        location = place.as_deref(),
        thread = thread.name(),
        backtrace = captured.then(|| tracing::field::display(&backtrace)),
        "panic: {}",
        panic_message(info.payload()),
    );
}

/// What `panic!` was given, if it is text, as it nearly always is.
pub fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload.downcast_ref::<&str>().copied().unwrap_or_else(|| {
        payload
            .downcast_ref::<String>()
            .map_or("(not a text)", String::as_str)
    })
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn levels_and_directives_are_known() {
        for text in [
            "info",
            "off",
            "warn,tidegate::api=trace",
            "info,tidegate[conn{id=1}]=debug",
        ] {
            assert_eq!(Filter::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_mistyped_level_is_not_taken_for_a_module() {
        let known = "(known: error, warn, info, debug, trace, off)";
        let cases = [
            ("inof", "unknown level \"inof\"; the nearest is info"),
            ("", "unknown level \"\"; the nearest is"),
            (
                "info,tidegate=debgu",
                "unknown level \"debgu\"; the nearest is debug",
            ),
        ];
        for (text, expected) in cases {
            let error = Filter::parse(text).unwrap_err();
            assert!(
                error.starts_with(expected) && error.ends_with(known),
                "{error}"
            );
        }
        assert!(Filter::parse("a[b=info").is_err());
    }

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_logged_with_its_place_and_its_message() {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(move || writer.clone())
            .finish();
        install_panic_hook();
        let line = line!() + 2;
        tracing::subscriber::with_default(subscriber, || {
            panic::catch_unwind(|| panic!("shard {} is gone", 7)).unwrap_err();
        });
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        let event: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(event["level"], "ERROR");
        assert_eq!(event["message"], "panic: shard 7 is gone");
        let place = format!("{}:{line}:", file!());
        assert!(
            event["location"].as_str().unwrap().starts_with(&place),
            "{text}"
        );
    }
}

//! Where values come from, and which of them counts.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::option::{Form, Opt, Preset};
use super::value::Value;
use super::{Config, OPTIONS};

/// How much of a wrong value an error repeats.
const MAX_QUOTED_CHARS: usize = 80;

/// What defaults depend on.
#[derive(Clone, Debug)]
pub struct Host {
    /// CPUs that this process may use.
    pub cpus: usize,
    /// The machine's name.
    pub name: String,
}

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Flag(String),
    /// In this environment variable.
    Environment(String),
    /// In the file, on this line (from 1).
    File(String, usize),
    /// Nowhere.
    Default,
    /// Nowhere; the default is worked out as the text says.
    Derived(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => write!(f, "flag --{flag}"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::File(path, line) => write!(f, "{path}:{line}"),
            Origin::Default => write!(f, "default"),
            Origin::Derived(how) => write!(f, "default: {how}"),
        }
    }
}

/// A value that somebody gave, not yet checked.
#[derive(Clone, Debug)]
pub struct Given {
    /// The option it is for.
    pub opt: &'static Opt,
    /// The value as text.
    pub text: String,
    /// Who gave it.
    pub origin: Origin,
}

/// An option's value in force.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The option.
    pub opt: &'static Opt,
    /// Its value as the TOML file would say it.
    pub value: toml::Value,
    /// Where it comes from.
    pub origin: Origin,
}

/// A configuration, and how it came about.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What the program runs by.
    pub config: Config,
    /// The same, option by option in the table's order, with origins.
    pub settings: Vec<Setting>,
}

/// A configuration or command line that cannot be followed. Its text is one line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// A flag, command or environment variable that does not exist.
    #[error("unknown {what} {name}; the nearest is {nearest}")]
    UnknownName {
        /// What it would be.
        what: &'static str,
        /// What was given.
        name: String,
        /// The known name most like it.
        nearest: String,
    },
    /// A key in the file that does not exist.
    #[error("{file}:{line}: unknown key {name}; the nearest is {nearest}")]
    UnknownKey {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What was given.
        name: String,
        /// The known key most like it.
        nearest: &'static str,
    },
    /// A value that the option cannot have.
    #[error("{key} ({origin}): {reason}")]
    Value {
        /// The option.
        key: &'static str,
        /// Where it was given.
        origin: Origin,
        /// What is wrong.
        reason: String,
    },
    /// Two values that do not go together.
    #[error("{} = {} ({}) must not exceed {} = {} ({})",
        .small.opt.key, .small.value, .small.origin, .large.opt.key, .large.value, .large.origin)]
    Order {
        /// What is too large.
        small: Box<Setting>,
        /// What it exceeds.
        large: Box<Setting>,
    },
    /// The file cannot be read or is not TOML.
    #[error("{file}: {reason}")]
    File {
        /// The file, with the line if one is known.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A command line that makes no sense.
    #[error("{0}")]
    CommandLine(String),
}

impl PartialEq for Setting {
    fn eq(&self, other: &Self) -> bool {
        (self.opt.key, &self.value, &self.origin) == (other.opt.key, &other.value, &other.origin)
    }
}

impl Eq for Setting {}

/// What the environment says: every `TIDEGATE_*` variable but those in `except`.
///
/// # Errors
/// A variable of that prefix that is no option, or a value that is not UTF-8.
pub fn env_layer(
    env: impl IntoIterator<Item = (OsString, OsString)>,
    except: &[&str],
) -> Result<Vec<Given>, UsageError> {
    let mut given = Vec::new();
    for (name, value) in env {
        let name = name.to_string_lossy();
        if !name.starts_with("TIDEGATE_") || except.contains(&&*name) {
            continue;
        }
        let Some(opt) = OPTIONS.iter().find(|opt| opt.env() == name) else {
            let names: Vec<String> = OPTIONS.iter().map(|opt| opt.env()).collect();
            let known = names
                .iter()
                .map(String::as_str)
                .chain(except.iter().copied());
            return Err(UsageError::UnknownName {
                what: "environment variable",
                nearest: nearest(&name, known).to_owned(),
                name: printable(&name),
            });
        };
        given.push(Given::new(
            opt,
            value,
            Origin::Environment(name.into_owned()),
        )?);
    }
    Ok(given)
}

impl Given {
    /// A value from the command line or the environment.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub fn new(opt: &'static Opt, value: OsString, origin: Origin) -> Result<Given, UsageError> {
        match value.into_string() {
            Ok(text) => Ok(Given { opt, text, origin }),
            Err(value) => Err(UsageError::Value {
                key: opt.key,
                origin,
                reason: format!("{} is not UTF-8", quote(&value.to_string_lossy())),
            }),
        }
    }
}

/// What the TOML file `path` says, `text` being what stands in it.
///
/// # Errors
/// It is not TOML, has a key that is no option, or a value of a type that no option has.
pub fn file_layer(path: &str, text: &str) -> Result<Vec<Given>, UsageError> {
    let file = printable(path);
    let line_at = |offset: usize| {
        let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
        1 + before.iter().filter(|&&byte| byte == b'\n').count()
    };
    let table = DeTable::parse(text).map_err(|error| UsageError::File {
        file: match error.span() {
            Some(span) => format!("{file}:{}", line_at(span.start)),
            None => file.clone(),
        },
        reason: printable(error.message()),
    })?;
    let mut given = Vec::new();
    for (key, value) in table.get_ref() {
        let line = line_at(key.span().start);
        let opt = OPTIONS.iter().find(|opt| opt.key == *key.get_ref());
        let Some(opt) = opt.filter(|_| !value.get_ref().is_table()) else {
            let name = leaf(key.get_ref(), value.get_ref());
            return Err(UsageError::UnknownKey {
                file,
                line,
                nearest: nearest(&name, OPTIONS.iter().map(|opt| opt.key)),
                name: printable(&name),
            });
        };
        let origin = Origin::File(file.clone(), line);
        match file_text(value, &opt.form) {
            Ok(text) => given.push(Given { opt, text, origin }),
            Err(reason) => {
                return Err(UsageError::Value {
                    key: opt.key,
                    origin,
                    reason,
                });
            }
        }
    }
    // In the order of the file, so that of several errors the first is told.
    given.sort_by_key(|given| match given.origin {
        Origin::File(_, line) => line,
        _ => 0,
    });
    Ok(given)
}

/// The full name of the first key in a table: Kafka's dotted names come as nested tables.
fn leaf(key: &str, value: &DeValue<'_>) -> String {
    let mut name = key.to_owned();
    let mut value = value;
    while let Some((key, inner)) = value.as_table().and_then(|table| table.iter().next()) {
        name = format!("{name}.{}", key.get_ref());
        value = inner.get_ref();
    }
    name
}

/// A TOML value as the text that a flag would have.
fn file_text(value: &Spanned<DeValue<'_>>, form: &Form) -> Result<String, String> {
    let kind = value.get_ref().type_str();
    match (value.get_ref(), form) {
        (DeValue::String(text), _) => Ok(text.to_string()),
        (DeValue::Boolean(value), _) => Ok(value.to_string()),
        (DeValue::Integer(number), _) => i128::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| format!("{} is out of bounds", quote(number.as_str()))),
        (DeValue::Array(items), Form::List(_)) => {
            let texts = items.iter().map(|item| item.get_ref().as_str());
            let texts: Option<Vec<&str>> = texts.collect();
            Ok(texts.ok_or("an array of strings is wanted")?.join(","))
        }
        _ => Err(format!("a value of type {kind} is not wanted here")),
    }
}

/// Decides on every option. Of several that are given, the first in `given` counts: so flags come
/// before the environment, and that before the file.
///
/// # Errors
/// A value that is wrong for its option, or that does not go with another.
pub fn resolve(given: &[Given], host: &Host) -> Result<Resolved, UsageError> {
    let mut resolver = Resolver {
        given,
        host,
        settings: Vec::with_capacity(OPTIONS.len()),
    };
    let config = Config::take(&mut resolver)?;
    let settings = resolver.settings;
    let exceeds = config
        .ordered()
        .into_iter()
        .find(|[small, large]| small.1 > large.1);
    if let Some([small, large]) = exceeds {
        let find = |opt: &Opt| settings.iter().find(|s| s.opt.key == opt.key).cloned();
        if let (Some(small), Some(large)) = (find(small.0), find(large.0)) {
            return Err(UsageError::Order {
                small: small.into(),
                large: large.into(),
            });
        }
    }
    Ok(Resolved { config, settings })
}

/// Collects the settings while [`Config`] is built field by field.
pub(super) struct Resolver<'a> {
    given: &'a [Given],
    host: &'a Host,
    settings: Vec<Setting>,
}

impl Resolver<'_> {
    pub(super) fn take<T: Value>(&mut self, opt: &'static Opt) -> Result<T, UsageError> {
        let (text, origin) = self.text(opt);
        match T::parse(&text, &opt.form) {
            Ok(value) => {
                self.settings.push(Setting {
                    opt,
                    value: value.toml(),
                    origin,
                });
                Ok(value)
            }
            Err(reason) => Err(UsageError::Value {
                key: opt.key,
                origin,
                reason,
            }),
        }
    }

    fn text(&self, opt: &Opt) -> (Cow<'_, str>, Origin) {
        if let Some(given) = self.given.iter().find(|given| given.opt.key == opt.key) {
            return (Cow::Borrowed(&given.text), given.origin.clone());
        }
        match opt.preset {
            Preset::Is(text) => (Cow::Borrowed(text), Origin::Default),
            Preset::Derived(how, from) => (
                Cow::Owned(from(self.host, &self.settings)),
                Origin::Derived(how),
            ),
        }
    }
}

impl Resolved {
    /// What is allowed but likely not meant, with what to do about it.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let wildcard = self
            .config
            .listen
            .iter()
            .find(|address| address.is_unspecified());
        let derived =
            |s: &Setting| s.opt.key == "advertise" && matches!(s.origin, Origin::Derived(_));
        if let Some(listen) = wildcard
            && self.settings.iter().any(derived)
        {
            warnings.push(format!(
                "listening on {listen} without advertise: clients are told to connect to {}; if \
                 they cannot reach that name, set advertise (--advertise HOST[:PORT])",
                self.config.advertise
            ));
        }
        warnings
    }
}

/// The known name that is most like `name`, spelled in any of the usual ways.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> &'a str {
    let plain = |text: &str| -> String {
        let chars = text.chars().take(MAX_QUOTED_CHARS);
        chars
            .map(|c| {
                if matches!(c, '-' | '.') {
                    '_'
                } else {
                    c.to_ascii_lowercase()
                }
            })
            .collect()
    };
    let name = plain(name);
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(&name, &plain(known));
    known
        .into_iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .unwrap_or_default()
}

/// A value from outside, in quotes, on one line, of bounded length.
pub(crate) fn quote(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// A name from outside that goes on one line.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

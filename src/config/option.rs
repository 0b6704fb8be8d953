//! What the table of options is made of.

use super::layers::{Host, Setting};
use crate::record::Compression;

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// One option: a row of the table.
#[derive(Debug)]
pub struct Opt {
    /// Name in the TOML file; flag and environment variable follow from it.
    pub key: &'static str,
    /// Heading that the option stands under.
    pub section: &'static str,
    /// What it is for, in one line.
    pub doc: &'static str,
    /// The broker config of Kafka that means the same.
    pub kafka: Option<&'static str>,
    /// Its value if nobody gives one.
    pub preset: Preset,
    /// What values look like.
    pub form: Form,
}

/// The value of an option that nobody gave.
#[derive(Debug)]
pub enum Preset {
    /// This text.
    Is(&'static str),
    /// What the function makes of the host and of the options before this one in the table; the
    /// text says so to people.
    Derived(&'static str, fn(&Host, &[Setting]) -> String),
}

/// What values of an option look like.
#[derive(Debug)]
pub enum Form {
    /// Free text, with the name that help gives it.
    Text(&'static str),
    /// Several texts: the flag may be repeated, the TOML key may be an array, commas separate.
    List(&'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A level of this codec.
    Level(Compression),
    /// A whole number within bounds, both included.
    Number {
        /// What is counted, and so which suffixes may follow.
        unit: Unit,
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
    },
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes: plain, or with KiB, MiB, GiB.
    Bytes,
    /// Milliseconds: plain, or with ms, s, m.
    Millis,
}

pub(super) const fn count(min: u64, max: u64) -> Form {
    Form::Number {
        unit: Unit::Count,
        min,
        max,
    }
}

pub(super) const fn bytes(min: u64, max: u64) -> Form {
    Form::Number {
        unit: Unit::Bytes,
        min,
        max,
    }
}

pub(super) const fn millis(min: u64, max: u64) -> Form {
    Form::Number {
        unit: Unit::Millis,
        min,
        max,
    }
}

/// Makes [`Config`](super::Config), its table and its resolution out of one list.
macro_rules! options {
    ($($section:literal { $(
        $(#[doc = $doc:literal])+
        $field:ident $(as $key:literal)? : $type:ty = $preset:expr, $form:expr $(, kafka $kafka:literal)?;
    )+ })+) => {
        /// Everything that can be configured, checked.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Config { $($(
            $(#[doc = $doc])+
            pub $field: $type,
        )+)+ }

        /// The rows of the table, each under the name of its field.
        #[allow(non_upper_case_globals, reason = "a row is named as the field it describes")]
        mod table {
            use super::*;
            $($(
                pub(super) static $field: Opt = Opt {
                    key: option::key!($field $($key)?),
                    section: $section,
                    doc: concat!($($doc),+).trim_ascii(),
                    kafka: option::kafka!($($kafka)?),
                    preset: $preset,
                    form: $form,
                };
            )+)+
        }

        /// All options, in the order in which they are printed.
        pub static OPTIONS: &[&Opt] = &[$($(&table::$field),+),+];

        impl Config {
            /// Takes each option from where it is given, in the table's order.
            fn take(from: &mut layers::Resolver<'_>) -> Result<Config, UsageError> {
                Ok(Config { $($($field: from.take(&table::$field)?,)+)+ })
            }

            /// The options that Kafka has too, with their values, in the table's order.
            pub fn kafka_configs(&self) -> impl Iterator<Item = KafkaConfig> {
                [$($(KafkaConfig::of(&table::$field, &self.$field)),+),+].into_iter().flatten()
            }
        }
    };
}

/// The key of an option: the field's name, unless the table says otherwise.
macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

/// Kafka's name of an option, if the table says one.
macro_rules! kafka {
    () => {
        None
    };
    ($name:literal) => {
        Some($name)
    };
}

pub(super) use {kafka, key, options};

impl Opt {
    /// The flag, without its dashes.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The environment variable.
    pub fn env(&self) -> String {
        format!("TIDEGATE_{}", self.key.to_ascii_uppercase())
    }

    /// What it is for, and what Kafka calls it.
    pub fn meaning(&self) -> String {
        match self.kafka {
            Some(name) => format!("{} (Kafka {name}).", self.doc.trim_end_matches('.')),
            None => self.doc.to_owned(),
        }
    }

    /// The default, as people read it.
    pub fn default_text(&self) -> &'static str {
        match self.preset {
            Preset::Is(text) | Preset::Derived(text, _) => text,
        }
    }
}

impl Form {
    /// What stands for the value in help.
    pub fn placeholder(&self) -> String {
        match self {
            Form::Text(name) | Form::List(name) => (*name).to_owned(),
            Form::Choice(words) => words.join("|"),
            Form::Level(_) => Unit::Count.placeholder().to_owned(),
            Form::Number { unit, .. } => unit.placeholder().to_owned(),
        }
    }

    /// What is accepted, as the reference says it.
    pub fn accepts(&self) -> String {
        match self {
            Form::Text(name) => (*name).to_owned(),
            Form::List(name) => format!("{name}, several with commas"),
            Form::Choice(words) => words.join(", "),
            Form::Level(codec) => codec.levels().map(|l| l.to_string()).unwrap_or_default(),
            Form::Number { unit, min, max } => {
                format!("{} to {}", unit.display(*min), unit.display(*max))
            }
        }
    }
}

impl Unit {
    fn placeholder(self) -> &'static str {
        match self {
            Unit::Count => "N",
            Unit::Bytes => "BYTES",
            Unit::Millis => "MS",
        }
    }

    /// An example of a value, for messages.
    pub(super) fn example(self) -> &'static str {
        match self {
            Unit::Count => "a whole number",
            Unit::Bytes => "a size in bytes (4096, 64KiB, 10MiB, 1GiB)",
            Unit::Millis => "a time in milliseconds (500, 500ms, 30s, 10m)",
        }
    }

    /// Suffixes and what they multiply by, smallest first.
    pub(super) fn suffixes(self) -> &'static [(&'static str, u64)] {
        match self {
            Unit::Count => &[],
            Unit::Bytes => &[("KiB", KIB), ("MiB", MIB), ("GiB", GIB)],
            Unit::Millis => &[("ms", 1), ("s", 1_000), ("m", 60_000)],
        }
    }

    /// The number with the largest suffix that divides it.
    pub(super) fn display(self, number: u64) -> String {
        let fits = |(_, factor): &&(_, u64)| number > 0 && number.is_multiple_of(*factor);
        match self.suffixes().iter().rev().find(fits) {
            Some((suffix, factor)) => format!("{}{suffix}", number / factor),
            None => number.to_string(),
        }
    }
}

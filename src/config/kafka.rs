//! The options that Kafka has too, as its clients are told of them.

use super::option::{Opt, Preset};
use super::value::Value;

/// An option under its name in Kafka. Values are texts as Kafka writes them: numbers without units.
#[derive(Debug)]
pub struct KafkaConfig {
    /// The option.
    pub opt: &'static Opt,
    /// The broker config of Kafka that means the same.
    pub name: &'static str,
    /// What is in force.
    pub value: String,
    /// What would be if nobody had given a value; `None` if that depends on the host.
    pub default: Option<String>,
}

impl KafkaConfig {
    /// The option with this value; `None` if Kafka does not have it.
    pub(super) fn of<T: Value>(opt: &'static Opt, value: &T) -> Option<Self> {
        let default = match opt.preset {
            Preset::Is(text) => T::parse(text, &opt.form).ok(),
            Preset::Derived(..) => None,
        };
        Some(KafkaConfig {
            opt,
            name: opt.kafka?,
            value: text(value),
            default: default.as_ref().map(text),
        })
    }
}

fn text(value: &impl Value) -> String {
    match value.toml() {
        toml::Value::String(text) => text,
        other => other.to_string(),
    }
}

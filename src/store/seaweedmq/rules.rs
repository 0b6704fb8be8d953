//! The filer's rules for paths (`fs.configure`): what they mean for logs.

use serde::Deserialize;

use super::content;
use super::layout::TOPICS;
use crate::bridge::{Bridge, BridgeError};

/// Where the filer keeps them (`weed/filer/filer_conf.go`).
const DIRECTORY: &str = "/etc/seaweedfs";
const NAME: &str = "filer.conf";

/// What they say.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Rules {
    locations: Vec<Rule>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Rule {
    #[serde(rename = "locationPrefix")]
    prefix: String,
    ttl: String,
    /// As "001".
    replication: String,
}

impl Rule {
    /// Whether it is about any file of topics.
    fn is_about_topics(&self) -> bool {
        let below = format!("{TOPICS}/");
        below.starts_with(&self.prefix) || self.prefix.starts_with(&below)
    }
}

impl Rules {
    /// Those that are none are the filer's matter.
    pub async fn read(bridge: &Bridge) -> Result<Self, BridgeError> {
        let Some(entry) = bridge.lookup(DIRECTORY, NAME).await? else {
            return Ok(Rules::default());
        };
        let content = content(bridge, &entry).await?;
        Ok(serde_json::from_slice(&content).unwrap_or_default())
    }

    fn of_topics(&self) -> impl Iterator<Item = &Rule> {
        self.locations.iter().filter(|rule| rule.is_about_topics())
    }

    /// A rule by which chunks of topics would be removed when they are so old, whatever the topics keep;
    /// for people.
    pub fn expiring(&self) -> Option<String> {
        let Rule { prefix, ttl, .. } = self.of_topics().find(|rule| !rule.ttl.is_empty())?;
        Some(format!(
            "the filer's rule for {prefix} has a TTL of {ttl}: volume servers would remove records when they are so old, whatever their topics keep; remove it (fs.configure -locationPrefix={prefix} -delete -apply in weed shell): retention.ms of topics removes them from SeaweedFS too"
        ))
    }

    /// Whether volumes of topics have copies, if this is asked for; empty: what the rules say.
    pub fn copies(&self, asked: &str) -> bool {
        let is_copied = |replication: &str| replication.bytes().any(|digit| digit != b'0');
        match asked.is_empty() {
            true => self.of_topics().any(|rule| is_copied(&rule.replication)),
            false => is_copied(asked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rules: &str) -> Rules {
        serde_json::from_str(rules).unwrap()
    }

    #[test]
    fn rules_with_a_ttl_are_told_if_they_are_about_topics() {
        let told = |prefix: &str, ttl: &str| {
            let rules = format!(
                r#"{{"version": 1, "locations": [{{"locationPrefix": "/buckets/a", "ttl": "1d"}},
                    {{"locationPrefix": "{prefix}", "ttl": "{ttl}", "wormRetentionTimeSeconds": "0"}}]}}"#
            );
            parse(&rules).expiring().is_some()
        };
        for prefix in ["/", "/topics", "/topics/kafka/", "/topics/kafka/orders/"] {
            assert!(told(prefix, "7d"), "{prefix}");
            assert!(!told(prefix, ""), "{prefix}");
        }
        for prefix in ["/topics/other/", "/topics/kafka2/", "/buckets/"] {
            assert!(!told(prefix, "7d"), "{prefix}");
        }
    }

    #[test]
    fn volumes_have_copies_if_that_is_asked_for_or_else_if_a_rule_about_topics_says_so() {
        let rules = r#"{"locations": [{"locationPrefix": "/topics/", "replication": "010"}]}"#;
        let rules = parse(rules);
        assert!(rules.copies("") && rules.copies("001") && !rules.copies("000"));
        let others = parse(r#"{"locations": [{"locationPrefix": "/b", "replication": "010"}]}"#);
        assert!(!others.copies("") && others.copies("100"));
    }
}

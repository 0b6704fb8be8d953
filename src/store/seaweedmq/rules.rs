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

    /// Whether a rule says for all topics how their volumes are copied.
    fn say_of_all(&self) -> bool {
        let mut rules = self.of_topics();
        rules.any(|rule| !rule.replication.is_empty() && TOPICS.starts_with(&rule.prefix))
    }

    /// Whether volumes of some topics have copies, if this is asked for; empty: what the rules say, and
    /// where these say nothing, the default.
    pub fn copies(&self, asked: &str, default: &str) -> bool {
        let is_copied = |replication: &str| replication.bytes().any(|digit| digit != b'0');
        if !asked.is_empty() {
            return is_copied(asked);
        }
        self.of_topics().any(|rule| is_copied(&rule.replication))
            || (is_copied(default) && !self.say_of_all())
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
    fn volumes_have_copies_if_that_is_asked_for_or_else_if_a_rule_about_topics_or_the_default_says_so()
     {
        let rule = |prefix: &str, replication: &str| {
            parse(&format!(
                r#"{{"locations": [{{"locationPrefix": "{prefix}", "replication": "{replication}"}}]}}"#
            ))
        };
        for default in ["", "000"] {
            let topics = rule("/topics/", "010");
            assert!(topics.copies("", default) && topics.copies("001", default));
            assert!(!topics.copies("000", default));
            let others = rule("/b", "010");
            assert!(!others.copies("", default) && others.copies("100", default));
        }
        assert!(Rules::default().copies("", "001") && !Rules::default().copies("000", "001"));
        // A rule for all topics is said instead of the default, one for some is not.
        assert!(!rule("/topics/", "000").copies("", "001"));
        assert!(rule("/topics/kafka/some/", "000").copies("", "001"));
        assert!(rule("/topics/", "").copies("", "001"));
    }
}

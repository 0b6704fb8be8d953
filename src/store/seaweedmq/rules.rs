//! The filer's rules for paths (`fs.configure`): which of them would harm a log.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;

use super::layout::TOPICS;
use crate::bridge::{Bridge, BridgeError};

/// Where the filer keeps them (`weed/filer/filer_conf.go`).
const DIRECTORY: &str = "/etc/seaweedfs";
const NAME: &str = "filer.conf";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Rules {
    locations: Vec<Rule>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Rule {
    #[serde(rename = "locationPrefix")]
    prefix: String,
    ttl: String,
}

impl Rule {
    /// Whether it is about any file of topics.
    fn is_about_topics(&self) -> bool {
        let below = format!("{TOPICS}/");
        below.starts_with(&self.prefix) || self.prefix.starts_with(&below)
    }
}

/// A rule by which chunks of topics would be removed when they are so old, whatever the topics keep; for
/// people. Rules that are none are the filer's matter.
pub async fn that_expires(bridge: &Bridge) -> Result<Option<String>, BridgeError> {
    let Some(entry) = bridge.lookup(DIRECTORY, NAME).await? else {
        return Ok(None);
    };
    let mut content = BytesMut::from(&entry.content[..]);
    for chunk in &entry.chunks {
        content.extend_from_slice(&bridge.read(chunk, 0..chunk.size).await?);
    }
    Ok(expiring(&content.freeze()))
}

fn expiring(content: &Bytes) -> Option<String> {
    let rules: Rules = serde_json::from_slice(content).unwrap_or_default();
    let rule = rules
        .locations
        .into_iter()
        .find(|rule| !rule.ttl.is_empty() && rule.is_about_topics())?;
    let Rule { prefix, ttl } = rule;
    Some(format!(
        "the filer's rule for {prefix} has a TTL of {ttl}: volume servers would remove records when they are so old, whatever their topics keep; remove it (fs.configure -locationPrefix={prefix} -delete -apply in weed shell): retention.ms of topics removes them from SeaweedFS too"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_with_a_ttl_are_told_if_they_are_about_topics() {
        let told = |prefix: &str, ttl: &str| {
            let rules = format!(
                r#"{{"version": 1, "locations": [{{"locationPrefix": "/buckets/a", "ttl": "1d"}},
                    {{"locationPrefix": "{prefix}", "ttl": "{ttl}", "wormRetentionTimeSeconds": "0"}}]}}"#
            );
            expiring(&rules.into()).is_some()
        };
        for prefix in ["/", "/topics", "/topics/kafka/", "/topics/kafka/orders/"] {
            assert!(told(prefix, "7d"), "{prefix}");
            assert!(!told(prefix, ""), "{prefix}");
        }
        for prefix in ["/topics/other/", "/topics/kafka2/", "/buckets/"] {
            assert!(!told(prefix, "7d"), "{prefix}");
        }
        assert_eq!(expiring(&Bytes::from_static(b"no rules")), None);
    }
}

//! What members subscribe to, and what of it there is.

use std::collections::{BTreeMap, BTreeSet};

use regex::{Regex, RegexBuilder};

use super::member::Terms;
use crate::catalog::Catalog;
use crate::group::Step;
use crate::wire::{StrBytes, Uuid};

/// Bytes that a compiled regular expression, and what it needs to match, may take.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// A regular expression that members subscribe by, and the topics that it matched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    pub topics: BTreeSet<StrBytes>,
    /// How many changes the catalog had seen.
    pub version: i64,
    /// Milliseconds since the epoch.
    pub resolved_ms: i64,
}

impl Resolved {
    /// It need not be looked at again for its age. A clock that was set back must not put that off.
    pub fn is_fresh(&self, step: &Step<'_>) -> bool {
        let interval_ms = step.rules.consumer.regex_refresh_interval_ms;
        let until_ms = self.resolved_ms.saturating_add(interval_ms);
        (self.resolved_ms..until_ms).contains(&step.now.wall_ms)
    }
}

pub type Regexes = BTreeMap<StrBytes, Resolved>;

/// A regular expression that names of topics have to match as a whole. The syntax is that of the regex
/// crate, which is RE2's but for details.
pub fn compile(text: &str) -> Result<Regex, regex::Error> {
    let build = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_BYTES_MAX)
            .build()
    };
    // By itself, so that no parenthesis of it ends the one around it.
    build(text)?;
    build(&format!(r"\A(?:{text})\z"))
}

/// The topics that match now.
pub fn resolve(text: &str, catalog: &Catalog) -> BTreeSet<StrBytes> {
    let regex = match compile(text) {
        Ok(regex) => regex,
        Err(error) => {
            tracing::error!(regex = text, %error, "a regular expression of a group's record cannot be used; it matches nothing");
            return BTreeSet::new();
        }
    };
    let names = catalog.topics().map(|topic| &topic.name);
    names.filter(|name| regex.is_match(name)).cloned().collect()
}

/// All names that a member subscribes to.
fn names<'a>(terms: &'a Terms, regexes: &'a Regexes) -> impl Iterator<Item = &'a StrBytes> {
    let by_regex = regexes.get(&terms.regex).map(|resolved| &resolved.topics);
    terms.topics.iter().chain(by_regex.into_iter().flatten())
}

/// The topics that a member subscribes to, of those that exist.
pub fn topic_ids(terms: &Terms, regexes: &Regexes, catalog: &Catalog) -> BTreeSet<Uuid> {
    let known = names(terms, regexes).filter_map(|name| catalog.by_name(name));
    known.map(|topic| topic.id).collect()
}

pub fn subscribes(terms: &Terms, regexes: &Regexes, topic: &str) -> bool {
    let by_regex = || {
        regexes
            .get(&terms.regex)
            .is_some_and(|r| r.topics.contains(topic))
    };
    terms.topics.contains(topic) || by_regex()
}

/// A hash over all that the assignment depends on outside of the group: the topics that there are, with
/// their ids and numbers of partitions. 0 if there are none. It is kept in the group's record, so it is
/// the same in every version: FNV-1a of 64 bits.
pub fn metadata_hash<'a>(
    members: impl Iterator<Item = &'a Terms>,
    regexes: &Regexes,
    catalog: &Catalog,
) -> i64 {
    let mut topics = BTreeSet::new();
    for terms in members {
        topics.extend(names(terms, regexes));
    }
    let mut known = topics
        .into_iter()
        .filter_map(|name| catalog.by_name(name))
        .peekable();
    if known.peek().is_none() {
        return 0;
    }
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut write = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for topic in known {
        write(topic.name.as_bytes());
        write(&topic.id.0);
        write(&topic.partitions.to_be_bytes());
    }
    hash as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_a_whole() {
        let matches = |text: &str, name: &str| compile(text).unwrap().is_match(name);
        assert!(matches("a.*", "abc"));
        assert!(!matches("a", "abc"));
        assert!(!matches("b|c", "abc"));
        assert!(matches("x|abc", "abc"));
        assert!(!matches("a$|x", "a\nx"));
    }

    #[test]
    fn what_is_no_regular_expression_or_too_large_is_refused() {
        for bad in [
            "(",
            "a)|(b",
            "[z-a]",
            "(?=a)",
            "(a{1000}){1000}",
            r"\p{L}{100000}",
        ] {
            assert!(compile(bad).is_err(), "{bad}");
        }
    }
}

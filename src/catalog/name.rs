//! Topic names: which are valid, and which are Kafka's own.

/// Longest name in UTF-16 units, as Kafka counts: with `-` and a partition behind it, it still is a
/// file name.
const LEN_MAX: usize = 249;
/// KRaft's own log. No topic may have its name.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";
/// Topics that brokers write for themselves.
const INTERNAL: [&str; 3] = [
    "__consumer_offsets",
    "__transaction_state",
    "__share_group_state",
];

/// Why a name cannot be a topic's. The texts are Kafka's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("Topic name is invalid: the empty string is not allowed")]
    Empty,
    /// Topics used to be folders.
    #[error("Topic name is invalid: '{0}' is not allowed")]
    Folder(String),
    #[error(
        "Topic name is invalid: the length of '{0}' is longer than the max allowed length {LEN_MAX}"
    )]
    TooLong(String),
    #[error(
        "Topic name is invalid: '{0}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    )]
    Character(String),
}

/// Checks that a topic may have this name.
pub fn check(name: &str) -> Result<(), NameError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    match name {
        "" => Err(NameError::Empty),
        "." | ".." => Err(NameError::Folder(name.to_owned())),
        _ if name.len() > LEN_MAX && name.encode_utf16().count() > LEN_MAX => {
            Err(NameError::TooLong(name.to_owned()))
        }
        _ if name.bytes().all(allowed) => Ok(()),
        _ => Err(NameError::Character(name.to_owned())),
    }
}

/// Whether clients are told that a topic is a broker's own.
pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_allowed_characters_are_valid() {
        for name in ["a", "Z-9_.", "...", "__consumer_offsets", &"y".repeat(249)] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn others_are_refused_in_kafkas_words() {
        let long = "x".repeat(250);
        let characters =
            "contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'";
        for (name, reason) in [
            ("", "the empty string is not allowed".to_owned()),
            (".", "'.' is not allowed".to_owned()),
            ("..", "'..' is not allowed".to_owned()),
            (
                &long,
                format!("the length of '{long}' is longer than the max allowed length 249"),
            ),
            ("a b", format!("'a b' {characters}")),
            ("a/b", format!("'a/b' {characters}")),
            ("żółw", format!("'żółw' {characters}")),
            ("a\0b", format!("'a\0b' {characters}")),
        ] {
            let text = check(name).expect_err(name).to_string();
            assert_eq!(text, format!("Topic name is invalid: {reason}"));
        }
    }

    #[test]
    fn length_is_counted_in_utf16_units() {
        let name = "é".repeat(249);
        assert_eq!(check(&name), Err(NameError::Character(name.clone())));
        let name = "é".repeat(250);
        assert_eq!(check(&name), Err(NameError::TooLong(name.clone())));
    }
}

//! How much a request may ask for, and how much a text may say. Kafka sets no limits for these: a
//! few bytes of a request can have an answer of kilobytes.

use super::Answer;
use crate::catalog::Catalog;
use crate::wire::StrBytes;

/// How many more partitions a request may name than there are.
const SPARE_PARTITIONS_MAX: usize = 10_000;
/// A text that repeats what a client sent is not longer than this.
const TEXT_BYTES_MAX: usize = 1024;

/// The end of the connection, for a request that names more partitions than there can be.
pub(super) fn too_many_partitions(
    api: &super::Api,
    asked: impl Iterator<Item = usize>,
    catalog: &Catalog,
) -> Option<Answer> {
    let asked: usize = asked.sum();
    let beyond = asked.saturating_sub(SPARE_PARTITIONS_MAX);
    let too_many = beyond > 0 && beyond > catalog.partitions().count();
    too_many.then(|| {
        let text = format!("{} of {asked} partitions, more than there are", api.name);
        Answer::Close(text)
    })
}

/// What a client is told.
pub(super) fn text(text: impl Into<String>) -> StrBytes {
    let mut text = text.into();
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::describe_producers::API;

    #[test]
    fn more_partitions_than_there_can_be_end_the_connection() {
        let topic = crate::catalog::Topic::new(&"t".into(), 3, Default::default());
        let catalog = Catalog::from_iter([topic.expect("an id")]);
        let ask = |counts: &[usize]| {
            too_many_partitions(&API, counts.iter().copied(), &catalog).is_some()
        };
        assert!(!ask(&[]) && !ask(&[3, SPARE_PARTITIONS_MAX]));
        assert!(ask(&[4, SPARE_PARTITIONS_MAX]));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(&*text("é"), "é");
        let long = text("é".repeat(TEXT_BYTES_MAX));
        assert_eq!(long.len(), TEXT_BYTES_MAX);
        let odd = text("x".to_owned() + &"é".repeat(TEXT_BYTES_MAX));
        assert_eq!(odd.len(), TEXT_BYTES_MAX - 1);
    }
}

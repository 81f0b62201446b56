//! All tokens that a text begins with, for the unigram model.
//!
//! The tokens stand sorted by their bytes; the ones that share the first k bytes of a text are a range of
//! them, which each further byte narrows by two binary searches. A table holds the ranges of the first two
//! bytes. It costs four bytes a token, and no time to build but that of sorting.

use std::ops::Range;

use crate::vocab::Vocab;

/// The pieces of a vocabulary in the order of their bytes.
pub(crate) struct Prefixes {
    order: Vec<u32>,
    /// Where the pieces that begin with these two bytes start; one more at the end. Pieces of one byte stand
    /// before those of two.
    starts: Vec<u32>,
}

impl Prefixes {
    pub(crate) fn new(vocab: &Vocab) -> Prefixes {
        let mut order: Vec<u32> = (0..vocab.len() as u32).filter(|&id| vocab.is_piece(id)).collect();
        order.sort_unstable_by(|&a, &b| bytes(vocab, a).cmp(bytes(vocab, b)));
        let mut starts = vec![0u32; (1 << 16) + 1];
        for &id in &order {
            starts[usize::from(first_two(bytes(vocab, id))) + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        Prefixes { order, starts }
    }

    /// Calls `found` with the length in bytes and the id of each piece that `text` begins with, shortest first.
    pub(crate) fn of(&self, text: &[u8], vocab: &Vocab, mut found: impl FnMut(usize, u32)) {
        let Some(&first) = text.first() else { return };
        // A piece of one byte is the first among those whose second byte is 0.
        let one = usize::from(first) << 8;
        let alone = self.range(one..one + 1).find(|&&id| bytes(vocab, id).len() == 1);
        if let Some(&id) = alone {
            found(1, id);
        }
        let Some(&second) = text.get(1) else { return };
        let key = one | usize::from(second);
        let mut range = self.starts[key] as usize..self.starts[key + 1] as usize;
        for depth in 2..=text.len() {
            // Of the pieces in the range all agree with the text up to `depth`; the shortest is first.
            while let Some(&id) = self.order.get(range.start).filter(|_| !range.is_empty()) {
                let piece = bytes(vocab, id);
                if piece.len() > depth {
                    break;
                }
                if piece.len() == depth {
                    found(depth, id);
                }
                range.start += 1;
            }
            let Some(&byte) = text.get(depth).filter(|_| !range.is_empty()) else { return };
            let slice = &self.order[range.clone()];
            let at = |id: &u32| bytes(vocab, *id)[depth];
            let low = slice.partition_point(|id| at(id) < byte);
            let high = low + slice[low..].partition_point(|id| at(id) == byte);
            range = range.start + low..range.start + high;
        }
    }

    fn range(&self, keys: Range<usize>) -> impl Iterator<Item = &u32> {
        self.order[self.starts[keys.start] as usize..self.starts[keys.end] as usize].iter().take(1)
    }
}

fn bytes(vocab: &Vocab, id: u32) -> &[u8] {
    vocab.text(id).unwrap_or_default().as_bytes()
}

fn first_two(text: &[u8]) -> u16 {
    u16::from(text.first().copied().unwrap_or(0)) << 8 | u16::from(text.get(1).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{TokenType, VocabModel, VocabSource};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_all_found(
            tokens in prop::collection::btree_set("[ab\0é]{1,4}", 1..40),
            text in "[ab\0é]{0,8}",
        ) {
            let source = VocabSource {
                model: VocabModel::Unigram,
                types: vec![TokenType::Normal; tokens.len()],
                scores: vec![0.0; tokens.len()],
                tokens: tokens.iter().map(|t| t.clone().into()).collect(),
                ..VocabSource::default()
            };
            let vocab = Vocab::new(&source).unwrap();
            let mut found = Vec::new();
            Prefixes::new(&vocab).of(text.as_bytes(), &vocab, |length, id| {
                found.push(vocab.text(id).unwrap().to_owned());
                assert_eq!(found.last().unwrap().len(), length);
            });
            let mut want: Vec<String> = tokens.into_iter().filter(|t| text.starts_with(t.as_str())).collect();
            want.sort_by_key(String::len);
            prop_assert_eq!(found, want);
        }
    }
}

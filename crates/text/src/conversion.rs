//! Between SentencePiece's scores and the merges of `tokenizer.json`.
//!
//! A SentencePiece model merges any two neighbours that are a token together, by that token's score; BPE in
//! `tokenizer.json` merges the pairs that it lists, in their order. transformers lists all pairs that make up
//! a token, by descending score; so that a list with all of them leads back to scores. The two can differ only
//! where two cuts of one token compete for a character.

use std::borrow::Cow;

use crate::pre_tokenizer::shorten;
use crate::source::{VocabModel, VocabSource};
use crate::vocab::Vocab;
use crate::{Error, Result};

/// Calls `pair` with the two halves of a token for every cut whose halves are tokens.
fn cuts(vocab: &Vocab, id: u32, mut pair: impl FnMut(u32, u32)) {
    let text = vocab.text(id).unwrap_or_default();
    for (at, _) in text.char_indices().skip(1) {
        if let (Some(left), Some(right)) = (vocab.find_piece(&text[..at]), vocab.find_piece(&text[at..])) {
            pair(left, right);
        }
    }
}

fn pieces(vocab: &Vocab) -> impl Iterator<Item = u32> {
    (0..vocab.len() as u32).filter(|&id| vocab.is_piece(id))
}

/// Replaces the merges of `source` by scores.
///
/// # Errors
/// Its merges are not all pairs that make up a token, in the order of [`to_merges`].
pub(crate) fn to_scores(source: &mut VocabSource<'_>, vocab: &Vocab) -> Result<()> {
    // Of each token the first and the last rank that makes it.
    let mut spans: Vec<Option<(usize, usize)>> = vec![None; source.tokens.len()];
    let mut joined = String::new();
    for (rank, (left, right)) in source.merges.iter().enumerate() {
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let halves = vocab.find_piece(left).and(vocab.find_piece(right));
        let Some(id) = vocab.find_piece(&joined).filter(|_| halves.is_some()) else {
            return Err(unsupported(&joined, "is merged but no ordinary token"));
        };
        let span = spans[id as usize].get_or_insert((rank, rank));
        span.1 = rank;
    }
    // Tokens whose ranks lie between each other's have one score.
    let mut made: Vec<(usize, usize, usize)> =
        spans.iter().enumerate().filter_map(|(id, span)| span.map(|(first, last)| (first, last, id))).collect();
    made.sort_unstable();
    let mut scores = vec![0.0; source.tokens.len()];
    let (mut score, mut end) = (0.0, 0);
    for (first, last, id) in made {
        if score == 0.0 || first > end {
            score = -1.0 - first as f64;
        }
        end = end.max(last);
        scores[id] = score;
    }
    let merges = std::mem::take(&mut source.merges);
    source.scores = scores;
    let all = to_merges(source, vocab);
    if all != merges {
        let found = format!("{} merges of {} pairs that make up a token, or in another order", merges.len(), all.len());
        return Err(Error::Unsupported {
            what: "BPE on characters with",
            found,
            supported: "all pairs, as transformers makes them of a SentencePiece model".into(),
        });
    }
    source.model = VocabModel::SentencePiece;
    Ok(())
}

fn unsupported(token: &str, why: &str) -> Error {
    Error::Unsupported {
        what: "merge",
        found: format!("{} {why}", shorten(token)),
        supported: "merges of ordinary tokens in a SentencePiece model".into(),
    }
}

/// The merges of a SentencePiece model, as transformers makes them: by descending score, then by the halves'
/// lengths, longest first.
pub(crate) fn to_merges(source: &VocabSource<'_>, vocab: &Vocab) -> Vec<(Cow<'static, str>, Cow<'static, str>)> {
    let mut merges = Vec::new();
    for id in pieces(vocab) {
        let start = merges.len();
        cuts(vocab, id, |left, right| merges.push((id, left, right)));
        merges[start..].sort_by_key(|&(_, left, right)| (left, right));
    }
    let length = |id| vocab.text(id).map_or(0, |t| t.chars().count());
    let score = |id: u32| source.scores.get(id as usize).copied().unwrap_or(0.0);
    merges.sort_by(|a, b| {
        let lengths = |m: &(u32, u32, u32)| (length(m.1), length(m.2));
        score(b.0).total_cmp(&score(a.0)).then_with(|| lengths(b).cmp(&lengths(a)))
    });
    let text = |id| Cow::Owned(vocab.text(id).unwrap_or_default().to_owned());
    merges.into_iter().map(|(_, left, right)| (text(left), text(right))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::TokenType;

    fn source() -> VocabSource<'static> {
        let tokens = [("a", 0.0), ("b", 0.0), ("ab", -1.0), ("aba", -4.0), ("ba", -3.0), ("<s>", 0.0)];
        let mut types = vec![TokenType::Normal; tokens.len()];
        types[5] = TokenType::Control;
        VocabSource {
            model: VocabModel::SentencePiece,
            tokens: tokens.iter().map(|t| t.0.into()).collect(),
            scores: tokens.iter().map(|t| t.1).collect(),
            types,
            ..VocabSource::default()
        }
    }

    /// transformers' `generate_merges` gives this list for this vocabulary.
    #[test]
    fn there_and_back() {
        let mut source = source();
        let vocab = Vocab::new(&source).unwrap();
        let merges = to_merges(&source, &vocab);
        assert_eq!(merges, [("a", "b"), ("b", "a"), ("ab", "a"), ("a", "ba")].map(|(l, r)| (l.into(), r.into())));
        source.merges = merges;
        source.model = VocabModel::CharBpe;
        let mut fewer = source.clone();
        to_scores(&mut source, &vocab).unwrap();
        assert_eq!(source.scores, [0.0, 0.0, -1.0, -3.0, -2.0, 0.0]);
        fewer.merges.pop();
        let message = to_scores(&mut fewer, &vocab).unwrap_err().to_string();
        assert!(message.contains("3 merges of 4 pairs"), "{message}");
    }
}

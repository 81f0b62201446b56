//! Questions to vectors: the nearest words, and analogies.

use super::{Corpus, Embeddings, PEOPLE};
use crate::vector::{cosine, unit};

/// A word and how near it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// The word.
    pub word: &'static str,
    /// The cosine.
    pub cosine: f64,
}

/// The words whose vectors have the highest cosines with a vector, but for those left out, the nearest first.
pub fn nearest(corpus: &Corpus, embeddings: &Embeddings, to: &[f64], without: &[&str], count: usize) -> Vec<Neighbour> {
    let mut all: Vec<Neighbour> = corpus
        .words
        .iter()
        .zip(&embeddings.centers)
        .filter(|(word, _)| !without.contains(word))
        .map(|(&word, vector)| Neighbour { word, cosine: cosine(vector, to) })
        .collect();
    all.sort_by(|a, b| b.cosine.total_cmp(&a.cosine));
    all.truncate(count);
    all
}

/// `a - b + c` of vectors of length 1; nothing if a word does not occur.
pub fn analogy(corpus: &Corpus, embeddings: &Embeddings, words: [&str; 3]) -> Option<Vec<f64>> {
    let mut vectors = Vec::new();
    for word in words {
        vectors.push(unit(&embeddings.centers[corpus.find(word)?]));
    }
    Some((0..vectors[0].len()).map(|i| vectors[0][i] - vectors[1][i] + vectors[2][i]).collect())
}

/// How many analogies come out right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Analogies {
    /// How many were asked.
    pub asked: usize,
    /// Right when the three given words are left out, as is usual.
    pub right: usize,
    /// Right when they are not.
    pub right_with_given: usize,
}

/// Asks all analogies between two pairs of he and she: `king - man + woman` is asked for `queen`.
pub fn analogies(corpus: &Corpus, embeddings: &Embeddings) -> Analogies {
    let mut out = Analogies { asked: 0, right: 0, right_with_given: 0 };
    let pairs: Vec<[&str; 2]> = PEOPLE.chunks(2).map(|pair| [pair[0].word, pair[1].word]).collect();
    for a in &pairs {
        for b in pairs.iter().filter(|b| *b != a) {
            for (from, to) in [(0, 1), (1, 0)] {
                let given = [a[from], b[from], b[to]];
                let Some(point) = analogy(corpus, embeddings, given) else { continue };
                let best = |without: &[&str]| nearest(corpus, embeddings, &point, without, 1).first().map(|n| n.word);
                out.asked += 1;
                out.right += usize::from(best(&given) == Some(a[to]));
                out.right_with_given += usize::from(best(&[]) == Some(a[to]));
            }
        }
    }
    out
}

//! Shifts: moving a run of words of the hypothesis to where the reference has it, for the price of one edit.
//!
//! Which shifts are tried, and which of them is taken, follows tercom's rules as sacrebleu 2.6.0 rebuilds them.

use hashbrown::HashSet;

use super::edit::{Alignment, Matrix};

/// The longest run of words that is shifted.
const MAX_LENGTH: usize = 10;
/// How far apart the run's places in the two texts may be.
const MAX_DISTANCE: usize = 50;
/// Shifts that are tried for a segment.
const MAX_TRIED: usize = 1000;

/// What counting edits keeps from one segment to the next.
#[derive(Debug, Default)]
pub(super) struct Shifts {
    matrix: Matrix,
    alignment: Alignment,
    words: Vec<u32>,
    candidate: Vec<u32>,
    seen: HashSet<(usize, usize, usize)>,
}

/// A shift that was tried; the greatest is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tried {
    /// Edits that it saves.
    gain: i64,
    length: usize,
    /// The earliest first.
    from: std::cmp::Reverse<usize>,
    to: std::cmp::Reverse<usize>,
}

impl Shifts {
    /// The least number of edits, shifts among them, that turn a hypothesis into a reference, as far as greedy search
    /// finds it.
    pub(super) fn edits(&mut self, hypothesis: &[u32], reference: &[u32]) -> u32 {
        if reference.is_empty() {
            return hypothesis.len() as u32;
        }
        self.words.clear();
        self.words.extend_from_slice(hypothesis);
        let mut shifts = 0;
        let mut tried = 0;
        loop {
            let distance = self.matrix.keep(&self.words, reference);
            if distance == 0 {
                return shifts;
            }
            let best = self.best(distance, reference, &mut tried);
            match best {
                Some(best) if tried < MAX_TRIED && best.gain > 0 => {
                    shift(&self.words, best.from.0, best.length, best.to.0, &mut self.candidate);
                    std::mem::swap(&mut self.words, &mut self.candidate);
                    shifts += 1;
                }
                _ => return shifts + distance,
            }
        }
    }

    /// The best shift of the words whose matrix is kept.
    fn best(&mut self, distance: u32, reference: &[u32], tried: &mut usize) -> Option<Tried> {
        self.matrix.align(self.words.len(), &mut self.alignment);
        self.seen.clear();
        let mut best: Option<Tried> = None;
        for from in 0..self.words.len() {
            let near = from.saturating_sub(MAX_DISTANCE)..reference.len().min(from + MAX_DISTANCE + 1);
            for target in near {
                let common = self.words[from..].iter().zip(&reference[target..]).take(MAX_LENGTH);
                let longest = common.take_while(|(own, theirs)| own == theirs).count();
                for length in 1..=longest {
                    if self.is_needless(from, target, length) {
                        continue;
                    }
                    self.places(distance, reference, from, target, length, tried, &mut best);
                    if *tried >= MAX_TRIED {
                        return best;
                    }
                }
            }
        }
        best
    }

    /// Whether a run is right where it is, or its target is, or lies within it.
    fn is_needless(&self, from: usize, target: usize, length: usize) -> bool {
        let Alignment { beside, reference_errors, hypothesis_errors } = &self.alignment;
        let inside = (from as isize..(from + length) as isize).contains(&beside[target]);
        inside
            || !hypothesis_errors[from..from + length].contains(&true)
            || !reference_errors[target..target + length].contains(&true)
    }

    /// Tries a run in front of its target and behind each of the target's words.
    fn places(
        &mut self,
        distance: u32,
        reference: &[u32],
        from: usize,
        target: usize,
        length: usize,
        tried: &mut usize,
        best: &mut Option<Tried>,
    ) {
        let mut before = None;
        for behind in target..=target + length {
            let to = match behind.checked_sub(1) {
                None => 0,
                Some(word) => match self.alignment.beside.get(word) {
                    Some(&beside) => (beside + 1) as usize,
                    None => break,
                },
            };
            if before.replace(to) == Some(to) {
                continue;
            }
            *tried += 1;
            // What was tried already is not better than the best.
            if !self.seen.insert((from, length, to)) {
                continue;
            }
            shift(&self.words, from, length, to, &mut self.candidate);
            let same = self.words.iter().zip(&self.candidate).take_while(|(a, b)| a == b).count();
            let left = self.matrix.try_words(&self.candidate, reference, same);
            let gain = i64::from(distance) - i64::from(left);
            let shift = Tried { gain, length, from: std::cmp::Reverse(from), to: std::cmp::Reverse(to) };
            *best = (*best).max(Some(shift));
        }
    }
}

/// Words with a run moved to in front of word `to`; within the run that means so many words behind it.
fn shift(words: &[u32], from: usize, length: usize, to: usize, out: &mut Vec<u32>) {
    let end = from + length;
    let order = if to < from {
        [0..to, from..end, to..from, end..words.len()]
    } else if to > end {
        [0..from, end..to, from..end, to..words.len()]
    } else {
        [0..from, end..(length + to).min(words.len()), from..end, (length + to).min(words.len())..words.len()]
    };
    out.clear();
    order.into_iter().for_each(|range| out.extend_from_slice(&words[range]));
}

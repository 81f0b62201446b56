//! The order of a run: which examples make up each batch.
//!
//! It follows from the seed and the number of the update alone, so that a run that goes on where another was stopped sees what
//! that one would have seen.

use porism_text::examples::Example;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// How batches are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Rows of a batch.
    pub batch: usize,
    /// Batches of an update.
    pub accumulate: usize,
    /// Tokens of a row.
    pub length: usize,
    /// Whether several examples may share a row.
    pub packing: bool,
    /// Whether each epoch has an order of its own.
    pub shuffle: bool,
    /// What the orders hang on.
    pub seed: u64,
}

/// The updates of a run, one after the other.
#[derive(Debug)]
pub struct Course {
    batching: Batching,
    lengths: Vec<usize>,
    epoch: u64,
    /// What is left of the epoch, the last row first.
    rows: Vec<Vec<usize>>,
}

impl Course {
    /// The beginning.
    pub fn new(examples: &[Example], batching: Batching) -> Course {
        let lengths = examples.iter().map(|example| example.ids.len()).collect();
        let mut course = Course { batching, lengths, epoch: 0, rows: Vec::new() };
        course.rows = course.epoch_rows(0);
        course
    }

    /// The rows of an epoch, the last first.
    fn epoch_rows(&self, epoch: u64) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.lengths.len()).collect();
        if self.batching.shuffle {
            let mut random = ChaCha8Rng::seed_from_u64(self.batching.seed);
            random.set_stream(epoch);
            order.shuffle(&mut random);
        }
        let mut rows: Vec<Vec<usize>> = Vec::new();
        let mut room = 0;
        for example in order {
            let length = self.lengths[example];
            match rows.last_mut() {
                Some(row) if self.batching.packing && length <= room => {
                    room -= length;
                    row.push(example);
                }
                _ => {
                    room = self.batching.length.saturating_sub(length);
                    rows.push(vec![example]);
                }
            }
        }
        rows.reverse();
        rows
    }

    /// Updates of the first so many epochs.
    pub fn updates(&self, epochs: f64) -> u64 {
        let rows = |epoch: u64| self.epoch_rows(epoch).len().div_ceil(self.batching.batch * self.batching.accumulate);
        let whole: u64 = (0..epochs as u64).map(|epoch| rows(epoch) as u64).sum();
        whole + (epochs.fract() * rows(epochs as u64) as f64).ceil() as u64
    }

    /// The epoch of the next update, from 0.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl Iterator for Course {
    /// Examples of an update, in order. The last one of an epoch may have fewer rows.
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        if self.lengths.is_empty() {
            return None;
        }
        if self.rows.is_empty() {
            self.epoch += 1;
            self.rows = self.epoch_rows(self.epoch);
        }
        let rows = self.batching.batch * self.batching.accumulate;
        let left = self.rows.len().saturating_sub(rows);
        Some(self.rows.drain(left..).rev().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Batching = Batching { batch: 2, accumulate: 1, length: 10, packing: false, shuffle: false, seed: 1 };

    fn examples(lengths: &[usize]) -> Vec<Example> {
        lengths.iter().map(|&n| Example { at: String::new(), ids: vec![0; n], scored: vec![true; n] }).collect()
    }

    #[test]
    fn every_example_comes_once_an_epoch() {
        let examples = examples(&[3, 9, 4, 2, 8, 1, 7]);
        for packing in [false, true] {
            for shuffle in [false, true] {
                let mut course = Course::new(&examples, Batching { packing, shuffle, ..PLAIN });
                let mut orders = Vec::new();
                for epoch in 0..3 {
                    let mut seen = Vec::new();
                    while seen.len() < 7 {
                        assert_eq!(course.epoch(), if seen.is_empty() && epoch > 0 { epoch - 1 } else { epoch });
                        seen.extend(course.next().unwrap());
                    }
                    orders.push(seen.clone());
                    seen.sort_unstable();
                    assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
                }
                assert_eq!(orders[0] != orders[1] || orders[1] != orders[2], shuffle);
            }
        }
    }

    #[test]
    fn rows_hold_what_fits() {
        let mut course = Course::new(&examples(&[3, 5, 2, 9, 1, 4]), Batching { packing: true, ..PLAIN });
        assert_eq!(course.updates(1.0), 2);
        assert_eq!(course.updates(2.5), 5);
        assert_eq!(course.next(), Some(vec![0, 1, 2, 3, 4]));
        assert_eq!(course.next(), Some(vec![5]));
        assert_eq!(course.next(), Some(vec![0, 1, 2, 3, 4]));
        let mut course = Course::new(&examples(&[3, 5, 2, 9, 1]), Batching { accumulate: 2, ..PLAIN });
        assert_eq!((course.next(), course.next()), (Some(vec![0, 1, 2, 3]), Some(vec![4])));
    }
}

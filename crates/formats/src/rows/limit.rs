//! How much one file may hold: a small one can unpack to more than the memory takes.

use super::Outcome;

/// The most rows of a file.
const ROWS: usize = 20_000_000;

/// The most bytes that a file may unpack to.
const BYTES: u64 = 2 << 30;

/// What a value counts as besides its text: even an empty one takes memory.
const VALUE: u64 = 32;

/// What a file may still hold.
#[derive(Debug)]
pub(super) struct Limit {
    most: (usize, u64),
    rows: usize,
    bytes: u64,
}

impl Default for Limit {
    fn default() -> Limit {
        Limit::new(ROWS, BYTES)
    }
}

impl Limit {
    pub(super) fn new(rows: usize, bytes: u64) -> Limit {
        Limit { most: (rows, bytes), rows, bytes }
    }

    /// The most bytes of text.
    pub(super) fn text(&self) -> u64 {
        self.most.1
    }

    /// Counts a row.
    pub(super) fn row(&mut self) -> Outcome<()> {
        self.rows = self.rows.checked_sub(1).ok_or_else(|| format!("more than {} rows", self.most.0))?;
        Ok(())
    }

    /// Counts some values that have so many bytes of text in all, their names included.
    pub(super) fn values(&mut self, count: usize, text: usize) -> Outcome<()> {
        let bytes = (count as u64).saturating_mul(VALUE).saturating_add(text as u64);
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(|| self.too_much())?;
        Ok(())
    }

    pub(super) fn too_much(&self) -> String {
        format!("its rows take more than {} MiB", self.most.1 >> 20)
    }
}

//! Attention: softmax(scale * Q K^T) V over the entries that a row may see.

use std::ops::Range;

pub mod backward;
pub mod dense;
pub mod paged;

/// Which cache entries a row sees, as bounds of a loop; there is no mask tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mask {
    /// All entries up to and including its own.
    Causal,
    /// Of those, the ones whose position is less than the given number of positions back, itself included.
    Window(usize),
    /// All entries of its sequence, later ones too (encoders).
    Full,
    /// The entries whose position differs by less than the given number of positions, on either side.
    Around(usize),
}

impl Mask {
    /// The entries that the row of entry `own` sees; `positions` are those of all entries, in ascending order.
    pub fn visible(self, positions: &[u32], own: usize) -> Range<usize> {
        let position = positions[own] as usize;
        match self {
            Mask::Causal => 0..own + 1,
            Mask::Window(window) => positions[..=own].partition_point(|&p| p as usize + window <= position)..own + 1,
            Mask::Full => 0..positions.len(),
            Mask::Around(window) => {
                let first = positions.partition_point(|&p| p as usize + window <= position);
                first..positions.partition_point(|&p| (p as usize) < position + window)
            }
        }
    }
}

/// What is added to a score for the distance between a row's own entry and the one it looks at (T5, MPNet).
///
/// The buckets of those models are expanded: one number for each head and distance. Entries are counted as
/// they lie in the cache, so this fits sequences without gaps in their positions.
#[derive(Clone, Debug, PartialEq)]
pub struct RelativeBias {
    /// Query heads.
    pub heads: usize,
    /// Distances beyond this count as this.
    pub max: usize,
    /// `[heads, 2 * max + 1]`: entry `j` seen from entry `i` is number `clamp(j - i, -max, max) + max` of a head.
    pub table: Vec<f32>,
}

impl RelativeBias {
    /// The numbers of one head.
    fn head(&self, head: usize) -> &[f32] {
        let width = 2 * self.max + 1;
        &self.table[head * width..(head + 1) * width]
    }

    fn check(&self, heads: usize) {
        assert!(
            self.heads == heads && (2 * self.max + 1).checked_mul(heads) == Some(self.table.len()),
            "attention: a bias of {} numbers for {} heads and distances up to {} where {heads} heads attend",
            self.table.len(),
            self.heads,
            self.max
        );
    }
}

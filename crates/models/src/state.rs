//! Sequence state: what is kept of a sequence between two passes.
//!
//! A state can be forked (copy on write), marked and rolled back (speculation, retries, shared
//! prefixes) and seeded with keys and values that belong to no token (prefix tuning). Entries of the
//! cache are counted by index; positions are a row's own affair and stand beside them.

use crate::Result;

/// What every executor's state can do. Appending happens inside the attention step.
pub trait SequenceState: Sized {
    /// Rows appended so far, seeded entries not counted.
    fn len(&self) -> usize;
    /// Whether nothing has been appended.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// An independent copy that shares memory until one of the two is written to.
    fn fork(&self) -> Self;
    /// A point to return to.
    fn mark(&self) -> Mark;
    /// Whether a rollback to the mark is possible: layers with a window forget what lies far behind.
    fn keeps(&self, mark: Mark) -> bool {
        mark.0 <= self.len()
    }
    /// Forgets everything appended after the mark. A mark beyond the end is an error, and one that the state no longer
    /// [keeps](SequenceState::keeps). The empty state is always kept.
    fn rollback(&mut self, mark: Mark) -> Result<()>;
    /// Puts `n` entries before the first row of layer `layer`: k and v `[n, kv_heads * head_dim]`, row-major,
    /// seen by every row and turned by no position. Only on an empty layer.
    fn seed(&mut self, layer: usize, k: &[f32], v: &[f32]) -> Result<()>;
}

/// A point in a sequence: the number of rows appended before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub usize);

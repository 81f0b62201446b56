//! Attention: softmax(scale * Q K^T) V over the entries that a row may see.

use std::ops::Range;

pub mod backward;
pub mod dense;
pub mod paged;
mod sight;
mod tree;
mod visible;
mod weigh;

pub use self::tree::{Tree, TreeError};
pub use self::visible::Visible;

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

    /// As [`visible`](Self::visible) for `rows` rows, the last of `positions`, whose entries come after `seeded` that
    /// every row sees. If the rows are a tree, of their own entries each sees its ancestors' and its own only, and of
    /// those the ones that the mask's window reaches.
    ///
    /// # Panics
    /// If there are more rows than positions, or the tree is of another number of rows.
    pub fn rows(self, positions: &[u32], rows: usize, seeded: usize, tree: Option<&Tree>) -> Visible {
        let before = positions.len() - rows;
        let mut visible = Visible::with_capacity(rows);
        let behind = |range: Range<usize>| seeded + range.start..seeded + range.end;
        let Some(tree) = tree else {
            for own in before..positions.len() {
                visible.push([0..seeded, behind(self.visible(positions, own))]);
            }
            return visible;
        };
        assert_eq!(tree.len(), rows, "attention: a tree of {} rows for {rows}", tree.len());
        let window = match self {
            Mask::Window(window) | Mask::Around(window) => window,
            Mask::Causal | Mask::Full => usize::MAX,
        };
        for row in 0..rows {
            let position = positions[before + row] as usize;
            let reaches = |p: u32| (p as usize).saturating_add(window) > position;
            let first = positions[..before].partition_point(|&p| !reaches(p));
            let path = tree.path(row).iter().map(|i| before + i).filter(|&i| reaches(positions[i])).map(|i| i..i + 1);
            visible.push([0..seeded, behind(first..before)].into_iter().chain(path.map(behind)));
        }
        visible
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row and mask against the definition, entry by entry.
    #[test]
    fn rows_of_a_tree_see_their_branch() {
        let tree = Tree::new(vec![None, Some(0), Some(0), Some(1), Some(2), None, Some(5)]).unwrap();
        let before = 9;
        let positions: Vec<u32> = (3..12).chain((0..7).map(|i| 12 + tree.depth(i) as u32)).collect();
        for seeded in [0, 2] {
            for (mask, window) in [
                (Mask::Causal, usize::MAX),
                (Mask::Full, usize::MAX),
                (Mask::Window(4), 4),
                (Mask::Window(2), 2),
                (Mask::Window(1), 1),
                (Mask::Around(3), 3),
            ] {
                let visible = mask.rows(&positions, 7, seeded, Some(&tree));
                for row in 0..7 {
                    let sees = |entry: usize| {
                        let Some(i) = entry.checked_sub(seeded) else { return true };
                        let mut ancestor = Some(row);
                        while ancestor.is_some_and(|a| before + a != i) {
                            ancestor = ancestor.and_then(|a| tree.parent(a));
                        }
                        let distance = positions[before + row].saturating_sub(positions[i]) as usize;
                        (i < before || ancestor.is_some()) && distance < window
                    };
                    let want: Vec<usize> = (0..seeded + positions.len()).filter(|&e| sees(e)).collect();
                    let got: Vec<usize> = visible.row(row).iter().cloned().flatten().collect();
                    assert_eq!(got, want, "{mask:?}, row {row}, {seeded} seeds");
                    assert!(visible.row(row).windows(2).all(|w| w[0].end < w[1].start), "disjoint and apart");
                }
            }
        }
    }

    #[test]
    fn a_tree_of_one_branch_is_the_mask_itself() {
        let chain = Tree::new((0..5usize).map(|i| i.checked_sub(1)).collect()).unwrap();
        let positions: Vec<u32> = (0..12).collect();
        for mask in [Mask::Causal, Mask::Window(3), Mask::Window(100), Mask::Window(0)] {
            for seeded in [0, 4] {
                let tree = mask.rows(&positions, 5, seeded, Some(&chain));
                assert_eq!(tree, mask.rows(&positions, 5, seeded, None), "{mask:?}");
            }
        }
    }
}

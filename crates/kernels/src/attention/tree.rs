//! Trees of rows: several continuations of one sequence in one pass, each row seeing its own branch only.
//!
//! Speculative decoding drafts such trees (SpecInfer, Miao et al. 2024): the rows are appended one after the other
//! as any others are, and what a row sees is the sequence before the tree, its ancestors and itself. That is a
//! short list of ranges, no mask tensor.

/// The branches of rows that follow a sequence: each row's parent, or none where it follows the sequence itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    parents: Vec<Option<usize>>,
    /// Each row's ancestors and itself in ascending order, one row's after the other.
    paths: Vec<usize>,
    /// Where each row's path ends.
    ends: Vec<usize>,
}

/// A row whose parent does not come before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row} of a tree names row {parent} as its parent, which does not come before it")]
pub struct TreeError {
    /// The row.
    pub row: usize,
    /// Its parent.
    pub parent: usize,
}

impl Tree {
    /// A tree of `parents.len()` rows. A parent comes before its children; siblings may come in any order.
    ///
    /// # Errors
    /// If a parent does not come before its child.
    pub fn new(parents: Vec<Option<usize>>) -> Result<Tree, TreeError> {
        let mut tree = Tree { paths: Vec::new(), ends: Vec::with_capacity(parents.len()), parents };
        for (row, &parent) in tree.parents.iter().enumerate() {
            if let Some(parent) = parent {
                if parent >= row {
                    return Err(TreeError { row, parent });
                }
                let first = parent.checked_sub(1).map_or(0, |before| tree.ends[before]);
                tree.paths.extend_from_within(first..tree.ends[parent]);
            }
            tree.paths.push(row);
            tree.ends.push(tree.paths.len());
        }
        Ok(tree)
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// The parent of a row.
    pub fn parent(&self, row: usize) -> Option<usize> {
        self.parents[row]
    }

    /// A row's ancestors and itself, from the first to the last.
    pub fn path(&self, row: usize) -> &[usize] {
        let first = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.paths[first..self.ends[row]]
    }

    /// How many ancestors a row has: its position is that many after the first one behind the sequence.
    pub fn depth(&self, row: usize) -> usize {
        self.path(row).len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_from_the_first_ancestor_to_the_row() {
        // 0 -> 1 -> 3, 0 -> 2 -> 4; 5 -> 6.
        let tree = Tree::new(vec![None, Some(0), Some(0), Some(1), Some(2), None, Some(5)]).unwrap();
        assert_eq!(tree.path(0), [0]);
        assert_eq!(tree.path(3), [0, 1, 3]);
        assert_eq!(tree.path(4), [0, 2, 4]);
        assert_eq!(tree.path(6), [5, 6]);
        assert_eq!((tree.depth(5), tree.depth(4), tree.len()), (0, 2, 7));
        assert_eq!(tree.parent(4), Some(2));
        assert!(Tree::new(Vec::new()).unwrap().is_empty());
    }

    #[test]
    fn parents_come_first() {
        for (parents, row, parent) in [(vec![Some(0)], 0, 0), (vec![None, Some(2), None], 1, 2)] {
            let error = Tree::new(parents).unwrap_err();
            assert_eq!(error, TreeError { row, parent });
            assert!(error.to_string().contains(&format!("row {row} of a tree names row {parent}")));
        }
    }
}

//! Longest common subsequences (Lin 2004, "ROUGE", sections 3.1 and 3.2).

/// Room for the table of lengths.
#[derive(Debug, Default)]
pub(super) struct Lcs {
    table: Vec<u32>,
}

impl Lcs {
    /// Fills the table: row i and column j hold the length for the first i words of one text and j of the other.
    fn fill(&mut self, reference: &[u32], candidate: &[u32]) {
        let columns = candidate.len() + 1;
        self.table.clear();
        self.table.resize((reference.len() + 1) * columns, 0);
        for (i, word) in reference.iter().enumerate() {
            let (above, row) = self.table[i * columns..].split_at_mut(columns);
            for (j, other) in candidate.iter().enumerate() {
                row[j + 1] = if word == other { above[j] + 1 } else { above[j + 1].max(row[j]) };
            }
        }
    }

    /// The length of the longest common subsequence.
    pub(super) fn length(&mut self, reference: &[u32], candidate: &[u32]) -> u32 {
        // One row, in place: `diagonal` is what stood to the left above.
        self.table.clear();
        self.table.resize(candidate.len() + 1, 0);
        for word in reference {
            let (mut diagonal, mut left) = (0, 0);
            for (other, cell) in candidate.iter().zip(&mut self.table[1..]) {
                let above = *cell;
                left = if word == other { diagonal + 1 } else { above.max(left) };
                (*cell, diagonal) = (left, above);
            }
        }
        self.table[candidate.len()]
    }

    /// Marks the words of a reference that one of the longest common subsequences takes.
    pub(super) fn mark(&mut self, reference: &[u32], candidate: &[u32], marks: &mut [bool]) {
        self.fill(reference, candidate);
        let columns = candidate.len() + 1;
        let (mut i, mut j) = (reference.len(), candidate.len());
        while i > 0 && j > 0 {
            if reference[i - 1] == candidate[j - 1] {
                marks[i - 1] = true;
                (i, j) = (i - 1, j - 1);
            } else if self.table[i * columns + j - 1] > self.table[(i - 1) * columns + j] {
                j -= 1;
            } else {
                i -= 1;
            }
        }
    }
}

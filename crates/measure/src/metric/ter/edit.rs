//! The edit distance of a hypothesis to a reference within a beam around the diagonal, and its alignment.

/// Cells on either side of the diagonal.
const BEAM: f64 = 25.0;
/// The cost of a cell outside of the beam.
const INFINITY: u32 = 1 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// Outside of the beam.
    Undefined,
    /// The words are the same.
    Keep,
    Substitute,
    /// A word of the reference that the hypothesis lacks.
    Insert,
    /// A word of the hypothesis that the reference lacks.
    Delete,
}

/// Which words of two texts stand for each other.
#[derive(Debug, Default)]
pub(super) struct Alignment {
    /// For each word of the reference the hypothesis's word beside it or before it; -1 in front of the first.
    pub(super) beside: Vec<isize>,
    /// For each word of the reference whether it is not met.
    pub(super) reference_errors: Vec<bool>,
    /// For each word of the hypothesis whether it meets none.
    pub(super) hypothesis_errors: Vec<bool>,
}

/// The matrix of distances of a hypothesis's beginnings (rows) to a reference's (columns).
#[derive(Debug, Default)]
pub(super) struct Matrix {
    costs: Vec<u32>,
    operations: Vec<Operation>,
    columns: usize,
    /// Two rows for hypotheses that are only tried.
    tried: [Vec<u32>; 2],
    trace: Vec<Operation>,
}

/// The columns of a row that the beam leaves.
fn beam(i: usize, words: usize, reference: usize) -> std::ops::Range<usize> {
    let ratio = reference as f64 / words as f64;
    let width = if BEAM < ratio / 2.0 { (ratio / 2.0 + BEAM).ceil() } else { BEAM };
    let (diagonal, width) = ((i as f64 * ratio).floor() as usize, width as usize);
    let end = if i == words { reference + 1 } else { (diagonal + width).min(reference + 1) };
    diagonal.saturating_sub(width)..end
}

/// A row's costs from those of the row above; `operation` hears what each cell came from.
fn fill(
    above: &[u32],
    row: &mut [u32],
    word: u32,
    reference: &[u32],
    beam: std::ops::Range<usize>,
    mut operation: impl FnMut(usize, Operation),
) {
    row.fill(INFINITY);
    for j in beam {
        if j == 0 {
            row[0] = above[0] + 1;
            operation(0, Operation::Delete);
            continue;
        }
        let same = word == reference[j - 1];
        // In this order of preference, which decides between alignments of the same cost.
        let moves = [
            (above[j - 1] + u32::from(!same), if same { Operation::Keep } else { Operation::Substitute }),
            (above[j] + 1, Operation::Delete),
            (row[j - 1] + 1, Operation::Insert),
        ];
        for (cost, from) in moves {
            if cost < row[j] {
                row[j] = cost;
                operation(j, from);
            }
        }
    }
}

impl Matrix {
    /// Computes the distance of words to a reference, and keeps the matrix.
    pub(super) fn keep(&mut self, words: &[u32], reference: &[u32]) -> u32 {
        self.columns = reference.len() + 1;
        let cells = (words.len() + 1) * self.columns;
        self.costs.clear();
        self.costs.extend(0..self.columns as u32);
        self.costs.resize(cells, INFINITY);
        self.operations.clear();
        self.operations.resize(self.columns, Operation::Insert);
        self.operations.resize(cells, Operation::Undefined);
        for (i, &word) in words.iter().enumerate() {
            let (above, rows) = self.costs[i * self.columns..].split_at_mut(self.columns);
            let operations = &mut self.operations[(i + 1) * self.columns..];
            let beam = beam(i + 1, words.len(), reference.len());
            fill(above, &mut rows[..self.columns], word, reference, beam, |j, from| operations[j] = from);
        }
        self.costs[cells - 1]
    }

    /// The distance of other words to the reference; they and the kept ones are equally many, and the first `same` are
    /// the same.
    pub(super) fn try_words(&mut self, words: &[u32], reference: &[u32], same: usize) -> u32 {
        let [above, row] = &mut self.tried;
        row.clear();
        row.extend_from_slice(&self.costs[same * self.columns..(same + 1) * self.columns]);
        above.resize(self.columns, 0);
        for (i, &word) in words.iter().enumerate().skip(same) {
            std::mem::swap(above, row);
            row.resize(self.columns, 0);
            fill(above, row, word, reference, beam(i + 1, words.len(), reference.len()), |_, _| ());
        }
        row[self.columns - 1]
    }

    /// The alignment that the kept matrix gives.
    pub(super) fn align(&mut self, words: usize, alignment: &mut Alignment) {
        let (mut i, mut j) = (words, self.columns - 1);
        self.trace.clear();
        while i > 0 || j > 0 {
            let operation = self.operations[i * self.columns + j];
            self.trace.push(operation);
            match operation {
                Operation::Keep | Operation::Substitute => (i, j) = (i - 1, j - 1),
                Operation::Insert => j -= 1,
                Operation::Delete => i -= 1,
                // The beams of neighbouring rows overlap, so that no path leaves them.
                Operation::Undefined => break,
            }
        }
        let Alignment { beside, reference_errors, hypothesis_errors } = alignment;
        beside.clear();
        reference_errors.clear();
        hypothesis_errors.clear();
        let mut at = -1;
        for operation in self.trace.iter().rev() {
            let wrong = *operation != Operation::Keep;
            if *operation != Operation::Insert {
                at += 1;
                hypothesis_errors.push(wrong);
            }
            if *operation != Operation::Delete {
                beside.push(at);
                reference_errors.push(wrong);
            }
        }
    }
}

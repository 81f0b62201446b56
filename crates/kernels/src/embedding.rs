//! Rows of a table by number: the gather of token embeddings from any block type, and its backward.

use crate::disjoint::{Disjoint, for_rows};
use crate::linear::MatrixRef;
use crate::{Pool, block};

/// Columns of a gradient table that one tile adds up.
const COLUMN_TILE: usize = 64;

/// `out[i] = table[ids[i]]`, dequantized; out is `[ids, cols]`.
///
/// # Panics
/// If `out` does not fit or an id is not below the table's rows.
pub fn gather(pool: &Pool, table: MatrixRef<'_>, ids: &[u32], out: &mut [f32]) {
    assert_eq!(out.len(), ids.len() * table.cols, "gather: lengths do not fit");
    assert!(ids.iter().all(|&id| (id as usize) < table.rows), "gather: an id is outside the table");
    if table.cols == 0 {
        return;
    }
    let row_bytes = table.row_bytes();
    assert_eq!(table.bytes.len(), table.rows * row_bytes, "gather: the table's bytes hold exactly its rows");
    for_rows(pool, table.cols, out, |first, rows| {
        for (i, row) in rows.chunks_exact_mut(table.cols).enumerate() {
            let at = ids[first + i] as usize * row_bytes;
            block::dequantize(table.block, &table.bytes[at..at + row_bytes], row);
        }
    });
}

/// The gradient of [`gather`]: adds row `i` of dy `[ids, cols]` to row `ids[i]` of dtable
/// `[rows, cols]`, in the order of the ids.
///
/// # Panics
/// If the lengths do not fit or an id is outside dtable.
pub fn scatter_add(pool: &Pool, cols: usize, ids: &[u32], dy: &[f32], dtable: &mut [f32]) {
    assert!(
        cols > 0 && dy.len() == ids.len() * cols && dtable.len().is_multiple_of(cols),
        "scatter_add: lengths do not fit"
    );
    let rows = dtable.len() / cols;
    assert!(ids.iter().all(|&id| (id as usize) < rows), "scatter_add: an id is outside the table");
    let parts = Disjoint::new(dtable);
    pool.run(cols.div_ceil(COLUMN_TILE), &|tile| {
        let columns = tile * COLUMN_TILE..cols.min((tile + 1) * COLUMN_TILE);
        for (&id, dy) in ids.iter().zip(dy.chunks_exact(cols)) {
            let at = id as usize * cols;
            // SAFETY: each tile has columns of its own, and its previous part is gone.
            let row = unsafe { parts.part(at + columns.start..at + columns.end) };
            for (d, &g) in row.iter_mut().zip(&dy[columns.clone()]) {
                *d += g;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockType;
    use crate::testing::{Numbers, assert_close, finite_differences, wide};

    const IDS: [u32; 6] = [3, 0, 3, 10, 3, 0];

    #[test]
    fn rows_of_a_packed_table_are_its_decoded_rows() {
        let (rows, cols) = (11, 64);
        let mut bytes: Vec<u8> = (0..rows * 2 * 34).map(|i| (i * 37 % 251) as u8).collect();
        for block in bytes.chunks_exact_mut(34) {
            block[..2].copy_from_slice(&half::f16::from_f32(0.01).to_le_bytes());
        }
        let mut all = vec![0.0; rows * cols];
        block::dequantize(BlockType::Q8_0, &bytes, &mut all);
        let table = MatrixRef { bytes: &bytes, block: BlockType::Q8_0, rows, cols };
        for threads in [1, 2] {
            let mut out = vec![0.0; IDS.len() * cols];
            gather(&Pool::new(threads), table, &IDS, &mut out);
            for (row, &id) in out.chunks_exact(cols).zip(&IDS) {
                assert_eq!(row, &all[id as usize * cols..(id as usize + 1) * cols]);
            }
        }
    }

    #[test]
    fn scatter_add_is_the_gradient_of_gather() {
        let (rows, cols) = (11, 70);
        let mut numbers = Numbers::new(1);
        let (table, dy) = (numbers.normal(rows * cols), numbers.normal(IDS.len() * cols));
        let loss = |table: &[f64]| {
            let rows = IDS.iter().flat_map(|&id| &table[id as usize * cols..(id as usize + 1) * cols]);
            rows.zip(wide(&dy)).map(|(v, d)| v * d).sum::<f64>()
        };
        let mut dtable = vec![0.0; rows * cols];
        scatter_add(&Pool::new(2), cols, &IDS, &dy, &mut dtable);
        assert_close(&dtable, &finite_differences(&table, loss), 1e-6, "dtable");
    }
}

//! An adapted embedding table: the rows `T_v + s (B A_v)^T` of the vocabulary, with a magnitude brought to length by column.

use std::sync::Arc;

use porism_formats::Weight;
use porism_kernels::block::dequantize;
use porism_kernels::linear::forward_f32;
use porism_kernels::{BlockType, Isa, Pool};

use super::attach::ratio;
use super::{LowRank, matrix, rows};
use crate::Result;

/// Rows of the table at a time.
const STRIP: usize = 256;

/// The table `[vocabulary, width]` in f32 with pairs merged in, each with a factor on its scale. A pair with a magnitude is
/// the only one.
pub(super) fn merged(pool: &Pool, isa: Isa, table: &Weight, pairs: &[(&LowRank, f32)]) -> Result<Weight> {
    let (vocab, width) = (table.rows(), table.cols());
    let lookups = pairs.iter().map(|(p, _)| rows::transposed(&p.a)).collect::<Result<Vec<Weight>>>()?;
    let mut bytes = Vec::with_capacity(vocab * width * 4);
    let mut squares = vec![0.0f64; width];
    let (mut strip, mut change) = (Vec::new(), Vec::new());
    for start in (0..vocab).step_by(STRIP) {
        let range = start..(start + STRIP).min(vocab);
        strip.resize(range.len() * width, 0.0);
        change.resize(range.len() * width, 0.0);
        let row = table.row_bytes();
        dequantize(table.block(), &table.bytes()[range.start * row..range.end * row], &mut strip);
        for ((pair, factor), lookup) in pairs.iter().zip(&lookups) {
            let x = lookup.slice_rows(range.clone())?.to_f32();
            forward_f32(pool, isa, matrix(&pair.b), &x, &mut change);
            let scale = pair.scale * factor;
            strip.iter_mut().zip(&change).for_each(|(t, c)| *t = scale.mul_add(*c, *t));
        }
        for row in strip.chunks_exact(width) {
            squares.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v) * f64::from(*v));
        }
        bytes.extend(strip.iter().flat_map(|v| v.to_le_bytes()));
    }
    if let Some(magnitude) = pairs.iter().find_map(|(p, _)| p.magnitude.as_ref()) {
        let norms = squares.iter().map(|s| s.sqrt() as f32);
        let factors: Vec<f32> = magnitude.to_f32().into_iter().zip(norms).map(|(m, n)| ratio(m, n)).collect();
        for (at, value) in bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *value = (f32::from_le_bytes(*value) * factors[at % width]).to_le_bytes();
        }
    }
    let end = bytes.len();
    Ok(Weight::new(Arc::new(bytes), 0..end, BlockType::F32, vocab, width)?)
}

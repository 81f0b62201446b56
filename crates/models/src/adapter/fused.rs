//! Several projections that a file keeps as one tensor, one below the other: their pairs as one pair.

use porism_formats::Weight;

use super::{LowRank, rows};
use crate::Result;

/// The pair of a tensor whose parts have so many rows and such pairs. With one A for all it stays; else the As lie one below the
/// other, and each part's B beside zeros. `None` if only some of the rows have magnitudes.
pub(super) fn fused(parts: &[(usize, Option<&LowRank>)]) -> Result<Option<LowRank>> {
    let present: Vec<&LowRank> = parts.iter().filter_map(|(_, part)| *part).collect();
    let magnitudes: Vec<&Weight> = present.iter().filter_map(|p| p.magnitude.as_ref()).collect();
    let magnitude = match magnitudes.len() {
        0 => None,
        some if some < parts.len() => return Ok(None),
        _ => {
            let values: Vec<f32> = magnitudes.iter().flat_map(|m| m.to_f32()).collect();
            Some(Weight::from_f32(&values, 1, values.len())?)
        }
    };
    let Some(first) = present.first() else { return Ok(None) };
    let same =
        |p: &&LowRank| p.scale == first.scale && p.a.block() == first.a.block() && p.a.bytes() == first.a.bytes();
    if present.len() == parts.len() && present.iter().all(same) {
        let bs: Vec<&Weight> = present.iter().map(|p| &p.b).collect();
        return Ok(Some(LowRank { a: first.a.clone(), b: rows::stacked(&bs)?, scale: first.scale, magnitude }));
    }
    let scale = present.iter().map(|p| p.scale).find(|s| *s != 0.0).unwrap_or(1.0);
    let rank: usize = present.iter().map(|p| p.rank()).sum();
    let total: usize = parts.iter().map(|(rows, _)| rows).sum();
    let mut b = vec![0.0; total * rank];
    let (mut row, mut column) = (0, 0);
    for (rows, part) in parts {
        if let Some(part) = part {
            let (own, factor) = (part.rank(), part.scale / scale);
            let to = b[row * rank..(row + rows) * rank].chunks_exact_mut(rank);
            for (to, from) in to.zip(part.b.to_f32().chunks_exact(own)) {
                to[column..column + own].iter_mut().zip(from).for_each(|(to, v)| *to = factor * v);
            }
            column += own;
        }
        row += rows;
    }
    let a: Vec<&Weight> = present.iter().map(|p| &p.a).collect();
    Ok(Some(LowRank { a: rows::stacked(&a)?, b: Weight::from_f32(&b, total, rank)?, scale, magnitude }))
}

//! One tensor's bytes in the target's order of rows and type, a piece at a time.

use half::{bf16, f16};
use porism_kernels::BlockType;
use porism_kernels::block::{dequantize, quantize};

use super::plan::Item;
use crate::{Error, Result};

/// Weights in a piece (a wider row is a piece of its own).
const PIECE: usize = 1 << 18;

/// Calls `sink` with the target's bytes of the tensor, in order.
pub(super) fn pieces(item: &Item, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let weight = &item.weight;
    let bytes = weight.bytes();
    // The unit of an order is a row; of a vector it is an element.
    let (rows, cols, row_bytes) = match item.is_vector() && item.order.is_some() {
        true => (weight.len(), 1, weight.block().block_bytes()),
        false => (weight.rows(), weight.cols(), weight.row_bytes()),
    };
    let step = (PIECE / cols.max(1)).max(1);
    let (mut gathered, mut values, mut encoded) = (Vec::new(), Vec::new(), Vec::new());
    for start in (0..rows).step_by(step) {
        let range = start..(start + step).min(rows);
        let raw = match &item.order {
            None => &bytes[range.start * row_bytes..range.end * row_bytes],
            Some(order) => {
                gathered.clear();
                for &row in &order[range.clone()] {
                    gathered.extend_from_slice(&bytes[row * row_bytes..(row + 1) * row_bytes]);
                }
                &gathered[..]
            }
        };
        if weight.block() == item.block && item.shift == 0.0 {
            sink(raw)?;
            continue;
        }
        values.resize(range.len() * cols, 0.0);
        dequantize(weight.block(), raw, &mut values);
        shift(item, &mut values)?;
        if let Some(value) = too_large(item.block, &values) {
            return Err(Error::Convert(format!(
                "{} holds a weight of {value:e}, too large for {}; --to f32 holds it",
                item.origin, item.block,
            )));
        }
        encoded.clear();
        quantize(item.block, &values, &mut encoded)
            .map_err(|e| Error::Convert(format!("{} as {}: {e}", item.origin, item.block)))?;
        sink(&encoded)?;
    }
    Ok(())
}

/// Adds the item's shift. Up it is what transformers computes at every step, rounding and all; down it must come back
/// to the same factor.
fn shift(item: &Item, values: &mut [f32]) -> Result<()> {
    for value in values.iter_mut().filter(|_| item.shift != 0.0) {
        let shifted = *value + item.shift;
        if item.shift < 0.0 && value.is_finite() && shifted - item.shift != *value {
            return Err(Error::Convert(format!(
                "{} holds a factor of {value:e}, and Hugging Face's files keep the factor less one: that has no exact \
                 f32",
                item.origin,
            )));
        }
        *value = shifted;
    }
    Ok(())
}

/// A finite value that rounding to `block` makes infinite, if there is one. Rounding keeps the order, so
/// that the largest one decides.
fn too_large(block: BlockType, values: &[f32]) -> Option<f32> {
    let largest = values.iter().filter(|v| v.is_finite()).fold(0.0f32, |most, v| most.max(v.abs()));
    let lost = match block {
        BlockType::F16 => f16::from_f32(largest).is_infinite(),
        BlockType::BF16 => bf16::from_f32(largest).is_infinite(),
        _ => false,
    };
    lost.then_some(largest)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use porism_formats::Weight;

    use super::*;
    use crate::site::{BlockSite, Site};

    fn item(site: BlockSite, weight: Weight, block: BlockType, order: Option<&[usize]>) -> Item {
        Item {
            site: Some(Site::Block(0, site)),
            bias: false,
            name: "target".into(),
            origin: "m.gguf: the tensor `source`".into(),
            shape: vec![weight.rows(), weight.cols()],
            weight,
            block,
            order: order.map(Arc::from),
            shift: 0.0,
        }
    }

    fn run(item: &Item) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        pieces(item, &mut |bytes| {
            all.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(all)
    }

    /// Rows of blocks change places as bytes, before and after they are decoded.
    #[test]
    fn rows_of_any_type_change_places() {
        let values: Vec<f32> = (0..4 * 64).map(|i| (i as f32 * 0.37).sin()).collect();
        let order = [2, 0, 3, 1];
        for block in [BlockType::F32, BlockType::F16, BlockType::Q4_1, BlockType::Q8_0] {
            let mut bytes = Vec::new();
            quantize(block, &values, &mut bytes).unwrap();
            let row = bytes.len() / 4;
            let weight = Weight::new(Arc::new(bytes.clone()), 0..bytes.len(), block, 4, 64).unwrap();
            let same = run(&item(BlockSite::Query, weight.clone(), block, Some(&order))).unwrap();
            let want: Vec<u8> = order.iter().flat_map(|&r| bytes[r * row..(r + 1) * row].to_vec()).collect();
            assert_eq!(same, want, "{block}");

            let decoded = run(&item(BlockSite::Query, weight.clone(), BlockType::F32, Some(&order))).unwrap();
            let f32s = weight.to_f32();
            let want: Vec<u8> =
                order.iter().flat_map(|&r| &f32s[r * 64..(r + 1) * 64]).flat_map(|v| v.to_le_bytes()).collect();
            assert_eq!(decoded, want, "{block}");
        }
    }

    #[test]
    fn pieces_join_without_a_seam() {
        let (rows, cols) = (5, PIECE / 2 - 3);
        let values: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
        let weight = Weight::from_f32(&values, rows, cols).unwrap();
        let order = [4, 3, 2, 1, 0];
        let out = run(&item(BlockSite::Query, weight, BlockType::F32, Some(&order))).unwrap();
        for (i, &row) in order.iter().enumerate() {
            let at = i * cols * 4;
            assert_eq!(out[at..at + 4], ((row * cols) as f32).to_le_bytes());
        }
        assert_eq!(out.len(), rows * cols * 4);
    }

    #[test]
    fn a_bias_is_reordered_by_elements() {
        let weight = Weight::from_f32(&[1.0, 2.0, 3.0, 4.0], 1, 4).unwrap();
        let item =
            Item { bias: true, shape: vec![4], ..item(BlockSite::Key, weight, BlockType::F16, Some(&[3, 1, 2, 0])) };
        let want: Vec<u8> = [4.0, 2.0, 3.0, 1.0].into_iter().flat_map(|v| f16::from_f32(v).to_le_bytes()).collect();
        assert_eq!(run(&item).unwrap(), want);
    }

    /// 65,504 is the largest f16; from 65,520 on values round to infinity. An infinity was one before.
    #[test]
    fn what_f16_cannot_hold_is_refused() {
        let with = |value: f32, block| {
            let weight = Weight::from_f32(&[0.5, value], 1, 2).unwrap();
            run(&item(BlockSite::Up, weight, block, None))
        };
        assert!(with(65_519.0, BlockType::F16).is_ok());
        assert!(with(f32::INFINITY, BlockType::F16).is_ok());
        let message = with(-65_520.0, BlockType::F16).unwrap_err().to_string();
        assert_eq!(
            message,
            "cannot convert: m.gguf: the tensor `source` holds a weight of 6.552e4, too large for F16; --to f32 holds it"
        );
        assert!(with(65_520.0, BlockType::BF16).is_ok());
        assert!(with(f32::MAX, BlockType::BF16).is_err());
    }

    /// Both ways of a norm's factor less one. 0.1 has bits below those of 0.9, so that no f32 gives it back.
    #[test]
    fn factors_less_one_are_exact_or_refused() {
        let with = |value: f32, shift| {
            let weight = Weight::from_f32(&[value], 1, 1).unwrap();
            run(&Item { shift, ..item(BlockSite::AttentionNorm, weight, BlockType::F32, None) })
        };
        assert_eq!(with(0.25, 1.0).unwrap(), 1.25f32.to_le_bytes());
        assert_eq!(with(1.25, -1.0).unwrap(), 0.25f32.to_le_bytes());
        assert_eq!(with(1e-9, 1.0).unwrap(), 1.0f32.to_le_bytes());
        let message = with(0.1, -1.0).unwrap_err().to_string();
        assert!(message.contains("a factor of 1e-1") && message.contains("less one"), "{message}");
    }
}

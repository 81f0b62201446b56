//! Writing: a matrix of blocks taken apart into bitsandbytes' tensors.

use porism_kernels::BlockType;
use porism_kernels::block::four_bit::{places, scales};
use porism_kernels::block::nested::{NESTED_BLOCK, NestedScales};
use porism_kernels::optimizer::dynamic_map;
use serde_json::json;

use super::{ABSMAX, NESTED_ABSMAX, NESTED_QUANT_MAP, Packing, QUANT_MAP, STATE, quant_type, table};

/// A mean of f32 numbers as JSON takes at most so many characters; the state is filled up with blanks.
const OFFSET_CHARACTERS: usize = 32;

/// The tensors of a matrix: names, types and shapes.
pub(in crate::hf) type Parts = Vec<(String, &'static str, Vec<usize>)>;

/// The tensors that the matrix `name` of `rows x cols` becomes; `None` if a row is no whole number of blocks or its
/// size overflows.
pub(in crate::hf) fn announce(
    name: &str,
    block: BlockType,
    (rows, cols): (usize, usize),
    packing: Packing,
) -> Option<Parts> {
    block.row_bytes(cols)?.checked_mul(rows)?;
    let weights = rows * cols;
    let scales = weights / block.block_len();
    let state = state(block, (rows, cols), packing, 0.0).len();
    let mut parts = vec![
        (name.to_owned(), "U8", vec![weights / 2, 1]),
        (format!("{name}{ABSMAX}"), if packing.double_quant { "U8" } else { "F32" }, vec![scales]),
        (format!("{name}{QUANT_MAP}"), "F32", vec![16]),
        (format!("{name}{STATE}{}", quant_type(block)), "U8", vec![state]),
    ];
    if packing.double_quant {
        parts.push((format!("{name}{NESTED_ABSMAX}"), "F32", vec![scales.div_ceil(NESTED_BLOCK)]));
        parts.push((format!("{name}{NESTED_QUANT_MAP}"), "F32", vec![256]));
    }
    Some(parts)
}

/// The bytes of each of the tensors of [`announce`], in its order.
pub(in crate::hf) fn fill(blocks: &[u8], block: BlockType, shape: (usize, usize), packing: Packing) -> Vec<Vec<u8>> {
    let exact = scales(blocks);
    let mut two_a_byte = Vec::with_capacity(blocks.len());
    places(blocks, &mut two_a_byte);
    let nested = packing.double_quant.then(|| NestedScales::encode(&exact));
    let offset = nested.as_ref().map_or(0.0, |n| n.offset);
    let mut parts = vec![
        two_a_byte,
        nested.as_ref().map_or_else(|| bytes(&exact), |n| n.codes.clone()),
        // bitsandbytes' tables have a plain zero where one of FP4's is negative.
        bytes(&table(block).map(|v| v + 0.0)),
        state(block, shape, packing, offset),
    ];
    if let Some(nested) = &nested {
        parts.push(bytes(&nested.largest));
        parts.push(bytes(dynamic_map(true)));
    }
    parts
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The JSON that says what the tensors are, always of the same length.
fn state(block: BlockType, (rows, cols): (usize, usize), packing: Packing, offset: f32) -> Vec<u8> {
    let mut state = json!({
        "quant_type": quant_type(block),
        "blocksize": block.block_len(),
        "dtype": packing.decoded.name(),
        "shape": [rows, cols],
    });
    if let (true, Some(state)) = (packing.double_quant, state.as_object_mut()) {
        state.insert("nested_blocksize".into(), json!(NESTED_BLOCK));
        state.insert("nested_dtype".into(), json!("float32"));
    }
    let mut text = state.to_string();
    if packing.double_quant {
        text.pop();
        let mut offset = format!(",\"nested_offset\":{}}}", json!(f64::from(offset)));
        while offset.len() < OFFSET_CHARACTERS + 18 {
            offset.push(' ');
        }
        text += &offset;
    }
    text.into_bytes()
}

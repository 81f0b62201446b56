//! Reading: the parts of a matrix are found by name and checked against each other, then put together.

use std::sync::Arc;

use porism_kernels::BlockType;
use porism_kernels::block::four_bit::join;
use porism_kernels::block::nested::decode;
use porism_kernels::optimizer::dynamic_map;

use super::super::json::JsonFile;
use super::super::safetensors::TensorInfo;
use super::{ABSMAX, NESTED_ABSMAX, NESTED_QUANT_MAP, QUANT_MAP, STATE, table};
use crate::{Error, Result, Storage, Weight};

/// A quant state takes some 170 bytes.
const MAX_STATE_BYTES: usize = 4096;
/// Far more than any block has.
const MAX_BLOCK: usize = 1 << 20;

/// A tensor of the file: what it says about it, and its bytes.
pub(in crate::hf) type Part<'a> = (&'a TensorInfo, &'a Arc<dyn Storage>);

/// A matrix in several tensors, checked.
#[derive(Debug)]
pub(in crate::hf) struct Packed {
    /// As one tensor.
    pub(in crate::hf) info: TensorInfo,
    block: BlockType,
    rows: usize,
    cols: usize,
    /// Weights that share a scale.
    blocksize: usize,
    nested: Option<Nested>,
}

/// What the JSON says about scales in 8 bits.
#[derive(Debug)]
struct Nested {
    block: usize,
    offset: f32,
}

impl Packed {
    /// The matrix whose state `name` is; `None` if it is no state. `part` finds a tensor, `file` stands in messages.
    pub(in crate::hf) fn find<'a>(
        name: &str,
        part: impl Fn(&str) -> Option<Part<'a>>,
        file: &str,
    ) -> Result<Option<Packed>> {
        let Some((weight, kind)) = name.split_once(STATE) else { return Ok(None) };
        let problem = |what: String| Error::invalid(file, format!("tensor `{weight}`: {what}"));
        let block = match kind {
            "nf4" => BlockType::NF4,
            "fp4" => BlockType::FP4,
            other => {
                let other = other.escape_debug();
                return Err(problem(format!("its bitsandbytes type is {other}; nf4 and fp4 are read")));
            }
        };
        let need = |suffix: &str| {
            part(&format!("{weight}{suffix}")).ok_or_else(|| problem(format!("`{weight}{suffix}` is missing")))
        };
        let (state, storage) = need(&format!("{STATE}{kind}"))?;
        if state.byte_len() > MAX_STATE_BYTES {
            return Err(problem(format!("its quant_state is of {} bytes", state.byte_len())));
        }
        let state = JsonFile::parse(state.bytes(storage), &format!("{file}: the quant_state of `{weight}`"))?;
        let said = state.get_str("quant_type")?;
        if said != kind {
            return Err(problem(format!("its quant_state says {}, its name {kind}", said.escape_debug())));
        }
        let (rows, cols) = shape(&state).ok_or_else(|| {
            problem("its quant_state gives no shape of two dimensions above zero: such weights are not read".into())
        })?;
        let blocksize = state.get_usize("blocksize")?;
        if blocksize == 0 || !blocksize.is_multiple_of(block.block_len()) || blocksize > MAX_BLOCK {
            return Err(problem(format!("blocks of {blocksize} weights: multiples of 64 are read")));
        }
        if !cols.is_multiple_of(block.block_len()) {
            return Err(problem(format!("rows of {cols} weights: a row has to be whole blocks of 64")));
        }
        let weights = rows.checked_mul(cols).ok_or_else(|| problem(format!("a shape of {rows} x {cols}")))?;
        let nested = match part(&format!("{weight}{NESTED_ABSMAX}")) {
            None => None,
            Some(_) => Some(Nested {
                block: state.get_usize("nested_blocksize")?,
                offset: state.get_f64("nested_offset")? as f32,
            }),
        };
        if nested.as_ref().is_some_and(|n| n.block == 0 || n.block > MAX_BLOCK || !n.offset.is_finite()) {
            return Err(problem("its scales have a nested_blocksize or nested_offset that makes no sense".into()));
        }
        // bitsandbytes packs the places into elements of any type.
        let (places, _) = need("")?;
        if places.byte_len() != weights / 2 {
            let (bytes, want) = (places.byte_len(), weights / 2);
            return Err(problem(format!("{bytes} bytes for {rows} x {cols} weights of four bits, which take {want}")));
        }
        let scales = weights.div_ceil(blocksize);
        let mut parts = vec![places];
        let mut check = |suffix: &str, dtype: &str, count: usize| -> Result<Part<'a>> {
            let part = need(suffix)?;
            let elements: usize = part.0.shape().iter().product();
            if part.0.dtype() != dtype || elements != count {
                let (found, shape) = (part.0.dtype().escape_debug(), part.0.shape());
                return Err(problem(format!("`{weight}{suffix}` is {found} {shape:?}; {dtype} [{count}] is needed")));
            }
            parts.push(part.0);
            Ok(part)
        };
        same_table(check(QUANT_MAP, "F32", 16)?, table(block)).map_err(|e| problem(format!("its quant_map {e}")))?;
        check(ABSMAX, if nested.is_some() { "U8" } else { "F32" }, scales)?;
        if let Some(nested) = &nested {
            check(NESTED_ABSMAX, "F32", scales.div_ceil(nested.block))?;
            same_table(check(NESTED_QUANT_MAP, "F32", 256)?, dynamic_map(true))
                .map_err(|e| problem(format!("its nested_quant_map {e}")))?;
        }
        let bytes = parts.iter().map(|p| p.byte_len()).sum();
        let info = TensorInfo::packed(weight, block.name(), vec![rows, cols], bytes);
        Ok(Some(Packed { info, block, rows, cols, blocksize, nested }))
    }

    /// The names of the tensors that this one is made of.
    pub(in crate::hf) fn part_names(&self) -> Vec<String> {
        let state = format!("{STATE}{}", super::quant_type(self.block));
        let suffixes = [&state, ABSMAX, QUANT_MAP, NESTED_ABSMAX, NESTED_QUANT_MAP];
        suffixes.iter().map(|suffix| format!("{}{suffix}", self.info.name())).collect()
    }

    /// The matrix, put together in memory; what it was read from is given back to the system.
    pub(in crate::hf) fn weight<'a>(&self, part: impl Fn(&str) -> Option<Part<'a>>) -> Result<Weight> {
        let name = self.info.name();
        let bytes = |suffix: &str| {
            // All parts were there when the folder was opened.
            let (info, storage) = part(&format!("{name}{suffix}"))
                .ok_or_else(|| Error::invalid(name, format!("`{name}{suffix}` is missing")))?;
            Ok::<_, Error>((info.bytes(storage), storage))
        };
        let (absmax, _) = bytes(ABSMAX)?;
        let scales = match &self.nested {
            None => numbers(absmax),
            Some(nested) => {
                let largest = numbers(bytes(NESTED_ABSMAX)?.0);
                let mut map = [0.0; 256];
                map.iter_mut().zip(numbers(bytes(NESTED_QUANT_MAP)?.0)).for_each(|(to, from)| *to = from);
                decode(absmax, &largest, &map, nested.block, nested.offset)
            }
        };
        let (places, storage) = bytes("")?;
        let mut blocks = Vec::new();
        join(places, &scales, self.blocksize / self.block.block_len(), &mut blocks);
        storage.release(places);
        let end = blocks.len();
        Weight::new(Arc::new(blocks), 0..end, self.block, self.rows, self.cols)
    }
}

/// Rows and columns.
fn shape(state: &JsonFile) -> Option<(usize, usize)> {
    let [rows, cols] = &state.get("shape")?.as_array()?[..] else { return None };
    let size = |v: &serde_json::Value| usize::try_from(v.as_u64()?).ok().filter(|&n| n > 0);
    Some((size(rows)?, size(cols)?))
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Whether a file's table is the one that its type has. Other versions of PyTorch may have rounded it otherwise.
fn same_table((info, storage): Part<'_>, known: &[f32]) -> std::result::Result<(), String> {
    for (i, (found, known)) in numbers(info.bytes(storage)).into_iter().zip(known).enumerate() {
        let near = (found - known).abs() <= 1e-6 * known.abs().max(1e-6);
        if !near {
            return Err(format!("holds {found} at place {i} where bitsandbytes' table has {known}"));
        }
    }
    Ok(())
}

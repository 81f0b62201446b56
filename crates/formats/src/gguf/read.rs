//! Reading a GGUF header: everything is checked here, once, so that access later cannot fail.

use std::collections::HashMap;
use std::ops::Range;

use porism_kernels::BlockType;

use super::cursor::Cursor;
use super::value::{Value, ValueType};
use super::{DEFAULT_ALIGNMENT, MAGIC, MAX_DIMS, MAX_KEY_BYTES, TensorInfo};

/// Far above any real file; what a hostile header can make us allocate stays small.
const MAX_KEYS: u64 = 1 << 16;
const MAX_TENSORS: u64 = 1 << 18;
const MAX_NAME_BYTES: usize = 1024;

/// What a header says.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) alignment: u64,
    pub(super) entries: Vec<Entry>,
    pub(super) keys: HashMap<String, usize>,
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) names: HashMap<String, usize>,
}

/// A metadata entry. Strings and arrays stay in the file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) stored: Stored,
}

#[derive(Debug)]
pub(super) enum Stored {
    /// A number or a bool.
    Scalar(Value<'static>),
    /// The string's bytes.
    String(Range<usize>),
    /// The elements' type, count and bytes.
    Array(ValueType, usize, Range<usize>),
}

/// Parses the header of a file that consists of `bytes`. The error is a sentence without the file's
/// name.
pub(super) fn parse(bytes: &[u8]) -> Result<Header, String> {
    let mut cursor = Cursor::new(bytes);
    let version = preamble(&mut cursor)?;
    let tensor_count = cursor.u64()?;
    let key_count = cursor.u64()?;
    let left = cursor.remaining();
    // The smallest entry: an empty key, a type, one byte. The smallest tensor: an empty name, a count
    // of dimensions, a type, an offset.
    check_count("metadata keys", key_count, MAX_KEYS, left, 8 + 4 + 1)?;
    check_count("tensors", tensor_count, MAX_TENSORS, left, 8 + 4 + 4 + 8)?;

    let mut entries = Vec::with_capacity(key_count as usize);
    let mut keys = HashMap::with_capacity(key_count as usize);
    for index in 0..key_count {
        let entry = entry(&mut cursor, index)?;
        if keys.insert(entry.key.clone(), entries.len()).is_some() {
            return Err(format!("the metadata key `{}` occurs twice", entry.key));
        }
        entries.push(entry);
    }
    let alignment = match keys.get("general.alignment") {
        Some(index) => alignment(&entries[*index].stored)?,
        None => DEFAULT_ALIGNMENT,
    };

    let mut tensors = Vec::with_capacity(tensor_count as usize);
    let mut names = HashMap::with_capacity(tensor_count as usize);
    for index in 0..tensor_count {
        let tensor = tensor(&mut cursor, index)?;
        if names.insert(tensor.name.clone(), tensors.len()).is_some() {
            return Err(format!("the tensor `{}` occurs twice", tensor.name));
        }
        tensors.push(tensor);
    }
    place(&mut tensors, cursor.position(), bytes.len(), alignment)?;
    Ok(Header { version, alignment, entries, keys, tensors, names })
}

fn preamble(cursor: &mut Cursor<'_>) -> Result<u32, String> {
    if cursor.remaining() == 0 {
        return Err("the file is empty".into());
    }
    let magic = cursor.take(cursor.remaining().min(4))?;
    if magic != MAGIC {
        let seen = magic.escape_ascii();
        return Err(format!("not a GGUF file: it begins with \"{seen}\", not with \"GGUF\""));
    }
    match cursor.u32()? {
        version @ (2 | 3) => Ok(version),
        1 => Err("GGUF version 1 is not supported: convert the file to version 3".into()),
        version if (1..=3).contains(&version.swap_bytes()) => {
            Err("the file is big-endian GGUF, which is not supported: use the little-endian file".into())
        }
        version => Err(format!("GGUF version {version} is not supported (versions 2 and 3 are)")),
    }
}

fn check_count(what: &str, count: u64, limit: u64, left: usize, smallest: usize) -> Result<(), String> {
    if count > limit {
        return Err(format!("the header claims {count} {what}; more than {limit} are refused"));
    }
    if count > (left / smallest) as u64 {
        return Err(format!("the header claims {count} {what}, but only {left} bytes follow"));
    }
    Ok(())
}

fn entry(cursor: &mut Cursor<'_>, index: u64) -> Result<Entry, String> {
    let key = name(cursor, MAX_KEY_BYTES).map_err(|e| format!("metadata key {index}: {e}"))?;
    let stored = stored(cursor).map_err(|e| format!("metadata key `{key}`: {e}"))?;
    Ok(Entry { key, stored })
}

fn stored(cursor: &mut Cursor<'_>) -> Result<Stored, String> {
    let id = cursor.u32()?;
    let kind = ValueType::from_id(id).ok_or_else(|| format!("value of unknown type {id}"))?;
    let value = Value::decode(cursor, kind, 0)?;
    // Strings and array elements come last in their encoding: they end where the cursor is.
    let end = cursor.position();
    Ok(match value {
        Value::String(string) => Stored::String(end - string.len()..end),
        Value::Array(array) => Stored::Array(array.kind(), array.len(), end - array.encoded().len()..end),
        scalar => Stored::Scalar(scalar.into_owned()),
    })
}

/// A key or a tensor's name.
fn name(cursor: &mut Cursor<'_>, limit: usize) -> Result<String, String> {
    let bytes = cursor.string()?;
    if bytes.len() > limit {
        return Err(format!("a name of {} bytes is longer than {limit}", bytes.len()));
    }
    let name = std::str::from_utf8(bytes).map_err(|_| format!("the name \"{}\" is not UTF-8", bytes.escape_ascii()))?;
    Ok(name.to_owned())
}

fn alignment(stored: &Stored) -> Result<u64, String> {
    match stored {
        Stored::Scalar(Value::U32(v)) if v.is_power_of_two() => Ok(u64::from(*v)),
        Stored::Scalar(Value::U32(v)) => Err(format!("`general.alignment` is {v}, which is not a power of two")),
        _ => Err("`general.alignment` is not a u32".into()),
    }
}

/// One tensor's entry. Its offset is still relative to the data section.
fn tensor(cursor: &mut Cursor<'_>, index: u64) -> Result<TensorInfo, String> {
    let name = name(cursor, MAX_NAME_BYTES).map_err(|e| format!("tensor {index}: {e}"))?;
    let problem = |e: String| format!("tensor `{name}`: {e}");
    let count = cursor.u32().map_err(problem)?;
    if count as usize > MAX_DIMS {
        return Err(problem(format!("{count} dimensions; at most {MAX_DIMS} are allowed")));
    }
    let mut dims = Vec::with_capacity(count as usize);
    for _ in 0..count {
        dims.push(cursor.u64().map_err(problem)?);
    }
    let id = cursor.u32().map_err(problem)?;
    let offset = cursor.u64().map_err(problem)?;
    let Some(block) = BlockType::from_ggml_id(id) else {
        let known = BlockType::ALL.into_iter().filter(|b| b.ggml_id().is_some());
        let supported = known.map(BlockType::name).collect::<Vec<_>>().join(", ");
        return Err(problem(format!(
            "stored as {}, which is not supported (supported: {supported})",
            ggml_type_name(id)
        )));
    };
    let (rows, cols) = shape(&dims).map_err(problem)?;
    if !cols.is_multiple_of(block.block_len()) {
        let len = block.block_len();
        return Err(problem(format!("rows of {cols} weights cannot be {block}, whose blocks are of {len}")));
    }
    let bytes = block
        .row_bytes(cols)
        .and_then(|row| row.checked_mul(rows))
        .ok_or_else(|| problem(format!("its size in bytes overflows, with dimensions {dims:?}")))?;
    Ok(TensorInfo { name, dims, block, offset, rows, cols, bytes, part: 0 })
}

/// Rows and columns of a tensor: the first dimension is the fastest, all others count rows.
pub(super) fn shape(dims: &[u64]) -> Result<(usize, usize), String> {
    if dims.contains(&0) {
        return Err(format!("a dimension is zero: {dims:?}"));
    }
    let all = dims.iter().try_fold(1u64, |all, d| all.checked_mul(*d));
    // No more weights than a signed 64-bit count can hold, as for every other reader.
    match all.filter(|all| *all <= i64::MAX as u64).map(usize::try_from) {
        Some(Ok(all)) => {
            let cols = dims.first().map_or(1, |d| *d as usize);
            Ok((all / cols, cols))
        }
        _ => Err(format!("the number of weights overflows, with dimensions {dims:?}")),
    }
}

/// Makes the offsets absolute, after checking that every tensor lies inside the file, aligned, and on
/// no other tensor's bytes.
fn place(tensors: &mut [TensorInfo], header_end: usize, file_len: usize, alignment: u64) -> Result<(), String> {
    let Some(data) = (header_end as u64).checked_next_multiple_of(alignment) else {
        return Err(format!("`general.alignment` is {alignment}, past the end of the file"));
    };
    for tensor in &mut *tensors {
        let name = &tensor.name;
        if !tensor.offset.is_multiple_of(alignment) {
            return Err(format!("tensor `{name}`: offset {} is not aligned to {alignment} bytes", tensor.offset));
        }
        let start = tensor.offset.checked_add(data);
        let end = start.and_then(|start| start.checked_add(tensor.bytes as u64));
        match (start, end) {
            (Some(start), Some(end)) if end <= file_len as u64 => tensor.offset = start,
            _ => {
                return Err(format!(
                    "tensor `{name}`: its {} bytes at offset {} of the data lie past the end of the \
                     file of {file_len} bytes; the file is damaged or not completely downloaded",
                    tensor.bytes, tensor.offset
                ));
            }
        }
    }
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|t| t.offset);
    for pair in order.windows(2) {
        if pair[0].offset + pair[0].bytes as u64 > pair[1].offset {
            return Err(format!("tensors `{}` and `{}` overlap", pair[0].name, pair[1].name));
        }
    }
    Ok(())
}

/// The name of a ggml type that cannot be read, for the message, and always its number.
fn ggml_type_name(id: u32) -> String {
    let name = match id {
        9 => "Q8_1",
        15 => "Q8_K",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        40 => "NVFP4",
        41 => "Q1_0",
        42 => "Q2_0",
        _ => return format!("an unknown type (number {id})"),
    };
    format!("{name} (type number {id})")
}

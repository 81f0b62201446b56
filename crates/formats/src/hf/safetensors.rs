//! Reading a safetensors file: eight bytes with the header's length, a JSON header, the data.
//!
//! The header is parsed here and not with the `safetensors` crate, whose sum of offsets can overflow
//! on a hostile header (a panic in builds that check for it), whose flattened map costs some twenty times
//! the header's size, and whose errors do not name the tensor. The tests hold the two against each
//! other.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use porism_kernels::BlockType;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::json::StringPairs;
use crate::{Error, Result, Storage, Weight, mapping};

/// The format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;
const MAX_DIMS: usize = 8;

/// What a safetensors file says about one tensor.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl TensorInfo {
    /// The name, unique in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The element type as the file names it: `F32`, `BF16`, `I64`, ...
    pub fn dtype(&self) -> &str {
        &self.dtype
    }

    /// The dimensions, the slowest first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of bytes.
    pub fn byte_len(&self) -> usize {
        self.range.len()
    }

    /// A matrix that several tensors of `bytes` bytes make up.
    pub(super) fn packed(name: &str, dtype: &str, shape: Vec<usize>, bytes: usize) -> TensorInfo {
        TensorInfo { name: name.to_owned(), dtype: dtype.to_owned(), shape, range: 0..bytes }
    }

    /// The bytes, in the storage of the file that the tensor is of.
    pub(super) fn bytes<'a>(&self, storage: &'a Arc<dyn Storage>) -> &'a [u8] {
        &storage.bytes()[self.range.clone()]
    }
}

/// An open safetensors file.
pub struct SafeTensors {
    storage: Arc<dyn Storage>,
    file: String,
    metadata: Vec<(String, String)>,
    tensors: Vec<TensorInfo>,
    names: HashMap<String, usize>,
}

impl SafeTensors {
    /// Maps a file and checks its whole header. The file must not be changed or cut meanwhile.
    pub fn open(path: &Path) -> Result<SafeTensors> {
        SafeTensors::from_bytes(mapping::map(path)?, &path.display().to_string())
    }

    /// Reads a file that is in memory. `name` stands for it in messages.
    pub fn from_bytes(storage: Arc<dyn Storage>, name: &str) -> Result<SafeTensors> {
        let (header, data) = header(storage.bytes()).map_err(|e| Error::invalid(name, e))?;
        let mut tensors = header.tensors;
        let mut names = HashMap::with_capacity(tensors.len());
        tensors.sort_by_key(|t| (t.range.start, t.range.end));
        for (index, tensor) in tensors.iter().enumerate() {
            if names.insert(tensor.name.clone(), index).is_some() {
                let problem = format!("the tensor `{}` occurs twice", tensor.name);
                return Err(Error::invalid(name, problem));
            }
        }
        place(&mut tensors, data).map_err(|e| Error::invalid(name, e))?;
        Ok(SafeTensors { storage, file: name.to_owned(), metadata: header.metadata, tensors, names })
    }

    /// The text metadata (`__metadata__`).
    pub fn metadata(&self) -> &[(String, String)] {
        &self.metadata
    }

    /// All tensors, in the order of their data.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// What the file says about a tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.names.get(name).map(|index| &self.tensors[*index])
    }

    /// What the tensors lie in.
    pub(super) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// A tensor of type F32, F16 or BF16 as a matrix: `cols` is the last dimension, `rows` the product
    /// of the others (a vector is one row, a scalar one row of one).
    pub fn weight(&self, name: &str) -> Result<Weight> {
        let tensor =
            self.tensor(name).ok_or_else(|| Error::MissingTensor { file: self.file.clone(), name: name.to_owned() })?;
        let block = match tensor.dtype.as_str() {
            "F32" => BlockType::F32,
            "F16" => BlockType::F16,
            "BF16" => BlockType::BF16,
            other => {
                let problem = format!(
                    "tensor `{name}`: stored as {}, which is not supported as a weight (supported: \
                     F32, F16, BF16)",
                    other.escape_debug()
                );
                return Err(Error::invalid(&self.file, problem));
            }
        };
        let cols = tensor.shape.last().copied().unwrap_or(1);
        // No overflow: the product of the shape was checked against the bytes there are.
        let all: usize = tensor.shape.iter().product();
        let Some(rows) = all.checked_div(cols).filter(|rows| *rows > 0) else {
            let problem = format!("tensor `{name}`: a dimension is zero: {:?}", tensor.shape);
            return Err(Error::invalid(&self.file, problem));
        };
        Weight::new(self.storage.clone(), tensor.range.clone(), block, rows, cols)
    }
}

/// Checks the file's outer form; gives the parsed header and the range of the data.
fn header(bytes: &[u8]) -> std::result::Result<(Header, Range<usize>), String> {
    let (length, rest) = match bytes.split_first_chunk::<8>() {
        Some((length, rest)) => (u64::from_le_bytes(*length), rest),
        None if bytes.is_empty() => return Err("the file is empty".into()),
        None => {
            return Err(format!("cut off: {} bytes are no safetensors file", bytes.len()));
        }
    };
    if length > MAX_HEADER_BYTES {
        return Err(format!(
            "not a safetensors file: it claims a header of {length} bytes, above the limit of \
             {MAX_HEADER_BYTES}"
        ));
    }
    let length = length as usize;
    let Some(json) = rest.get(..length) else {
        return Err(format!("cut off: the header claims {length} bytes, but only {} follow", rest.len()));
    };
    let header = serde_json::from_slice(json).map_err(|e| format!("the header is not valid safetensors JSON: {e}"))?;
    Ok((header, 8 + length..bytes.len()))
}

/// Turns offsets within the data into ranges of the file, after checking that the tensors, sorted by
/// offset, fill the data without gap or overlap (the format demands both) and fit their shapes.
fn place(tensors: &mut [TensorInfo], data: Range<usize>) -> std::result::Result<(), String> {
    let mut end = 0;
    for tensor in &mut *tensors {
        let TensorInfo { name, dtype, shape, range } = tensor;
        if range.start != end || range.end < range.start {
            return Err(format!(
                "tensor `{name}`: its data at {}..{} overlap others or leave a gap after byte {end}",
                range.start, range.end
            ));
        }
        if range.end > data.len() {
            return Err(format!(
                "tensor `{name}`: its data at {}..{} lie past the end of the data of {} bytes; the \
                 file is damaged or not completely downloaded",
                range.start,
                range.end,
                data.len()
            ));
        }
        let elements = shape.iter().try_fold(1usize, |all, d| all.checked_mul(*d));
        let elements = elements.ok_or_else(|| format!("tensor `{name}`: the shape {shape:?} overflows"))?;
        if let Some(bits) = element_bits(dtype) {
            let bits = elements.checked_mul(bits);
            if bits != range.len().checked_mul(8) {
                return Err(format!(
                    "tensor `{name}`: the shape {shape:?} of {dtype} does not take {} bytes",
                    range.len()
                ));
            }
        }
        end = range.end;
        *range = data.start + range.start..data.start + range.end;
    }
    if end != data.len() {
        return Err(format!("{} bytes follow the data of the last tensor", data.len() - end));
    }
    Ok(())
}

/// Bits of an element; `None` for a type that is not known (its tensors cannot be read, but others
/// can).
fn element_bits(dtype: &str) -> Option<usize> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" => 8,
        "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "I64" | "U64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

/// The JSON header; offsets are still relative to the data.
struct Header {
    metadata: Vec<(String, String)>,
    tensors: Vec<TensorInfo>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header, A::Error> {
                let mut header = Header { metadata: Vec::new(), tensors: Vec::new() };
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        let pairs: Option<StringPairs> = map.next_value()?;
                        header.metadata = pairs.map_or_else(Vec::new, |pairs| pairs.0);
                        continue;
                    }
                    let entry: Entry = map.next_value()?;
                    let (start, end) = entry.data_offsets;
                    header.tensors.push(TensorInfo {
                        name,
                        dtype: entry.dtype,
                        shape: entry.shape.0,
                        range: start..end,
                    });
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Shape,
    data_offsets: (usize, usize),
}

/// At most [`MAX_DIMS`] dimensions.
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct ShapeVisitor;
        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(dim) = seq.next_element()? {
                    if shape.len() == MAX_DIMS {
                        return Err(A::Error::custom(format!("more than {MAX_DIMS} dimensions")));
                    }
                    shape.push(dim);
                }
                Ok(Shape(shape))
            }
        }
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

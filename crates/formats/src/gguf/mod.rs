//! GGUF files, versions 2 and 3, little-endian: one file with metadata and tensors.
//!
//! A file is a header, the metadata (key, type, value), the tensors' names, shapes, types and offsets,
//! and the tensors' bytes, each aligned to `general.alignment` (32 unless said otherwise). Version 3
//! differs from 2 only in allowing big-endian files, which are refused here.

mod array;
mod cursor;
mod read;
mod split;
mod value;
mod write;

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use porism_kernels::BlockType;

use crate::{Error, Result, Storage, Weight, mapping};
pub use array::{Array, ByteStrings, Strings};
use read::{Header, Stored};
pub use value::{Value, ValueType};
pub use write::{GgufHeader, GgufWriter};

const MAGIC: &[u8] = b"GGUF";
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_DIMS: usize = 4;
/// The longest key that the format allows.
const MAX_KEY_BYTES: usize = 65_535;

/// What a GGUF file says about one tensor.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    name: String,
    dims: Vec<u64>,
    block: BlockType,
    offset: u64,
    rows: usize,
    cols: usize,
    bytes: usize,
    /// Which file of a split model holds it.
    part: usize,
}

impl TensorInfo {
    /// The name, unique in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The dimensions as in the file: the fastest (a row's length) first.
    pub fn dims(&self) -> &[u64] {
        &self.dims
    }

    /// The block type.
    pub fn block(&self) -> BlockType {
        self.block
    }

    /// Where the tensor's bytes begin in the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The number of bytes.
    pub fn byte_len(&self) -> usize {
        self.bytes
    }

    /// The product of all dimensions but the first.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The first dimension.
    pub fn cols(&self) -> usize {
        self.cols
    }
}

/// An open GGUF file.
pub struct Gguf {
    storage: Arc<dyn Storage>,
    /// The files of a split model behind the first.
    others: Vec<Arc<dyn Storage>>,
    file: String,
    header: Header,
}

impl Gguf {
    /// Maps a file and checks its whole header.
    ///
    /// The weights are views into the mapping: the file must not be changed or cut while it is open.
    /// Replacing it by renaming another file over it is safe. Of a split model give the first part; the others are
    /// found beside it.
    pub fn open(path: &Path) -> Result<Gguf> {
        let mut gguf = Gguf::from_bytes(mapping::map(path)?, &path.display().to_string())?;
        split::complete(&mut gguf, path)?;
        Ok(gguf)
    }

    /// Takes over the tensors of a further part.
    fn join(&mut self, part: Gguf) -> Result<()> {
        self.others.push(part.storage);
        for mut tensor in part.header.tensors {
            tensor.part = self.others.len();
            if self.header.names.insert(tensor.name.clone(), self.header.tensors.len()).is_some() {
                return Err(Error::invalid(&part.file, format!("the tensor `{}` occurs in two parts", tensor.name)));
            }
            self.header.tensors.push(tensor);
        }
        Ok(())
    }

    /// Reads a file that is in memory. `name` stands for it in messages.
    pub fn from_bytes(storage: Arc<dyn Storage>, name: &str) -> Result<Gguf> {
        let header = read::parse(storage.bytes()).map_err(|e| Error::invalid(name, e))?;
        Ok(Gguf { storage, others: Vec::new(), file: name.to_owned(), header })
    }

    /// The file's name, for messages.
    pub fn name(&self) -> &str {
        &self.file
    }

    /// The format's version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// The alignment of tensors, in bytes.
    pub fn alignment(&self) -> u64 {
        self.header.alignment
    }

    /// The file's size in bytes; of a split model that of all parts.
    pub fn byte_len(&self) -> usize {
        std::iter::once(&self.storage).chain(&self.others).map(|s| s.bytes().len()).sum()
    }

    /// In how many files the model lies.
    pub fn parts(&self) -> usize {
        1 + self.others.len()
    }

    /// All metadata, in the file's order.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, Value<'_>)> {
        self.header.entries.iter().map(|e| (e.key.as_str(), self.load(&e.stored)))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        let index = *self.header.keys.get(key)?;
        Some(self.load(&self.header.entries[index].stored))
    }

    fn load(&self, stored: &Stored) -> Value<'_> {
        let bytes = self.storage.bytes();
        match stored {
            Stored::Scalar(value) => value.clone(),
            Stored::String(range) => Value::String(Cow::Borrowed(&bytes[range.clone()])),
            Stored::Array(kind, len, range) => Value::Array(Array::checked(*kind, *len, &bytes[range.clone()])),
        }
    }

    /// All tensors, in the file's order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// What the file says about a tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.header.names.get(name).map(|index| &self.header.tensors[*index])
    }

    /// A tensor as a matrix: `cols` is the first dimension, `rows` the product of the others (a
    /// vector is one row; of stacked experts, the experts follow one another).
    pub fn weight(&self, name: &str) -> Result<Weight> {
        let tensor =
            self.tensor(name).ok_or_else(|| Error::MissingTensor { file: self.file.clone(), name: name.to_owned() })?;
        // The range was checked against the file's length when the header was read.
        let start = tensor.offset as usize;
        let range = start..start + tensor.bytes;
        let storage = tensor.part.checked_sub(1).and_then(|i| self.others.get(i)).unwrap_or(&self.storage);
        Weight::new(storage.clone(), range, tensor.block, tensor.rows, tensor.cols)
    }
}

/// Typed access to metadata. `get_*` fails if the key is missing, `find_*` gives `None`; both fail on
/// a value of another type. Integers may be stored in any integer type that holds the number.
impl Gguf {
    /// A `u32`.
    pub fn get_u32(&self, key: &str) -> Result<u32> {
        self.need(key, self.find_u32(key))
    }

    /// A `u32`, if the key is there.
    pub fn find_u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "an integer from 0 to 4294967295", |v| integer(&v))
    }

    /// A `u64`.
    pub fn get_u64(&self, key: &str) -> Result<u64> {
        self.need(key, self.find_u64(key))
    }

    /// A `u64`, if the key is there.
    pub fn find_u64(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "an unsigned integer", |v| integer(&v))
    }

    /// A count or size.
    pub fn get_usize(&self, key: &str) -> Result<usize> {
        self.need(key, self.find_usize(key))
    }

    /// A count or size, if the key is there.
    pub fn find_usize(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "an unsigned integer", |v| integer(&v))
    }

    /// A float (an `f64` is rounded).
    pub fn get_f32(&self, key: &str) -> Result<f32> {
        self.need(key, self.find_f32(key))
    }

    /// A float, if the key is there.
    pub fn find_f32(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a float", |v| v.as_f32())
    }

    /// A bool.
    pub fn get_bool(&self, key: &str) -> Result<bool> {
        self.need(key, self.find_bool(key))
    }

    /// A bool, if the key is there.
    pub fn find_bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a bool", |v| match v {
            Value::Bool(v) => Some(v),
            _ => None,
        })
    }

    /// A string.
    pub fn get_str(&self, key: &str) -> Result<&str> {
        self.need(key, self.find_str(key))
    }

    /// A string, if the key is there.
    pub fn find_str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a UTF-8 string", |v| match v {
            Value::String(Cow::Borrowed(v)) => std::str::from_utf8(v).ok(),
            _ => None,
        })
    }

    /// An array of any element type, if the key is there.
    pub fn find_array(&self, key: &str) -> Result<Option<Array<'_>>> {
        self.typed(key, "an array", |v| match v {
            Value::Array(v) => Some(v),
            _ => None,
        })
    }

    /// The strings of an array; all must be UTF-8. Nothing is copied.
    pub fn strings(&self, key: &str) -> Result<Strings<'_>> {
        Strings::new(self.byte_strings(key)?).map_err(|index| Error::KeyType {
            file: self.file.clone(),
            key: key.to_owned(),
            expected: "UTF-8 strings",
            found: format!("other bytes in string {index}"),
        })
    }

    /// The strings of an array as bytes. Nothing is copied.
    pub fn byte_strings(&self, key: &str) -> Result<ByteStrings<'_>> {
        self.need(
            key,
            self.typed(key, "an array of strings", |v| match v {
                Value::Array(v) => v.into_byte_strings(),
                _ => None,
            }),
        )
    }

    /// An array of integers that fit in `T` (`u32`, `i32`, `u64`, ...).
    pub fn integers<T: TryFrom<i128>>(&self, key: &str) -> Result<Vec<T>> {
        self.need(
            key,
            self.typed(key, "an array of integers of a fitting size", |v| match v {
                Value::Array(v) => v.iter().map(|v| integer(&v)).collect(),
                _ => None,
            }),
        )
    }

    /// An array of floats.
    pub fn f32s(&self, key: &str) -> Result<Vec<f32>> {
        self.need(
            key,
            self.typed(key, "an array of floats", |v| match v {
                Value::Array(v) => v.iter().map(|v| v.as_f32()).collect(),
                _ => None,
            }),
        )
    }

    fn need<T>(&self, key: &str, found: Result<Option<T>>) -> Result<T> {
        found?.ok_or_else(|| Error::MissingKey { file: self.file.clone(), key: key.to_owned() })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        // Cheap: strings and arrays are borrowed.
        let found = value.clone();
        convert(value).map(Some).ok_or_else(|| Error::KeyType {
            file: self.file.clone(),
            key: key.to_owned(),
            expected,
            found: describe(&found),
        })
    }
}

fn integer<T: TryFrom<i128>>(value: &Value<'_>) -> Option<T> {
    value.as_integer().and_then(|v| v.try_into().ok())
}

/// A value for the message that it is not what was expected.
fn describe(value: &Value<'_>) -> String {
    match value {
        Value::String(_) => "a string".into(),
        Value::Array(array) => format!("an array of {} {}", array.len(), array.kind()),
        other => format!("the {} {other}", other.kind()),
    }
}

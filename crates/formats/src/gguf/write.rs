//! Writing GGUF version 3: a header with everything known beforehand, then the tensors' bytes, which
//! pass through one after the other and are never all in memory.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use porism_kernels::BlockType;

use super::array::encode_string;
use super::read::shape;
use super::{DEFAULT_ALIGNMENT, MAGIC, MAX_DIMS, MAX_KEY_BYTES, Value};
use crate::atomic::AtomicFile;
use crate::{Error, Result};

/// llama.cpp refuses longer names (its `GGML_MAX_NAME` counts a closing zero).
const MAX_NAME_BYTES: usize = 63;

/// The metadata and the list of tensors of a file to be written.
#[derive(Clone, Debug, Default)]
pub struct GgufHeader {
    entries: Vec<(String, Value<'static>)>,
    keys: HashMap<String, usize>,
    tensors: Vec<(String, Vec<u64>, BlockType)>,
}

impl GgufHeader {
    /// An empty header.
    pub fn new() -> GgufHeader {
        GgufHeader::default()
    }

    /// Sets a metadata key; an earlier value of the same key is replaced in its place. Setting
    /// `general.alignment` (a `u32`) sets the alignment of the file.
    pub fn set<'v>(&mut self, key: &str, value: impl Into<Value<'v>>) {
        let value = value.into().into_owned();
        match self.keys.get(key) {
            Some(index) => self.entries[*index].1 = value,
            None => {
                self.keys.insert(key.to_owned(), self.entries.len());
                self.entries.push((key.to_owned(), value));
            }
        }
    }

    /// Adds a tensor; `dims` as in the file, the fastest first.
    pub fn tensor(&mut self, name: &str, dims: &[u64], block: BlockType) {
        self.tensors.push((name.to_owned(), dims.to_vec(), block));
    }

    /// Checks everything and encodes it: the bytes before the data section, the alignment, and each
    /// tensor's name and size.
    fn encode(&self) -> std::result::Result<Layout, String> {
        let alignment = match self.keys.get("general.alignment").map(|i| &self.entries[*i].1) {
            None => DEFAULT_ALIGNMENT as usize,
            Some(Value::U32(v)) if v.is_power_of_two() => *v as usize,
            Some(v) => return Err(format!("the alignment {v} is no power of two of type u32")),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            if key.len() > MAX_KEY_BYTES {
                return Err(format!("a metadata key of {} bytes is too long", key.len()));
            }
            encode_string(key.as_bytes(), &mut bytes);
            bytes.extend(value.kind().id().to_le_bytes());
            value.encode(&mut bytes);
        }
        let mut names = HashSet::new();
        let mut sizes = Vec::with_capacity(self.tensors.len());
        let mut offset = 0usize;
        for (name, dims, block) in &self.tensors {
            if name.len() > MAX_NAME_BYTES {
                return Err(format!("the tensor name `{name}` is longer than {MAX_NAME_BYTES} bytes"));
            }
            if !names.insert(name) {
                return Err(format!("the tensor `{name}` is given twice"));
            }
            if dims.len() > MAX_DIMS {
                return Err(format!("the tensor `{name}` has more than {MAX_DIMS} dimensions"));
            }
            let (rows, cols) = shape(dims).map_err(|e| format!("tensor `{name}`: {e}"))?;
            let size = block.row_bytes(cols).and_then(|row| row.checked_mul(rows));
            let next = size.and_then(|size| offset.checked_add(size)?.checked_next_multiple_of(alignment));
            let (Some(size), Some(next)) = (size, next) else {
                return Err(format!("the tensor `{name}` of dimensions {dims:?} cannot be {block}"));
            };
            let Some(id) = block.ggml_id() else {
                return Err(format!(
                    "the tensor `{name}` is of type {block}, which GGUF files do not have: write F32, F16 or BF16"
                ));
            };
            encode_string(name.as_bytes(), &mut bytes);
            bytes.extend((dims.len() as u32).to_le_bytes());
            bytes.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
            bytes.extend(id.to_le_bytes());
            bytes.extend((offset as u64).to_le_bytes());
            sizes.push((name.clone(), size));
            offset = next;
        }
        bytes.resize(bytes.len().next_multiple_of(alignment), 0);
        Ok(Layout { bytes, alignment, sizes })
    }
}

struct Layout {
    bytes: Vec<u8>,
    alignment: usize,
    sizes: Vec<(String, usize)>,
}

/// Writes the tensors of a [`GgufHeader`], in its order.
pub struct GgufWriter<W: Write> {
    out: W,
    path: PathBuf,
    alignment: usize,
    sizes: Vec<(String, usize)>,
    current: usize,
    written: usize,
}

impl GgufWriter<AtomicFile> {
    /// Writes the header of the file `path`, which appears under that name with
    /// [`commit`](GgufWriter::commit) only.
    pub fn create(path: &Path, header: &GgufHeader) -> Result<Self> {
        GgufWriter::new(AtomicFile::create(path)?, path, header)
    }

    /// Checks that every tensor was written, brings the file to the disk and gives it its name.
    pub fn commit(self) -> Result<()> {
        self.finish()?.commit()
    }
}

impl<W: Write> GgufWriter<W> {
    /// Writes the header to `out`; `path` stands for it in messages.
    pub fn new(mut out: W, path: &Path, header: &GgufHeader) -> Result<Self> {
        let layout = header.encode().map_err(|e| unwritable(path, e))?;
        out.write_all(&layout.bytes).map_err(Error::io("write", path))?;
        Ok(GgufWriter {
            out,
            path: path.to_owned(),
            alignment: layout.alignment,
            sizes: layout.sizes,
            current: 0,
            written: 0,
        })
    }

    /// Appends bytes of the tensor `name`, whole or in parts. Tensors come in the header's order.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let problem = match self.sizes.get(self.current) {
            None => Some(format!("the tensor `{name}` comes after the last one")),
            Some((expected, _)) if expected != name => {
                Some(format!("the tensor `{name}` comes where `{expected}` is due"))
            }
            Some((_, size)) if bytes.len() > size - self.written => {
                Some(format!("more than the {size} bytes of the tensor `{name}` were given"))
            }
            Some(_) => None,
        };
        if let Some(problem) = problem {
            return Err(unwritable(&self.path, problem));
        }
        self.out.write_all(bytes).map_err(Error::io("write", &self.path))?;
        self.written += bytes.len();
        let size = self.sizes[self.current].1;
        if self.written == size {
            let padding = size.next_multiple_of(self.alignment) - size;
            std::io::copy(&mut std::io::repeat(0).take(padding as u64), &mut self.out)
                .map_err(Error::io("write", &self.path))?;
            self.current += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// The names and sizes in bytes of the tensors that are not complete yet, in the order in which
    /// they must come.
    pub fn remaining(&self) -> impl ExactSizeIterator<Item = (&str, usize)> {
        self.sizes[self.current..].iter().map(|(name, size)| (name.as_str(), *size))
    }

    /// Checks that every tensor was written and gives back the output, flushed.
    pub fn finish(mut self) -> Result<W> {
        if let Some((name, size)) = self.sizes.get(self.current) {
            let problem = format!("{} of the {size} bytes of `{name}` were given", self.written);
            return Err(unwritable(&self.path, problem));
        }
        self.out.flush().map_err(Error::io("write", &self.path))?;
        Ok(self.out)
    }
}

fn unwritable(path: &Path, problem: String) -> Error {
    Error::unwritable(&path.display().to_string(), problem)
}

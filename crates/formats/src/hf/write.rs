//! Writing a Hugging Face folder: safetensors, sharded where they are large, and the files beside them.
//!
//! Everything is written into a folder beside the target, which is renamed at the end. Tensors pass
//! through one by one, in any order.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use porism_kernels::BlockType;
use serde_json::json;
use tempfile::TempDir;

use super::bitsandbytes::{self, Packing};
use super::{INDEX, SINGLE};
use crate::atomic::{self, folder_of, sync_folder};
use crate::{Error, Result};

/// The size at which a new shard begins, unless the caller says otherwise: 5 GB, as for transformers.
pub const MAX_SHARD_BYTES: u64 = 5_000_000_000;

/// A tensor to be written: its name, shape (the slowest dimension first) and type, one of F32, F16, BF16, and NF4 and
/// FP4, which become bitsandbytes' tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HfTensor {
    /// The name.
    pub name: String,
    /// The dimensions.
    pub shape: Vec<usize>,
    /// The type.
    pub block: BlockType,
}

/// A tensor of the file.
struct Entry {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    element_bytes: usize,
    size: u64,
}

impl Entry {
    fn new(name: String, dtype: &'static str, shape: Vec<usize>) -> Option<Entry> {
        let element_bytes = match dtype {
            "U8" => 1,
            "F32" => 4,
            _ => 2,
        };
        let all = shape.iter().try_fold(1usize, |all, d| all.checked_mul(*d))?;
        Some(Entry { name, dtype, shape, element_bytes, size: all.checked_mul(element_bytes)? as u64 })
    }
}

/// A matrix that is taken apart when all of it is there.
struct Whole {
    block: BlockType,
    shape: (usize, usize),
    bytes: Vec<u8>,
    size: usize,
}

/// Where a tensor's bytes go.
struct Slot {
    shard: usize,
    at: u64,
    size: u64,
    written: u64,
}

/// Writes a folder that appears under its name with [`commit`](HfWriter::commit) only.
pub struct HfWriter {
    target: PathBuf,
    folder: TempDir,
    shards: Vec<(PathBuf, File)>,
    slots: HashMap<String, Slot>,
    packing: Packing,
    wholes: HashMap<String, Whole>,
}

impl HfWriter {
    /// Starts a folder with the given tensors, in shards of at most `max_shard_bytes` (one tensor may
    /// be larger). The target must not exist, or be an empty folder.
    pub fn create(target: &Path, tensors: &[HfTensor], max_shard_bytes: u64) -> Result<HfWriter> {
        HfWriter::create_packed(target, tensors, Packing::default(), max_shard_bytes)
    }

    /// [`HfWriter::create`] with a word on how NF4 and FP4 are packed. Such a matrix is held until all of it is there.
    pub fn create_packed(
        target: &Path,
        tensors: &[HfTensor],
        packing: Packing,
        max_shard_bytes: u64,
    ) -> Result<HfWriter> {
        refuse_used(target)?;
        let mut wholes = HashMap::new();
        let entries = entries(tensors, packing, &mut wholes).map_err(|e| unwritable(target, e))?;
        let shards = plan(entries, max_shard_bytes).map_err(|e| unwritable(target, e))?;
        let folder = atomic::temporary_folder()
            .tempdir_in(folder_of(target))
            .map_err(Error::io("create a folder beside", target))?;
        let mut writer =
            HfWriter { target: target.to_owned(), folder, shards: Vec::new(), slots: HashMap::new(), packing, wholes };
        for (index, tensors) in shards.iter().enumerate() {
            let name = match shards.len() {
                1 => SINGLE.to_owned(),
                count => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
            };
            writer.start_shard(index, &name, tensors)?;
        }
        if shards.len() > 1 {
            writer.write_index(&shards)?;
        }
        Ok(writer)
    }

    fn start_shard(&mut self, shard: usize, name: &str, tensors: &[Entry]) -> Result<()> {
        let mut header = serde_json::Map::new();
        // transformers refuses a file that does not say this.
        header.insert("__metadata__".into(), json!({"format": "pt"}));
        let mut sizes = Vec::with_capacity(tensors.len());
        let mut offset = 0;
        for tensor in tensors {
            let size = tensor.size;
            let entry = json!({
                "dtype": tensor.dtype,
                "shape": tensor.shape,
                "data_offsets": [offset, offset + size],
            });
            header.insert(tensor.name.clone(), entry);
            sizes.push((offset, size));
            offset += size;
        }
        let mut json = serde_json::Value::Object(header).to_string().into_bytes();
        json.resize(json.len().next_multiple_of(8), b' ');
        let path = self.folder.path().join(name);
        let mut file = File::create_new(&path).map_err(Error::io("create", &path))?;
        let head = [&(json.len() as u64).to_le_bytes()[..], &json].concat();
        file.write_all(&head).map_err(Error::io("write", &path))?;
        for (tensor, (offset, size)) in tensors.iter().zip(sizes) {
            let at = head.len() as u64 + offset;
            self.slots.insert(tensor.name.clone(), Slot { shard, at, size, written: 0 });
        }
        self.shards.push((path, file));
        Ok(())
    }

    fn write_index(&mut self, shards: &[Vec<Entry>]) -> Result<()> {
        let mut map = BTreeMap::new();
        let mut total = 0u64;
        for (index, tensors) in shards.iter().enumerate() {
            let file = self.shards[index].0.file_name().unwrap_or_default().to_string_lossy();
            for tensor in tensors {
                map.insert(&tensor.name, file.clone());
                total = total.saturating_add(tensor.size);
            }
        }
        let index = json!({"metadata": {"total_size": total}, "weight_map": map});
        let text = serde_json::to_vec_pretty(&index)
            .map_err(|e| unwritable(&self.target, format!("the index of shards: {e}")))?;
        self.write_file(INDEX, &text)
    }

    /// Appends bytes of the tensor `name`, whole or in parts.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let Some(whole) = self.wholes.get_mut(name) else { return self.append(name, bytes) };
        if bytes.len() > whole.size - whole.bytes.len() {
            let problem = format!("more than the {} bytes of `{name}` were given", whole.size);
            return Err(unwritable(&self.target, problem));
        }
        whole.bytes.extend_from_slice(bytes);
        if whole.bytes.len() < whole.size {
            return Ok(());
        }
        let Whole { block, shape, bytes, .. } = whole;
        let parts = bitsandbytes::fill(&std::mem::take(bytes), *block, *shape, self.packing);
        let names = bitsandbytes::announce(name, *block, *shape, self.packing).unwrap_or_default();
        self.wholes.remove(name);
        for ((part, ..), bytes) in names.iter().zip(parts) {
            self.append(part, &bytes)?;
        }
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let Some(slot) = self.slots.get_mut(name) else {
            return Err(unwritable(&self.target, format!("the tensor `{name}` was not announced")));
        };
        if bytes.len() as u64 > slot.size - slot.written {
            let problem = format!("more than the {} bytes of `{name}` were given", slot.size);
            return Err(unwritable(&self.target, problem));
        }
        let (path, file) = &mut self.shards[slot.shard];
        file.seek(SeekFrom::Start(slot.at + slot.written))
            .and_then(|_| file.write_all(bytes))
            .map_err(Error::io("write", path))?;
        slot.written += bytes.len() as u64;
        Ok(())
    }

    /// Writes a file of the folder (`config.json`, ...).
    pub fn write_file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.path().join(name);
        let mut file = File::create_new(&path).map_err(Error::io("create", &path))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", &path))
    }

    /// Checks that every tensor was written, brings everything to the disk and gives the folder its
    /// name.
    pub fn commit(self) -> Result<()> {
        let missing = self.slots.iter().filter(|(_, s)| s.written < s.size).map(|(n, _)| n).min();
        if let Some(name) = missing {
            let slot = &self.slots[name];
            let problem = format!("{} of the {} bytes of `{name}` were given", slot.written, slot.size);
            return Err(unwritable(&self.target, problem));
        }
        for (path, file) in self.shards {
            file.sync_all().map_err(Error::io("write", &path))?;
        }
        sync_folder(self.folder.path())?;
        refuse_used(&self.target)?;
        // Renaming replaces an empty folder and fails on one that was filled meanwhile.
        std::fs::rename(self.folder.path(), &self.target)
            .map_err(Error::io("rename the finished folder to", &self.target))?;
        // What the guard would remove now has another name.
        let _ = self.folder.keep();
        sync_folder(folder_of(&self.target))
    }
}

/// The tensors of the file, in the given order.
fn entries(
    tensors: &[HfTensor],
    packing: Packing,
    wholes: &mut HashMap<String, Whole>,
) -> std::result::Result<Vec<Entry>, String> {
    let mut entries = Vec::with_capacity(tensors.len());
    for HfTensor { name, shape, block } in tensors {
        let overflow = || format!("the size of the tensor `{name}` of {shape:?} overflows");
        match (*block, &shape[..]) {
            (BlockType::F32 | BlockType::F16 | BlockType::BF16, _) => {
                entries.push(Entry::new(name.clone(), block.name(), shape.clone()).ok_or_else(overflow)?);
            }
            (BlockType::NF4 | BlockType::FP4, &[rows, cols]) if cols.is_multiple_of(block.block_len()) => {
                let parts = bitsandbytes::announce(name, *block, (rows, cols), packing).ok_or_else(overflow)?;
                for (part, dtype, shape) in parts {
                    entries.push(Entry::new(part, dtype, shape).ok_or_else(overflow)?);
                }
                let size = block.row_bytes(cols).unwrap_or(0) * rows;
                wholes.insert(name.clone(), Whole { block: *block, shape: (rows, cols), bytes: Vec::new(), size });
            }
            (BlockType::NF4 | BlockType::FP4, _) => {
                return Err(format!(
                    "the tensor `{name}` of {shape:?} cannot be {block}: its rows are no whole blocks of 64"
                ));
            }
            _ => {
                return Err(format!(
                    "safetensors cannot hold the tensor `{name}` as {block}: choose F32, F16, BF16, NF4 or FP4"
                ));
            }
        }
    }
    Ok(entries)
}

/// Cuts the tensors into shards, in the given order, and puts larger elements first in each, so that
/// all data are aligned to their element.
fn plan(entries: Vec<Entry>, max_shard_bytes: u64) -> std::result::Result<Vec<Vec<Entry>>, String> {
    let mut shards = vec![Vec::new()];
    let mut names = std::collections::HashSet::new();
    let mut shard_bytes = 0u64;
    for entry in entries {
        let (name, size) = (&entry.name, entry.size);
        if !names.insert(name.clone()) {
            return Err(format!("the tensor `{name}` is given twice"));
        }
        if name == "__metadata__" {
            return Err("a tensor cannot be named `__metadata__`".into());
        }
        if shard_bytes > 0 && size > max_shard_bytes.saturating_sub(shard_bytes) {
            shards.push(Vec::new());
            shard_bytes = 0;
        }
        shard_bytes =
            shard_bytes.checked_add(size).ok_or_else(|| format!("the size of all tensors up to `{name}` overflows"))?;
        shards.last_mut().expect("never empty").push(entry);
    }
    for shard in &mut shards {
        shard.sort_by_key(|t| std::cmp::Reverse(t.element_bytes));
    }
    Ok(shards)
}

fn refuse_used(target: &Path) -> Result<()> {
    match std::fs::read_dir(target) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(unwritable(target, "the folder is not empty: choose another".into())),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
            Err(unwritable(target, "a file of that name exists: choose another".into()))
        }
        Err(e) => Err(Error::io("open", target)(e)),
    }
}

fn unwritable(path: &Path, problem: String) -> Error {
    Error::unwritable(&path.display().to_string(), problem)
}

//! Hugging Face folders: `config.json` and its companions, and weights as safetensors, in one file or
//! in shards. What bitsandbytes has packed into four bits is one tensor here.

mod bitsandbytes;
mod index;
mod json;
mod safetensors;
mod write;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::{Error, Result, Weight};
use bitsandbytes::Packed;
pub use bitsandbytes::{Decoded, Packing};
pub use index::parse_index;
pub use json::JsonFile;
pub use safetensors::{SafeTensors, TensorInfo};
pub use write::{HfTensor, HfWriter, MAX_SHARD_BYTES};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Configuration files are refused above this size; the largest real ones (a `tokenizer_config.json`
/// that lists many tokens) are a quarter of it.
const MAX_JSON_BYTES: u64 = 8 << 20;
/// The index of a model of 90,000 tensors takes 9 MB.
const MAX_INDEX_BYTES: u64 = 32 << 20;
/// The largest tokenizers are some 35 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// A tensor and what it lies in.
fn part_of<'a>(
    names: &HashMap<String, usize>,
    shards: &'a [SafeTensors],
    name: &str,
) -> Option<bitsandbytes::Part<'a>> {
    let shard = &shards[*names.get(name)?];
    Some((shard.tensor(name)?, shard.storage()))
}

/// An open Hugging Face folder.
pub struct HfFolder {
    path: PathBuf,
    shards: Vec<SafeTensors>,
    /// Tensor names to shards.
    names: HashMap<String, usize>,
    /// Matrices that several tensors make up.
    packed: HashMap<String, Packed>,
    /// The names of these tensors, to shards.
    parts: HashMap<String, usize>,
}

impl HfFolder {
    /// Opens a folder and maps its weights, if it has any: `model.safetensors`, or the shards that
    /// `model.safetensors.index.json` lists. Their headers are checked whole.
    ///
    /// The weights are views into the mappings: the files must not be changed or cut meanwhile.
    pub fn open(path: &Path) -> Result<HfFolder> {
        let metadata = std::fs::metadata(path).map_err(Error::io("open", path))?;
        if !metadata.is_dir() {
            return Err(Error::invalid(&path.display().to_string(), "not a folder"));
        }
        let mut folder = HfFolder {
            path: path.to_owned(),
            shards: Vec::new(),
            names: HashMap::new(),
            packed: HashMap::new(),
            parts: HashMap::new(),
        };
        if path.join(SINGLE).exists() {
            let shard = SafeTensors::open(&path.join(SINGLE))?;
            folder.names = shard.tensors().iter().map(|t| (t.name().to_owned(), 0)).collect();
            folder.shards.push(shard);
        } else if let Some(bytes) = folder.read_at_most(INDEX, MAX_INDEX_BYTES)? {
            folder.open_shards(&bytes)?;
        } else if !["config.json", "tokenizer.json"].iter().any(|file| path.join(file).exists()) {
            let problem = "no model: it holds neither config.json nor tokenizer.json nor safetensors";
            return Err(Error::invalid(&path.display().to_string(), problem));
        }
        folder.find_packed()?;
        Ok(folder)
    }

    /// Checks the matrices that several tensors make up, and puts one name in the place of theirs.
    fn find_packed(&mut self) -> Result<()> {
        let file = self.path.display().to_string();
        let mut packed = Vec::new();
        for name in self.names.keys() {
            packed.extend(Packed::find(name, |part| part_of(&self.names, &self.shards, part), &file)?);
        }
        for packed in packed {
            let name = packed.info.name().to_owned();
            for part in packed.part_names() {
                self.parts.extend(self.names.remove_entry(&part));
            }
            self.parts.extend(self.names.get_key_value(&name).map(|(name, shard)| (name.clone(), *shard)));
            if self.packed.insert(name.clone(), packed).is_some() {
                return Err(Error::invalid(&file, format!("tensor `{name}`: it has two quant_states")));
            }
        }
        Ok(())
    }

    fn open_shards(&mut self, index: &[u8]) -> Result<()> {
        let index_name = self.path.join(INDEX).display().to_string();
        let mut opened: HashMap<String, usize> = HashMap::new();
        for (name, file) in parse_index(index, &index_name)? {
            let shard = match opened.get(&file) {
                Some(shard) => *shard,
                None => {
                    self.shards.push(SafeTensors::open(&self.path.join(&file))?);
                    opened.insert(file.clone(), self.shards.len() - 1);
                    self.shards.len() - 1
                }
            };
            if self.shards[shard].tensor(&name).is_none() {
                let problem = format!("the tensor `{name}` is not in `{file}`, where it should be");
                return Err(Error::invalid(&index_name, problem));
            }
            self.names.insert(name, shard);
        }
        Ok(())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, in no particular order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// What the files say about a tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        match self.packed.get(name) {
            Some(packed) => Some(&packed.info),
            None => self.shards[*self.names.get(name)?].tensor(name),
        }
    }

    /// A tensor as a matrix: `cols` is the last dimension of its shape, `rows` the product of the
    /// others (a vector is one row). A matrix of NF4 or FP4 is put together in memory, each time anew.
    pub fn weight(&self, name: &str) -> Result<Weight> {
        if let Some(packed) = self.packed.get(name) {
            return packed.weight(|part| part_of(&self.parts, &self.shards, part));
        }
        match self.names.get(name) {
            Some(shard) => self.shards[*shard].weight(name),
            None if self.shards.is_empty() => Err(Error::invalid(
                &self.path.display().to_string(),
                format!("there are no weights: neither {SINGLE} nor {INDEX} is there{}", self.hint()),
            )),
            None => Err(Error::MissingTensor { file: self.path.display().to_string(), name: name.to_owned() }),
        }
    }

    fn hint(&self) -> &'static str {
        let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
        match pickled.iter().any(|name| self.path.join(name).exists()) {
            true => " (pytorch_model.bin is not read: convert it to safetensors)",
            false => "",
        }
    }

    /// `config.json`, which every model has.
    pub fn config(&self) -> Result<JsonFile> {
        self.json("config.json")?
            .ok_or_else(|| Error::invalid(&self.path.display().to_string(), "there is no config.json"))
    }

    /// `generation_config.json`, if it is there.
    pub fn generation_config(&self) -> Result<Option<JsonFile>> {
        self.json("generation_config.json")
    }

    /// `tokenizer_config.json`, if it is there.
    pub fn tokenizer_config(&self) -> Result<Option<JsonFile>> {
        self.json("tokenizer_config.json")
    }

    /// The bytes of `tokenizer.json`, if it is there.
    pub fn tokenizer_json(&self) -> Result<Option<Vec<u8>>> {
        self.read("tokenizer.json")
    }

    /// A JSON file of the folder, if it is there.
    pub fn json(&self, file: &str) -> Result<Option<JsonFile>> {
        let Some(bytes) = self.read_at_most(file, MAX_JSON_BYTES)? else {
            return Ok(None);
        };
        JsonFile::parse(&bytes, &self.path.join(file).display().to_string()).map(Some)
    }

    /// A file of the folder (`chat_template.jinja`, ...), if it is there.
    pub fn read(&self, file: &str) -> Result<Option<Vec<u8>>> {
        self.read_at_most(file, MAX_FILE_BYTES)
    }

    fn read_at_most(&self, file: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        json::read_at_most(&self.path.join(file), limit)
    }
}

//! Where a model comes from: a GGUF file or a Hugging Face folder, behind one face.

use std::path::Path;

use porism_formats::{Gguf, HfFolder, Weight};
use porism_text::{Tokenizer, TokenizerOptions};

use crate::arch::{gemma, moe};
use crate::names::NameTable;
use crate::site::Site;
use crate::{Error, Result};

/// An opened model.
pub enum ModelSource {
    /// A GGUF file.
    Gguf(Gguf),
    /// A folder with `config.json` and safetensors.
    Hf(HfFolder),
}

impl ModelSource {
    /// Opens a file as GGUF, a folder as Hugging Face's.
    pub fn open(path: &Path) -> Result<ModelSource> {
        if path.is_dir() {
            Ok(ModelSource::Hf(HfFolder::open(path)?))
        } else {
            Ok(ModelSource::Gguf(Gguf::open(path)?))
        }
    }

    /// The file or folder, for messages.
    pub fn name(&self) -> String {
        match self {
            ModelSource::Gguf(g) => g.name().to_string(),
            ModelSource::Hf(f) => f.path().display().to_string(),
        }
    }

    /// What the file calls its architecture.
    pub fn architecture(&self) -> Result<String> {
        match self {
            ModelSource::Gguf(g) => Ok(g.get_str("general.architecture")?.to_string()),
            ModelSource::Hf(f) => Ok(f.config()?.get_str("model_type")?.to_string()),
        }
    }

    /// The name table of the architecture.
    pub fn names(&self) -> Result<&'static NameTable> {
        let name = self.architecture()?;
        let table = match self {
            // Mixtral calls itself a llama; what makes it one is that it counts its experts.
            ModelSource::Gguf(g) if name == "llama" && g.get("llama.expert_count").is_some() => Some(&moe::MIXTRAL),
            ModelSource::Gguf(_) => NameTable::for_gguf(&name),
            ModelSource::Hf(f) => {
                let bidirectional = f.config()?.find_bool("use_bidirectional_attention")? == Some(true);
                match NameTable::for_hf(&name) {
                    Some(table) if bidirectional && table.hf_model_type == gemma::EMBEDDING_GEMMA.hf_model_type => {
                        Some(&gemma::EMBEDDING_GEMMA)
                    }
                    other => other,
                }
            }
        };
        table.ok_or_else(|| Error::UnknownArchitecture { file: self.name(), name, known: NameTable::known() })
    }

    /// What this source calls the tensor of a site; empty if the architecture has no such site.
    pub fn tensor_name(&self, names: &NameTable, site: Site, suffix: &str) -> String {
        match self {
            ModelSource::Gguf(_) => names.gguf_name(site, suffix),
            // Exports of one model differ in what stands before the names.
            ModelSource::Hf(f) => {
                let under = |prefix: &&str| names.hf_name_with(prefix, site, suffix);
                let there = |name: &String| f.tensor(name).is_some();
                names.hf_prefixes.iter().filter_map(under).find(there).or_else(|| names.hf_name(site, suffix))
            }
        }
        .unwrap_or_default()
    }

    /// The site and suffix of a tensor.
    pub fn site_of(&self, names: &NameTable, tensor: &str) -> Option<(Site, &'static str)> {
        match self {
            ModelSource::Gguf(_) => names.site_of_gguf(tensor),
            ModelSource::Hf(_) => names.site_of_hf(tensor),
        }
    }

    /// The names of all tensors.
    pub fn tensor_names(&self) -> Vec<&str> {
        match self {
            ModelSource::Gguf(g) => g.tensors().iter().map(|t| t.name()).collect(),
            ModelSource::Hf(f) => f.names().collect(),
        }
    }

    /// Whether there is a tensor of this name.
    pub fn has_tensor(&self, tensor: &str) -> bool {
        match self {
            ModelSource::Gguf(g) => g.tensor(tensor).is_some(),
            ModelSource::Hf(f) => f.tensor(tensor).is_some(),
        }
    }

    /// A tensor as a weight, or `None` if it is not there.
    pub fn find_weight(&self, tensor: &str) -> Result<Option<Weight>> {
        Ok(match self {
            ModelSource::Gguf(g) => g.tensor(tensor).map(|_| g.weight(tensor)).transpose()?,
            ModelSource::Hf(f) => f.tensor(tensor).map(|_| f.weight(tensor)).transpose()?,
        })
    }

    /// The tokenizer that comes with the model.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        self.tokenizer_with(&TokenizerOptions::default())
    }

    /// [`ModelSource::tokenizer`] with wishes, which only GGUF files leave room for.
    pub fn tokenizer_with(&self, options: &TokenizerOptions) -> Result<Tokenizer> {
        Ok(match self {
            ModelSource::Gguf(g) => Tokenizer::from_gguf_with(g, options)?,
            ModelSource::Hf(f) => Tokenizer::from_hf(f.path())?,
        })
    }
}

impl std::fmt::Debug for ModelSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ModelSource({})", self.name())
    }
}

//! Name tables: how each weight of an architecture is called in GGUF files and in Hugging Face folders, and
//! what has to be done to it on the way from one to the other.
//!
//! Loaders, the converter, adapters and quantized writers all use the one table of an architecture.

use crate::site::{BlockSite, Site};

/// How a weight differs between the two worlds. Row permutations leave blocks intact, so they work on any
/// block type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transform {
    /// The same in both.
    Same,
    /// Hugging Face pairs feature `i` of a head with `i + head_dim / 2`, GGUF's llama family `2i` with
    /// `2i + 1`: rows of each query head are reordered.
    QueryPairs,
    /// The same for key heads.
    KeyPairs,
}

/// One weight of an architecture; `{}` in a name stands for the block's number.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The place, with block 0 standing for every block.
    pub site: Site,
    /// Its tensor in a GGUF file, without the suffix `.weight`.
    pub gguf: &'static str,
    /// Its tensor in a Hugging Face folder, without the suffix `.weight`.
    pub hf: &'static str,
    /// What happens on the way.
    pub transform: Transform,
}

/// All names of an architecture.
#[derive(Debug)]
pub struct NameTable {
    /// `general.architecture` in GGUF files.
    pub gguf_architecture: &'static str,
    /// `model_type` in `config.json`.
    pub hf_model_type: &'static str,
    /// The class in `config.json`'s `architectures`.
    pub hf_class: &'static str,
    /// The weights.
    pub entries: &'static [Entry],
}

const fn block(site: BlockSite, gguf: &'static str, hf: &'static str, transform: Transform) -> Entry {
    Entry { site: Site::Block(0, site), gguf, hf, transform }
}

/// The llama family: LLaMA, SmolLM2, TinyLlama.
pub static LLAMA: NameTable = NameTable {
    gguf_architecture: "llama",
    hf_model_type: "llama",
    hf_class: "LlamaForCausalLM",
    entries: &[
        Entry { site: Site::TokenEmbedding, gguf: "token_embd", hf: "model.embed_tokens", transform: Transform::Same },
        Entry { site: Site::OutputNorm, gguf: "output_norm", hf: "model.norm", transform: Transform::Same },
        Entry { site: Site::Head, gguf: "output", hf: "lm_head", transform: Transform::Same },
        block(BlockSite::AttentionNorm, "blk.{}.attn_norm", "model.layers.{}.input_layernorm", Transform::Same),
        block(BlockSite::Query, "blk.{}.attn_q", "model.layers.{}.self_attn.q_proj", Transform::QueryPairs),
        block(BlockSite::Key, "blk.{}.attn_k", "model.layers.{}.self_attn.k_proj", Transform::KeyPairs),
        block(BlockSite::Value, "blk.{}.attn_v", "model.layers.{}.self_attn.v_proj", Transform::Same),
        block(BlockSite::AttentionOutput, "blk.{}.attn_output", "model.layers.{}.self_attn.o_proj", Transform::Same),
        block(BlockSite::FfnNorm, "blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm", Transform::Same),
        block(BlockSite::Gate, "blk.{}.ffn_gate", "model.layers.{}.mlp.gate_proj", Transform::Same),
        block(BlockSite::Up, "blk.{}.ffn_up", "model.layers.{}.mlp.up_proj", Transform::Same),
        block(BlockSite::Down, "blk.{}.ffn_down", "model.layers.{}.mlp.down_proj", Transform::Same),
    ],
};

/// Every architecture of this build.
pub static TABLES: &[&NameTable] = &[&LLAMA];

impl NameTable {
    /// The table for a GGUF architecture.
    pub fn for_gguf(architecture: &str) -> Option<&'static NameTable> {
        TABLES.iter().copied().find(|t| t.gguf_architecture == architecture)
    }

    /// The table for a Hugging Face model type.
    pub fn for_hf(model_type: &str) -> Option<&'static NameTable> {
        TABLES.iter().copied().find(|t| t.hf_model_type == model_type)
    }

    /// The architectures of this build, for messages.
    pub fn known() -> String {
        TABLES.iter().map(|t| t.gguf_architecture).collect::<Vec<_>>().join(", ")
    }

    /// The entry of a site, if the architecture has it.
    pub fn entry(&self, site: Site) -> Option<&Entry> {
        let first = match site {
            Site::Block(_, s) => Site::Block(0, s),
            other => other,
        };
        self.entries.iter().find(|e| e.site == first)
    }

    /// The GGUF tensor of a site, with the given suffix (`weight`, `bias`).
    pub fn gguf_name(&self, site: Site, suffix: &str) -> Option<String> {
        self.entry(site).map(|e| fill(e.gguf, site, suffix))
    }

    /// The Hugging Face tensor of a site, with the given suffix.
    pub fn hf_name(&self, site: Site, suffix: &str) -> Option<String> {
        self.entry(site).map(|e| fill(e.hf, site, suffix))
    }

    /// The site and suffix that a GGUF tensor name means.
    pub fn site_of_gguf(&self, name: &str) -> Option<(Site, &'static str)> {
        self.find(name, |e| e.gguf)
    }

    /// The site and suffix that a Hugging Face tensor name means.
    pub fn site_of_hf(&self, name: &str) -> Option<(Site, &'static str)> {
        self.find(name, |e| e.hf)
    }

    fn find(&self, name: &str, pattern: impl Fn(&Entry) -> &'static str) -> Option<(Site, &'static str)> {
        let (stem, suffix) = name.rsplit_once('.')?;
        let suffix = ["weight", "bias"].into_iter().find(|s| *s == suffix)?;
        self.entries.iter().find_map(|e| {
            let Some((before, after)) = pattern(e).split_once("{}") else {
                return (pattern(e) == stem).then_some((e.site, suffix));
            };
            let number = stem.strip_prefix(before)?.strip_suffix(after)?;
            let Site::Block(_, site) = e.site else { return None };
            // Only the canonical spelling: "+1" and "01" would name one block twice.
            let block: u32 = number.parse().ok().filter(|b: &u32| b.to_string() == number)?;
            Some((Site::Block(block, site), suffix))
        })
    }
}

fn fill(pattern: &str, site: Site, suffix: &str) -> String {
    let stem = match site {
        Site::Block(i, _) => pattern.replace("{}", &i.to_string()),
        _ => pattern.to_string(),
    };
    format!("{stem}.{suffix}")
}

/// For each row of GGUF's order, the row of Hugging Face's order that it holds: within a head of `head_dim`
/// rows, GGUF row `2i + j` is Hugging Face's row `i + j * head_dim / 2`.
pub fn gguf_rows_from_hf(heads: usize, head_dim: usize) -> Vec<usize> {
    let half = head_dim / 2;
    (0..heads * head_dim)
        .map(|row| {
            let (head, at) = (row / head_dim, row % head_dim);
            head * head_dim + if at < 2 * half { at / 2 + at % 2 * half } else { at }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        let site = Site::Block(17, BlockSite::Down);
        assert_eq!(LLAMA.gguf_name(site, "weight").as_deref(), Some("blk.17.ffn_down.weight"));
        assert_eq!(LLAMA.hf_name(site, "weight").as_deref(), Some("model.layers.17.mlp.down_proj.weight"));
        assert_eq!(LLAMA.site_of_gguf("blk.17.ffn_down.weight"), Some((site, "weight")));
        assert_eq!(LLAMA.site_of_hf("model.layers.17.mlp.down_proj.bias"), Some((site, "bias")));
        assert_eq!(LLAMA.site_of_hf("model.embed_tokens.weight"), Some((Site::TokenEmbedding, "weight")));
        for wrong in ["blk.+1.ffn_down.weight", "blk.01.ffn_down.weight", "blk.1.ffn_down", "blk..ffn_down.weight"] {
            assert_eq!(LLAMA.site_of_gguf(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn pairs_are_reordered_within_each_head() {
        assert_eq!(gguf_rows_from_hf(2, 4), [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}

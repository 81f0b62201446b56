//! Name tables: how each weight of an architecture is called in GGUF files and in Hugging Face folders, and
//! what has to be done to it on the way from one to the other.
//!
//! Loaders, the converter, adapters and quantized writers all use the one table of an architecture; the tables
//! themselves stand in [`crate::arch`].

use porism_kernels::rope::RopeLayout;

use crate::Result;
use crate::arch::ARCHITECTURES;
use crate::config::ModelConfig;
use crate::facts::Facts;
use crate::site::{BlockSite, Site};

/// How a weight differs between the two worlds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transform {
    /// The same in both.
    Same,
    /// Hugging Face pairs feature `i` of a head with `i + head_dim / 2`, GGUF's llama family `2i` with
    /// `2i + 1`: rows of each query head are reordered. Blocks stay whole, so this works on any block type.
    QueryPairs,
    /// The same for key heads.
    KeyPairs,
    /// Hugging Face keeps a norm's factors less one.
    LessOne,
    /// Hugging Face keeps `[in, out]` (GPT-2).
    Transposed,
    /// GGUF stacks the experts that Hugging Face keeps apart.
    Stacked,
}

/// One weight of an architecture. `{}` in a name stands for the block's number, a second one for the expert's; a
/// Hugging Face name that begins with `~` may carry one of the table's prefixes.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The place, with block 0 and expert 0 standing for all.
    pub site: Site,
    /// Its tensor in a GGUF file, without the suffix `.weight`.
    pub gguf: &'static str,
    /// Its tensor in a Hugging Face folder, without the suffix `.weight`.
    pub hf: &'static str,
    /// What happens on the way.
    pub transform: Transform,
}

impl Entry {
    pub(crate) const fn new(site: Site, gguf: &'static str, hf: &'static str) -> Entry {
        Entry { site, gguf, hf, transform: Transform::Same }
    }

    pub(crate) const fn block(site: BlockSite, gguf: &'static str, hf: &'static str) -> Entry {
        Entry::new(Site::Block(0, site), gguf, hf)
    }

    pub(crate) const fn expert(site: BlockSite, gguf: &'static str, hf: &'static str) -> Entry {
        Entry { site: Site::Expert(0, 0, site), gguf, hf, transform: Transform::Stacked }
    }

    pub(crate) const fn with(self, transform: Transform) -> Entry {
        Entry { transform, ..self }
    }
}

/// What a model of an architecture is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It continues text.
    Decoder,
    /// It turns texts into vectors.
    Encoder,
}

/// An architecture: all its names, and how its numbers are read.
#[derive(Debug)]
pub struct NameTable {
    /// `general.architecture` in GGUF files.
    pub gguf_architecture: &'static str,
    /// `model_type` in `config.json`.
    pub hf_model_type: &'static str,
    /// The class in `config.json`'s `architectures`.
    pub hf_class: &'static str,
    /// What it is for.
    pub purpose: Purpose,
    /// Which features of a head form a pair in GGUF files; in Hugging Face folders it is always halves.
    pub gguf_rope: RopeLayout,
    /// What may stand before the names of a Hugging Face folder, the usual first.
    pub hf_prefixes: &'static [&'static str],
    /// Keys of `config.json` that this architecture calls otherwise: the usual name and its own.
    pub hf_keys: &'static [(&'static str, &'static str)],
    /// The weights, in groups that architectures share.
    pub entries: &'static [&'static [Entry]],
    /// Beginnings of Hugging Face names, behind the prefix, of tensors that are no part of the model as it is run.
    pub ignored: &'static [&'static str],
    /// Reads the numbers.
    pub describe: fn(&Facts<'_>) -> Result<ModelConfig>,
}

impl NameTable {
    /// The tables that a GGUF architecture may mean: of several, an exact fit comes first.
    pub fn for_gguf(architecture: &str) -> Option<&'static NameTable> {
        ARCHITECTURES.iter().copied().find(|t| t.gguf_architecture == architecture)
    }

    /// The table for a Hugging Face model type.
    pub fn for_hf(model_type: &str) -> Option<&'static NameTable> {
        ARCHITECTURES.iter().copied().find(|t| t.hf_model_type == model_type)
    }

    /// The architectures of this build, for messages.
    pub fn known() -> String {
        let mut names: Vec<&str> = ARCHITECTURES
            .iter()
            .flat_map(|t| [t.gguf_architecture, t.hf_model_type])
            .filter(|n| !n.is_empty())
            .collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    }

    /// All entries.
    pub fn entries(&self) -> impl Iterator<Item = &'static Entry> {
        self.entries.iter().flat_map(|group| group.iter())
    }

    /// The entry of a site, if the architecture has it.
    pub fn entry(&self, site: Site) -> Option<&'static Entry> {
        let first = match site {
            Site::Block(_, s) => Site::Block(0, s),
            Site::Expert(_, _, s) => Site::Expert(0, 0, s),
            other => other,
        };
        self.entries().find(|e| e.site == first)
    }

    /// The GGUF tensor of a site, with the given suffix (`weight`, `bias`). Experts share one.
    pub fn gguf_name(&self, site: Site, suffix: &str) -> Option<String> {
        self.entry(site).filter(|e| !e.gguf.is_empty()).map(|e| fill(e.gguf, site, "", suffix))
    }

    /// The Hugging Face tensor of a site, with the given suffix and the usual prefix.
    pub fn hf_name(&self, site: Site, suffix: &str) -> Option<String> {
        self.hf_name_with(self.hf_prefixes.first().copied().unwrap_or_default(), site, suffix)
    }

    /// The Hugging Face tensor of a site under a prefix.
    pub fn hf_name_with(&self, prefix: &str, site: Site, suffix: &str) -> Option<String> {
        self.entry(site).filter(|e| !e.hf.is_empty()).map(|e| fill(e.hf, site, prefix, suffix))
    }

    /// The site and suffix that a GGUF tensor name means.
    pub fn site_of_gguf(&self, name: &str) -> Option<(Site, &'static str)> {
        self.find(name, "", |e| e.gguf)
    }

    /// The site and suffix that a Hugging Face tensor name means, under any of the prefixes.
    pub fn site_of_hf(&self, name: &str) -> Option<(Site, &'static str)> {
        self.hf_prefixes.iter().chain(&[""]).find_map(|prefix| self.find(name, prefix, |e| e.hf))
    }

    /// Whether a Hugging Face tensor is known and not needed.
    pub fn ignores_hf(&self, name: &str) -> bool {
        self.hf_prefixes
            .iter()
            .chain(&[""])
            .filter_map(|prefix| name.strip_prefix(prefix))
            .any(|name| self.ignored.iter().any(|start| name.starts_with(start)))
    }

    fn find(&self, name: &str, prefix: &str, pattern: impl Fn(&Entry) -> &'static str) -> Option<(Site, &'static str)> {
        let (stem, suffix) = name.rsplit_once('.')?;
        let suffix = ["weight", "bias"].into_iter().find(|s| *s == suffix)?;
        self.entries().find_map(|e| {
            let pattern = pattern(e);
            let (pattern, stem) = match pattern.strip_prefix('~') {
                Some(pattern) => (pattern, stem.strip_prefix(prefix)?),
                None => (pattern, stem),
            };
            let numbers = numbers(pattern, stem)?;
            let site = match (e.site, numbers.as_slice()) {
                (Site::Block(_, site), &[block]) => Site::Block(block, site),
                (Site::Expert(_, _, site), &[block]) => Site::Expert(block, 0, site),
                (Site::Expert(_, _, site), &[block, expert]) => Site::Expert(block, expert, site),
                (site, &[]) => site,
                _ => return None,
            };
            Some((site, suffix))
        })
    }
}

/// The numbers that stand for the `{}` of a pattern; `None` if the name does not fit it.
fn numbers(pattern: &str, name: &str) -> Option<Vec<u32>> {
    let mut pieces = pattern.split("{}");
    let mut rest = name.strip_prefix(pieces.next()?)?;
    let mut numbers = Vec::new();
    for piece in pieces {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        // Only the canonical spelling: "01" would name one block twice.
        numbers.push(digits.parse().ok().filter(|n: &u32| n.to_string() == digits)?);
        rest = after.strip_prefix(piece)?;
    }
    rest.is_empty().then_some(numbers)
}

fn fill(pattern: &str, site: Site, prefix: &str, suffix: &str) -> String {
    let mut stem = match pattern.strip_prefix('~') {
        Some(rest) => format!("{prefix}{rest}"),
        None => pattern.to_string(),
    };
    let numbers = match site {
        Site::Block(block, _) => vec![block],
        Site::Expert(block, expert, _) => vec![block, expert],
        _ => Vec::new(),
    };
    for number in numbers {
        stem = stem.replacen("{}", &number.to_string(), 1);
    }
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
    use crate::arch::llama::LLAMA;

    #[test]
    fn names_go_both_ways() {
        let site = Site::Block(17, BlockSite::Down);
        assert_eq!(LLAMA.gguf_name(site, "weight").as_deref(), Some("blk.17.ffn_down.weight"));
        assert_eq!(LLAMA.hf_name(site, "weight").as_deref(), Some("model.layers.17.mlp.down_proj.weight"));
        assert_eq!(LLAMA.site_of_gguf("blk.17.ffn_down.weight"), Some((site, "weight")));
        assert_eq!(LLAMA.site_of_hf("model.layers.17.mlp.down_proj.bias"), Some((site, "bias")));
        assert_eq!(LLAMA.site_of_hf("model.embed_tokens.weight"), Some((Site::TokenEmbedding, "weight")));
        assert_eq!(LLAMA.site_of_hf("layers.17.mlp.down_proj.weight"), Some((site, "weight")), "without the prefix");
        for wrong in ["blk.+1.ffn_down.weight", "blk.01.ffn_down.weight", "blk.1.ffn_down", "blk..ffn_down.weight"] {
            assert_eq!(LLAMA.site_of_gguf(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn pairs_are_reordered_within_each_head() {
        assert_eq!(gguf_rows_from_hf(2, 4), [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}

//! The model that adapters are for: what its modules are called in either kind of file, and how its rows are ordered.
//!
//! All of it comes from the architecture's one [`NameTable`]. GGUF files of the llama family reorder the rows of queries and
//! keys against Hugging Face's: B's rows and DoRA's magnitudes go along. Where a file has one tensor for several projections
//! (Phi-3's qkv, GPT-2's c_attn), they share its A and have its B in parts, one below the other. Weights that Hugging Face keeps
//! transposed (GPT-2) have the same A and B as others.

use std::collections::BTreeMap;

use crate::decoder::Decoder;
use crate::names::{NameTable, Transform, gguf_rows_from_hf};
use crate::site::{BlockSite, Site};
use crate::source::ModelSource;
use crate::{Error, Result};

use super::rows::inverse;

/// Whose names and whose order of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// GGUF files.
    Gguf,
    /// Hugging Face folders.
    HuggingFace,
}

/// A loaded decoder with the names of its weights.
pub struct Base<'a> {
    pub(super) decoder: &'a Decoder,
    pub(super) names: &'static NameTable,
    /// Where its weights came from.
    pub(super) layout: Layout,
    /// Rows and columns of what can be adapted.
    shapes: BTreeMap<Site, (usize, usize)>,
}

impl<'a> Base<'a> {
    /// The decoder that was loaded from a source.
    ///
    /// # Errors
    /// The source's architecture is unknown.
    pub fn new(source: &ModelSource, decoder: &'a Decoder) -> Result<Base<'a>> {
        let layout = match source {
            ModelSource::Gguf(_) => Layout::Gguf,
            ModelSource::Hf(_) => Layout::HuggingFace,
        };
        Ok(Base::with(source.names()?, layout, decoder))
    }

    /// A decoder with the names of an architecture, its rows in the given order.
    pub fn with(names: &'static NameTable, layout: Layout, decoder: &'a Decoder) -> Base<'a> {
        let linears = decoder.linears().filter(|l| attachable(l.site));
        let mut shapes: BTreeMap<_, _> = linears.map(|l| (l.site, (l.out_features(), l.in_features()))).collect();
        let table = &decoder.stack.embeddings.tokens;
        shapes.insert(table.site, (table.weight.cols(), table.weight.rows()));
        Base { decoder, names, layout, shapes }
    }

    /// Outputs and inputs of what can be adapted: a projection outside of mixtures, or the token embedding (the width and the
    /// vocabulary).
    pub fn shape(&self, site: Site) -> Option<(usize, usize)> {
        self.shapes.get(&site).copied()
    }

    /// The modules that hold projections outside of mixtures, by their Hugging Face paths in the order of a forward pass, each
    /// with its parts; the head is the last.
    pub fn modules(&self) -> Vec<(String, Vec<Site>)> {
        let mut modules: Vec<(String, Vec<Site>)> = Vec::new();
        for linear in self.decoder.linears().filter(|l| attachable(l.site)) {
            let Some(path) = self.file_name(Layout::HuggingFace, self.holder(linear.site)) else { continue };
            match modules.iter_mut().find(|(known, _)| *known == path) {
                Some((_, sites)) => sites.push(linear.site),
                None => modules.push((path, vec![linear.site])),
            }
        }
        modules
    }

    /// What can be adapted, for messages: names without the numbers of blocks.
    pub(super) fn expected(&self, layout: Layout) -> String {
        let mut names: Vec<String> = Vec::new();
        for &site in self.shapes.keys() {
            let first = match site {
                Site::Block(_, s) => Site::Block(0, s),
                other => other,
            };
            let Some(name) = self.file_name(layout, self.holder(first)) else { continue };
            let name = name.trim_end_matches(".weight").replacen(".0.", ".N.", 1);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        format!("{} (N below {})", names.join(", "), self.decoder.stack.blocks.len())
    }

    /// The site whose tensor holds a projection: itself, or the one that it is fused into.
    pub(super) fn holder(&self, site: Site) -> Site {
        use BlockSite::{Gate, GateUp, Key, Query, QueryKeyValue, Up, Value};
        match site {
            _ if self.names.entry(site).is_some() => site,
            Site::Block(i, Query | Key | Value) => Site::Block(i, QueryKeyValue),
            Site::Block(i, Gate | Up) => Site::Block(i, GateUp),
            other => other,
        }
    }

    /// The projections that a tensor holds, one below the other; none if this base has not got it.
    pub(super) fn parts(&self, site: Site) -> Vec<Site> {
        let parts = site.parts();
        if parts.iter().all(|p| self.shapes.contains_key(p)) { parts } else { Vec::new() }
    }

    /// What a file calls a tensor: a module's path (PEFT) or the tensor's name (GGUF).
    pub(super) fn file_name(&self, layout: Layout, site: Site) -> Option<String> {
        match layout {
            Layout::Gguf => self.names.gguf_name(site, "weight"),
            Layout::HuggingFace => self.names.hf_name(site, "weight")?.strip_suffix(".weight").map(str::to_owned),
        }
    }

    /// The site that a file means.
    pub(super) fn site(&self, layout: Layout, name: &str) -> Option<Site> {
        let found = match layout {
            Layout::Gguf => self.names.site_of_gguf(name),
            Layout::HuggingFace => self.names.site_of_hf(&format!("{name}.weight")),
        };
        found.filter(|(_, suffix)| *suffix == "weight").map(|(site, _)| site)
    }

    /// For each row of a projection in one layout the row of the other; `None` where they are the same.
    pub(super) fn order(&self, site: Site, from: Layout, to: Layout) -> Result<Option<Vec<usize>>> {
        let config = &self.decoder.stack.config;
        let heads = match self.names.entry(site).map(|e| e.transform) {
            Some(Transform::QueryPairs) => config.heads,
            Some(Transform::KeyPairs) => config.kv_heads,
            _ => return Ok(None),
        };
        if from == to {
            return Ok(None);
        }
        let turned = config.rope().map_or(0, |r| r.rotary_dim);
        if turned != config.head_dim {
            return Err(Error::Convert(format!(
                "RoPE turns {turned} of the {} features of a head, which a {} of the other format cannot say",
                config.head_dim, config.architecture,
            )));
        }
        let order = gguf_rows_from_hf(heads, config.head_dim);
        Ok(Some(if to == Layout::Gguf { order } else { inverse(&order) }))
    }
}

/// Whether adapters attach to a projection: not inside a mixture of experts.
pub(super) fn attachable(site: Site) -> bool {
    use BlockSite::{Router, SharedDown, SharedGate, SharedRouter, SharedUp};
    match site {
        Site::Expert(..) => false,
        Site::Block(_, s) => !matches!(s, Router | SharedGate | SharedUp | SharedDown | SharedRouter),
        _ => true,
    }
}

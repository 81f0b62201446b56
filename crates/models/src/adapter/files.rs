//! From a file's pairs to sites, and back.

use std::collections::{BTreeMap, HashSet};

use porism_formats::adapter::{GgufLora, LowRankPair, PeftAdapter};

use super::base::{Base, Layout};
use super::fused::fused;
use super::{Adapter, LowRank, problem, rows};
use crate::names::Transform;
use crate::site::Site;
use crate::{Error, Result};

/// What a PEFT folder says beside its pairs.
#[derive(Clone, Debug, Default)]
pub struct PeftOptions {
    /// The model that it is made for (`base_model_name_or_path`): a name or path that PEFT can load.
    pub base_model: Option<String>,
    /// Whether scales are said as `alpha / sqrt(rank)`.
    pub rslora: bool,
    /// The share of A's input that training dropped.
    pub dropout: f32,
}

impl Adapter {
    /// From a PEFT folder; `name` stands for it in messages.
    ///
    /// # Errors
    /// It adapts what the base has not, or of another shape, or holds numbers that are not finite.
    pub fn from_peft(file: &PeftAdapter, name: &str, base: &Base<'_>) -> Result<Adapter> {
        let low_ranks = sites(&file.pairs, name, file.base_model.as_deref(), Layout::HuggingFace, base)?;
        Ok(Adapter { name: name.to_owned(), base_model: file.base_model.clone(), low_ranks })
    }

    /// From a file of llama.cpp; `name` stands for it in messages.
    ///
    /// # Errors
    /// As [`Adapter::from_peft`]; it is for another architecture.
    pub fn from_gguf(file: &GgufLora, name: &str, base: &Base<'_>) -> Result<Adapter> {
        if file.architecture != base.names.gguf_architecture {
            let (its, ours) = (file.architecture.escape_debug(), base.names.gguf_architecture);
            return Err(problem(name, format!("it is an adapter for a {its}, and the model is a {ours}")));
        }
        let low_ranks = sites(&file.pairs, name, None, Layout::Gguf, base)?;
        Ok(Adapter { name: name.to_owned(), base_model: None, low_ranks })
    }

    /// As a PEFT folder. Projections that the folder's model fuses become one pair: with the A that they share, or with the sum
    /// of their ranks.
    ///
    /// # Errors
    /// The adapter is not of this base; of a fused tensor with magnitudes a part is missing.
    pub fn to_peft(&self, base: &Base<'_>, options: &PeftOptions) -> Result<PeftAdapter> {
        let transposed =
            |site: &Site| base.names.entry(base.holder(*site)).is_some_and(|e| e.transform == Transform::Transposed);
        let pairs = self.pairs(Layout::HuggingFace, base)?;
        Ok(PeftAdapter {
            base_model: options.base_model.clone().or_else(|| self.base_model.clone()),
            rslora: options.rslora,
            dropout: options.dropout,
            fan_in_fan_out: self.low_ranks.keys().any(transposed),
            target_modules: target_modules(&pairs, base),
            pairs,
            ignored: Vec::new(),
        })
    }

    /// As a file of llama.cpp.
    ///
    /// # Errors
    /// As [`Adapter::to_peft`]; the adapter has magnitudes (DoRA), or adapts a head that is the embedding table, which has no
    /// tensor in a GGUF file: merge it instead.
    pub fn to_gguf(&self, base: &Base<'_>) -> Result<GgufLora> {
        if self.is_dora() {
            return Err(self.error("its magnitudes (DoRA) cannot be said in an adapter of llama.cpp: merge it instead"));
        }
        if self.low_ranks.contains_key(&Site::Head) && base.decoder.stack.config.tied_embeddings {
            return Err(self.error(
                "it adapts a head that is the embedding table, which llama.cpp has no tensor for: merge it instead",
            ));
        }
        Ok(GgufLora {
            architecture: base.names.gguf_architecture.to_owned(),
            name: self.base_model.clone(),
            pairs: self.pairs(Layout::Gguf, base)?,
            ignored: Vec::new(),
        })
    }

    /// A file's pairs, in the order of sites.
    fn pairs(&self, to: Layout, base: &Base<'_>) -> Result<Vec<LowRankPair>> {
        let mut held: BTreeMap<Site, Vec<(Site, LowRank)>> = BTreeMap::new();
        for (&site, low_rank) in &self.low_ranks {
            let Some((out, inputs)) = base.shape(site) else {
                return Err(self.error(format!("it adapts {site}, which the model has not")));
            };
            if let Some(what) = low_rank.problem(out, inputs) {
                return Err(self.error(format!("{site}: {what}")));
            }
            let moved = reordered(low_rank.clone(), base.order(site, base.layout, to)?)?;
            held.entry(base.holder(site)).or_default().push((site, moved));
        }
        let mut pairs = Vec::with_capacity(held.len());
        for (holder, parts) in held {
            let name = base.file_name(to, holder);
            let name = name.ok_or_else(|| self.error(format!("{holder} has no name in such a file")))?;
            let LowRank { a, b, scale, magnitude } = match parts.as_slice() {
                [(site, one)] if *site == holder => one.clone(),
                _ => self.joined(holder, &parts, base)?,
            };
            pairs.push(LowRankPair { name, a, b, scale, magnitude, embedding: holder == Site::TokenEmbedding });
        }
        Ok(pairs)
    }

    /// Parts of a fused tensor as one pair.
    fn joined(&self, holder: Site, held: &[(Site, LowRank)], base: &Base<'_>) -> Result<LowRank> {
        let all = base.parts(holder);
        let find = |site: &Site| held.iter().find(|(s, _)| s == site).map(|(_, part)| part);
        let parts: Vec<_> = all.iter().map(|site| (base.shape(*site).map_or(0, |s| s.0), find(site))).collect();
        fused(&parts)?.ok_or_else(|| {
            let all = all.iter().map(Site::to_string).collect::<Vec<_>>().join(", ");
            self.error(format!(
                "{holder} is one tensor in such a file, and only some of its parts have magnitudes: adapt all of {all}, or \
                 merge it"
            ))
        })
    }
}

/// A file's pairs by site, in the layout of the base.
fn sites(
    pairs: &[LowRankPair],
    name: &str,
    made_for: Option<&str>,
    from: Layout,
    base: &Base<'_>,
) -> Result<BTreeMap<Site, LowRank>> {
    let fail = |what: String| -> Error {
        let made_for = made_for.map(|m| format!(" (it was made for {})", m.escape_debug())).unwrap_or_default();
        problem(name, format!("{what}{made_for}"))
    };
    let mut low_ranks = BTreeMap::new();
    for pair in pairs {
        let site = base.site(from, &pair.name);
        if let Some(Site::Expert(..)) = site {
            return Err(fail(format!(
                "it adapts `{}`, an expert of a mixture, which this build does not do",
                pair.name
            )));
        }
        let parts = site.map(|site| base.parts(site)).unwrap_or_default();
        if parts.is_empty() || pair.embedding != (parts[0] == Site::TokenEmbedding) {
            let expected = base.expected(from);
            return Err(fail(format!("it adapts `{}`, which the model has not; it has {expected}", pair.name)));
        }
        let shapes: Vec<(usize, usize)> = parts.iter().filter_map(|&p| base.shape(p)).collect();
        let (out, inputs) = (shapes.iter().map(|s| s.0).sum(), shapes[0].1);
        let LowRankPair { a, b, scale, magnitude, .. } = pair.clone();
        let whole = LowRank { a, b, scale, magnitude };
        if let Some(what) = whole.problem(out, inputs) {
            return Err(fail(format!("`{}`: {what}", pair.name)));
        }
        let mut first = 0;
        for (part, (out, _)) in parts.iter().copied().zip(shapes) {
            let range = first..first + out;
            first += out;
            let magnitude = whole.magnitude.as_ref().map(|m| rows::elements(m, range.clone())).transpose()?;
            let cut = LowRank { a: whole.a.clone(), b: whole.b.slice_rows(range)?, scale: whole.scale, magnitude };
            let cut = reordered(cut, base.order(part, from, base.layout)?)?;
            if low_ranks.insert(part, cut).is_some() {
                return Err(fail(format!("`{}` and another name mean the same module", pair.name)));
            }
        }
    }
    Ok(low_ranks)
}

fn reordered(low_rank: LowRank, order: Option<Vec<usize>>) -> Result<LowRank> {
    let Some(order) = order else { return Ok(low_rank) };
    let magnitude = low_rank.magnitude.as_ref().map(|m| rows::ordered_elements(m, &order)).transpose()?;
    Ok(LowRank { b: rows::ordered(&low_rank.b, &order)?, magnitude, ..low_rank })
}

/// The shortest names that mean just these modules: the last part of a path where all modules that end so are adapted.
fn target_modules(pairs: &[LowRankPair], base: &Base<'_>) -> Vec<String> {
    let modules = base.modules();
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let adapted: HashSet<&str> = pairs.iter().map(|p| p.name.as_str()).collect();
    // Inside a mixture there may be modules of the same name.
    let mixture = base.decoder.stack.config.moe.is_some();
    let mut names: Vec<String> = Vec::new();
    for pair in pairs {
        let end = last(&pair.name);
        let all = !mixture
            && modules.iter().filter(|(path, _)| last(path) == end).all(|(path, _)| adapted.contains(path.as_str()));
        let name = if all { end } else { pair.name.clone() };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

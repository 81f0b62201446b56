//! Adapters on a decoder: deltas of its projections, before the projections' own biases.

use std::collections::BTreeMap;

use porism_formats::Weight;
use porism_kernels::{Isa, Pool};

use super::base::attachable;
use super::{Adapter, DoraNorms, LowRank, problem, table};
use crate::Result;
use crate::decoder::Decoder;
use crate::linear::{AdapterId, Delta, DeltaKind, Linear};
use crate::site::Site;

/// What [`attach`] did, for [`detach`].
#[derive(Debug)]
#[must_use = "detaching needs it"]
pub struct Attached {
    /// Whose rows run with the adapters.
    pub id: AdapterId,
    /// The embedding table as it was, if an adapter of it was merged in.
    table: Option<Weight>,
}

impl Attached {
    /// Whether the embedding table was replaced by one with its adapter merged in, in f32. All rows read it, whatever their
    /// adapter.
    pub fn replaced_table(&self) -> bool {
        self.table.is_some()
    }
}

/// Attaches adapters, each with a factor on its scale; rows of a batch that name `id` run with the sum of all of them.
///
/// A pair becomes a [`DeltaKind::LowRank`]; with a magnitude m a [`DeltaKind::OutputScale`] of `m_i / |W_i + s B_i A|` follows
/// it, so that the factor acts as PEFT's `set_scale` does: on the direction, not on the length. An adapter of the token
/// embedding, which is looked up and not multiplied, is merged into a copy of the table instead.
///
/// # Errors
/// An adapter does not fit the decoder; an adapter with magnitudes stands beside another; the id is in use. The decoder is
/// then as it was.
pub fn attach(
    pool: &Pool,
    isa: Isa,
    decoder: &mut Decoder,
    adapters: &[(Adapter, f32)],
    id: AdapterId,
) -> Result<Attached> {
    check(decoder, adapters)?;
    if decoder.linears().any(|l| l.deltas.iter().any(|d| d.adapter == Some(id))) {
        return Err(problem("the model", format!("adapter {} is attached already: detach it first", id.0)));
    }
    let table = put(pool, isa, decoder, adapters, Some(id))?;
    Ok(Attached { id, table })
}

/// Attaches adapters for good: all rows run with the sum of them, whatever adapter they name. As [`attach`] else.
///
/// # Errors
/// An adapter does not fit the decoder; an adapter with magnitudes stands beside another. The decoder is then as it was.
pub fn attach_to_all(pool: &Pool, isa: Isa, decoder: &mut Decoder, adapters: &[(Adapter, f32)]) -> Result<()> {
    check(decoder, adapters)?;
    put(pool, isa, decoder, adapters, None)?;
    Ok(())
}

/// Puts checked adapters on; gives the embedding table as it was, if it was replaced.
fn put(
    pool: &Pool,
    isa: Isa,
    decoder: &mut Decoder,
    adapters: &[(Adapter, f32)],
    id: Option<AdapterId>,
) -> Result<Option<Weight>> {
    let of = |site: Site| -> Vec<(&LowRank, f32)> {
        adapters.iter().filter_map(|(adapter, factor)| Some((adapter.low_ranks.get(&site)?, *factor))).collect()
    };
    let mut kinds: BTreeMap<Site, Vec<DeltaKind>> = BTreeMap::new();
    for linear in decoder.linears().filter(|l| attachable(l.site)) {
        let pairs = of(linear.site);
        if !pairs.is_empty() {
            kinds.insert(linear.site, deltas(pool, isa, linear, &pairs)?);
        }
    }
    let embedding = of(Site::TokenEmbedding);
    let mut before = None;
    if !embedding.is_empty() {
        let tokens = &mut decoder.stack.embeddings.tokens.weight;
        let merged = table::merged(pool, isa, tokens, &embedding)?;
        before = Some(std::mem::replace(tokens, merged));
    }
    for linear in decoder.linears_mut() {
        let new = kinds.remove(&linear.site).unwrap_or_default();
        linear.deltas.splice(0..0, new.into_iter().map(|kind| Delta { adapter: id, kind }));
    }
    Ok(before)
}

/// Takes the adapters of an [`attach`] off again.
pub fn detach(decoder: &mut Decoder, attached: Attached) {
    for linear in decoder.linears_mut() {
        linear.deltas.retain(|d| d.adapter != Some(attached.id));
    }
    if let Some(table) = attached.table {
        decoder.stack.embeddings.tokens.weight = table;
    }
}

/// The deltas of one projection.
fn deltas(pool: &Pool, isa: Isa, linear: &Linear, pairs: &[(&LowRank, f32)]) -> Result<Vec<DeltaKind>> {
    let mut kinds = Vec::new();
    for (pair, factor) in pairs {
        let scale = pair.scale * factor;
        kinds.push(DeltaKind::LowRank { a: pair.a.clone(), b: pair.b.clone(), scale });
        if let Some(magnitude) = &pair.magnitude {
            let norms = DoraNorms::new(&linear.weight);
            let norms = norms.norms(pool, isa, &linear.weight, &pair.a.to_f32(), &pair.b.to_f32(), scale)?;
            let factors: Vec<f32> = magnitude.to_f32().iter().zip(norms).map(|(m, norm)| ratio(*m, norm)).collect();
            kinds.push(DeltaKind::OutputScale(Weight::from_f32(&factors, 1, factors.len())?));
        }
    }
    Ok(kinds)
}

/// `m / norm`; of a row of zeros, which has no direction, 0.
pub(super) fn ratio(magnitude: f32, norm: f32) -> f32 {
    if norm == 0.0 { 0.0 } else { magnitude / norm }
}

fn check(decoder: &Decoder, adapters: &[(Adapter, f32)]) -> Result<()> {
    let table = &decoder.stack.embeddings.tokens.weight;
    let mut shapes: BTreeMap<Site, (usize, usize)> = decoder
        .linears()
        .filter(|l| attachable(l.site))
        .map(|l| (l.site, (l.out_features(), l.in_features())))
        .collect();
    shapes.insert(Site::TokenEmbedding, (table.cols(), table.rows()));
    for (adapter, factor) in adapters {
        if !factor.is_finite() {
            return Err(adapter.error(format!("a scale of {factor} is no number")));
        }
        if adapter.is_dora() && adapters.len() > 1 {
            return Err(adapter.error(
                "it has magnitudes (DoRA), which mean the length of the whole sum, and cannot stand beside other adapters: \
                 merge it first",
            ));
        }
        for (site, pair) in &adapter.low_ranks {
            let Some(&(out, inputs)) = shapes.get(site) else {
                return Err(adapter.error(format!("it adapts {site}, which the model has not: it is of another base")));
            };
            if let Some(what) = pair.problem(out, inputs) {
                return Err(adapter.error(format!("{site}: {what}")));
            }
        }
    }
    Ok(())
}

//! Adapters that are trained: how they begin, what stands for a DoRA magnitude meanwhile, and what they are at the end.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use porism_formats::Weight;
use porism_models::adapter::{Adapter, Base, DoraNorms, LowRank};
use porism_models::tape::{DeltaPart, Parameter, Parameters, TapeExecutor};
use porism_models::{AdapterId, Decoder, Delta, DeltaKind, Linear, Site};
use porism_ops::OpContext;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::pissa::principal;
use crate::recipe::{Recipe, Variant};
use crate::{Error, Result};

/// The adapter that is trained, among those that a batch may name.
pub const TRAINED: AdapterId = AdapterId(0);

/// A fresh adapter for these projections: A uniform in `+-1 / sqrt(in)`, which is PEFT's Kaiming initialization with a slope of
/// sqrt(5), and B zero, so that the model is what it was. A DoRA magnitude is the length of its row. A PiSSA pair is not zero:
/// [`hold_back`] has to take it away.
///
/// # Errors
/// The rank is larger than a projection's smaller side.
pub fn fresh(
    context: &OpContext,
    base: &Base<'_>,
    decoder: &Decoder,
    sites: &[Site],
    recipe: &Recipe,
) -> Result<Adapter> {
    let mut random = ChaCha8Rng::seed_from_u64(recipe.seed);
    let (rank, scale) = (recipe.rank, recipe.scale() as f32);
    let linears: BTreeMap<Site, &Linear> = decoder.linears().map(|linear| (linear.site, linear)).collect();
    let mut low_ranks = BTreeMap::new();
    for site in sites {
        let (Some((out, inputs)), Some(linear)) = (base.shape(*site), linears.get(site)) else {
            return Err(Error::Recipe(format!("{site} is no projection that can be adapted")));
        };
        if rank > out.min(inputs) {
            return Err(Error::Recipe(format!(
                "rank {rank} is larger than the matrix of {site}, which is {out} x {inputs}: at most {} are of use",
                out.min(inputs)
            )));
        }
        if recipe.variant == Variant::Pissa {
            let (a, b) = principal(context, &linear.weight, rank, scale, recipe.seed)?;
            low_ranks.insert(*site, LowRank { a, b, scale, magnitude: None });
            continue;
        }
        let bound = 1.0 / (inputs as f32).sqrt();
        let a: Vec<f32> = (0..rank * inputs).map(|_| random.random_range(-bound..bound)).collect();
        let magnitude = (recipe.variant == Variant::Dora).then(|| lengths(&linear.weight)).transpose()?;
        let (a, b) = (Weight::from_f32(&a, rank, inputs)?, Weight::from_f32(&vec![0.0; out * rank], out, rank)?);
        low_ranks.insert(*site, LowRank { a, b, scale, magnitude });
    }
    Ok(Adapter { name: "the adapter".into(), base_model: None, low_ranks })
}

/// Takes away what a PiSSA adapter begins with, by a frozen pair behind the trained one on each of its projections.
pub fn hold_back(decoder: &mut Decoder, start: &Adapter) {
    for linear in decoder.linears_mut() {
        let Some(LowRank { a, b, scale, .. }) = start.low_ranks.get(&linear.site) else { continue };
        let own = linear.deltas.iter().filter(|delta| delta.adapter == Some(TRAINED)).count();
        let kind = DeltaKind::LowRank { a: a.clone(), b: b.clone(), scale: -scale };
        linear.deltas.insert(own, Delta { adapter: None, kind });
    }
}

/// A trained PiSSA adapter and what it began with as one for the unchanged base, of twice the rank:
/// `s B A - s B0 A0 = s [B, -B0] [A; A0]`.
///
/// # Errors
/// The two are of other shapes.
pub fn less_start(now: &Adapter, start: &Adapter) -> Result<Adapter> {
    let mut low_ranks = BTreeMap::new();
    for (site, pair) in &now.low_ranks {
        let Some(first) = start.low_ranks.get(site) else { continue };
        let (rank, inputs, out) = (pair.a.rows(), pair.a.cols(), pair.b.rows());
        let mut a = pair.a.to_f32();
        a.extend(first.a.to_f32());
        let (trained, began) = (pair.b.to_f32(), first.b.to_f32());
        let rows = trained.chunks_exact(rank).zip(began.chunks_exact(rank));
        let b: Vec<f32> = rows.flat_map(|(now, first)| now.iter().copied().chain(first.iter().map(|v| -v))).collect();
        let (a, b) = (Weight::from_f32(&a, 2 * rank, inputs)?, Weight::from_f32(&b, out, 2 * rank)?);
        low_ranks.insert(*site, LowRank { a, b, ..pair.clone() });
    }
    Ok(Adapter { low_ranks, ..now.clone() })
}

/// The lengths of a weight's rows, as one row.
fn lengths(weight: &Weight) -> Result<Weight> {
    let mut row = vec![0.0f32; weight.cols()];
    let mut lengths = Vec::with_capacity(weight.rows());
    for bytes in weight.bytes().chunks_exact(weight.row_bytes().max(1)) {
        porism_kernels::block::dequantize(weight.block(), bytes, &mut row);
        lengths.push(row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt() as f32);
    }
    Ok(Weight::from_f32(&lengths, 1, lengths.len())?)
}

/// The magnitudes of a DoRA adapter while it is trained.
///
/// On the tape a row's factor is `m_i / |W_i + s B_i A|`, and the length is taken as constant (Liu et al. 2024, section 4.3). So
/// before each update the factors are computed anew, and the gradient of m is that of the factor over the length.
#[derive(Debug, Default)]
pub struct Magnitudes {
    rows: Vec<Magnitude>,
}

#[derive(Debug)]
struct Magnitude {
    /// The factors' place among the parameters, and those of A and B.
    factors: usize,
    parts: [Parameter; 2],
    weight: Weight,
    norms: DoraNorms,
    scale: f32,
    values: Vec<f32>,
    lengths: Vec<f32>,
}

impl Magnitudes {
    /// Those of an adapter that is attached to a decoder; none if it has none.
    pub fn of(adapter: &Adapter, decoder: &Decoder, parameters: &Parameters) -> Magnitudes {
        let place = |wanted: Parameter| parameters.iter().position(|(name, _)| name == wanted);
        let mut rows = Vec::new();
        for linear in decoder.linears() {
            let Some(pair) = adapter.low_ranks.get(&linear.site) else { continue };
            let Some(magnitude) = &pair.magnitude else { continue };
            let own = |delta: &Delta| delta.adapter == Some(TRAINED);
            let find = |low_rank: bool| {
                linear.deltas.iter().position(|d| own(d) && matches!(d.kind, DeltaKind::LowRank { .. }) == low_rank)
            };
            let (Some(pair_at), Some(scale_at)) = (find(true), find(false)) else { continue };
            let name = |index, part| Parameter::Delta { site: linear.site, index, part };
            let Some(factors) = place(name(scale_at, DeltaPart::Row)) else { continue };
            rows.push(Magnitude {
                factors,
                parts: [name(pair_at, DeltaPart::A), name(pair_at, DeltaPart::B)],
                weight: linear.weight.clone(),
                norms: DoraNorms::new(&linear.weight),
                scale: pair.scale,
                values: magnitude.to_f32(),
                lengths: Vec::new(),
            });
        }
        Magnitudes { rows }
    }

    /// Computes lengths and factors for A and B as they stand.
    ///
    /// # Errors
    /// A product fails.
    pub fn renew(&mut self, executor: &TapeExecutor) -> Result<()> {
        let (pool, isa) = (&executor.context().pool, executor.context().isa);
        let parameters = executor.parameters();
        for row in &mut self.rows {
            let [a, b] = row.parts.map(|name| values(parameters, name));
            row.lengths = row.norms.norms(pool, isa, &row.weight, &a?, &b?, row.scale)?;
            let factor = |(m, length): (&f32, &f32)| if *length == 0.0 { 0.0 } else { m / length };
            let factors: Vec<f32> = row.values.iter().zip(&row.lengths).map(factor).collect();
            if let Some((_, var)) = parameters.iter().nth(row.factors) {
                var.set(&Tensor::from_vec(factors, var.shape(), &Device::Cpu)?)?;
            }
        }
        Ok(())
    }

    /// Turns the gradients of factors into those of magnitudes.
    pub fn gradients(&self, parts: &mut [Vec<f32>]) {
        for row in &self.rows {
            for (gradient, length) in parts[row.factors].iter_mut().zip(&row.lengths) {
                *gradient = if *length == 0.0 { 0.0 } else { *gradient / length };
            }
        }
    }

    /// The values that an optimizer updates in place of parameter `index`, if it is one of these.
    pub fn values_mut(&mut self, index: usize) -> Option<&mut Vec<f32>> {
        self.rows.iter_mut().find(|row| row.factors == index).map(|row| &mut row.values)
    }

    /// The same to look at.
    pub fn values(&self, index: usize) -> Option<&[f32]> {
        self.rows.iter().find(|row| row.factors == index).map(|row| row.values.as_slice())
    }
}

fn values(parameters: &Parameters, name: Parameter) -> Result<Vec<f32>> {
    match parameters.get(name) {
        Some(var) => Ok(var.flatten_all()?.to_vec1()?),
        None => Err(Error::Recipe(format!("{name:?} is not trained"))),
    }
}

/// The adapter as it stands after training.
///
/// # Errors
/// A parameter is missing.
pub fn trained(
    adapter: &Adapter,
    decoder: &Decoder,
    executor: &TapeExecutor,
    magnitudes: &Magnitudes,
) -> Result<Adapter> {
    let parameters = executor.parameters();
    let mut low_ranks = BTreeMap::new();
    for linear in decoder.linears() {
        let Some(pair) = adapter.low_ranks.get(&linear.site) else { continue };
        let mut now = pair.clone();
        for (index, delta) in linear.deltas.iter().enumerate().filter(|(_, delta)| delta.adapter == Some(TRAINED)) {
            let name = |part| Parameter::Delta { site: linear.site, index, part };
            match &delta.kind {
                DeltaKind::LowRank { a, b, .. } => {
                    now.a = Weight::from_f32(&values(parameters, name(DeltaPart::A))?, a.rows(), a.cols())?;
                    now.b = Weight::from_f32(&values(parameters, name(DeltaPart::B))?, b.rows(), b.cols())?;
                }
                DeltaKind::OutputScale(_) => {
                    let place = parameters.iter().position(|(known, _)| known == name(DeltaPart::Row));
                    if let Some(values) = place.and_then(|index| magnitudes.values(index)) {
                        now.magnitude = Some(Weight::from_f32(values, 1, values.len())?);
                    }
                }
                _ => {}
            }
        }
        low_ranks.insert(linear.site, now);
    }
    Ok(Adapter { low_ranks, ..adapter.clone() })
}

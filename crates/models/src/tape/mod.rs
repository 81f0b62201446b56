//! The tape executor: the steps on candle tensors, differentiable.
//!
//! Every step is an operation of `porism_ops` over the same kernels as the CPU executor's, in exact f32.
//! A weight is frozen and captured by its operation, unless [`Parameters`] names it. Coarse steps keep
//! their default bodies, so each gradient comes from a fine step. [`loss_gradients`] runs a model and its
//! backward pass block by block.

mod deltas;
mod gradients;
mod objective;
mod parameters;
mod state;

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use porism_formats::Weight;
use porism_kernels::activation::Activation;
use porism_kernels::attention::dense::Dense;
use porism_kernels::rope::RopeTable;
use porism_ops::{FrozenGated, OpContext, frozen_likelihood, likelihood_into};

use crate::batch::{Batch, Input};
use crate::linear::Linear;
use crate::moe::{Routes, Routing, choose};
use crate::observe::Probe;
use crate::parts::{AttentionSpec, Embedding, Ffn, FfnKind, Norm, NormKind, Rope};
use crate::site::{ProbeGroup, Site, SlotSite};
use crate::steps::Steps;
use crate::{Error, Result};

pub use deltas::Dropout;
pub use gradients::{BlockMemory, add_gradients, hidden, loss, loss_gradients};
pub use objective::{Distillation, Objective, TeacherLogits};
pub use parameters::{DeltaPart, Parameter, Parameters};
pub use state::TapeState;

/// A differentiable module on a branch, before the branch is added to the residual: bottleneck adapters.
pub trait TapeSlot: Send {
    /// The changed branch of x `[rows, width]`; the batch says whose the rows are.
    fn apply(&mut self, context: &OpContext, x: &Tensor, batch: &Batch) -> Result<Tensor>;
}

/// The tape executor.
pub struct TapeExecutor {
    context: OpContext,
    parameters: Parameters,
    rope: Vec<CachedRope>,
    probe: Option<Box<dyn Probe>>,
    slots: HashMap<SlotSite, Box<dyn TapeSlot>>,
    dropout: Option<Dropout>,
    /// Whether gradients of whole weights are added up beside the tape: while [`loss_gradients`] or [`add_gradients`] runs.
    summing: bool,
}

/// Sines and cosines of the last batch, which all layers share.
struct CachedRope {
    frequencies: Arc<[f32]>,
    positions: Vec<u32>,
    table: Arc<RopeTable>,
}

impl TapeExecutor {
    /// An executor that trains the given parameters; with none of them it only computes.
    pub fn new(context: OpContext, parameters: Parameters) -> TapeExecutor {
        TapeExecutor {
            context,
            parameters,
            rope: Vec::new(),
            probe: None,
            slots: HashMap::new(),
            dropout: None,
            summing: false,
        }
    }

    /// What the operations run on.
    pub fn context(&self) -> &OpContext {
        &self.context
    }

    /// What is trained.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Hangs in an observer of projection inputs; returns the one before.
    pub fn set_probe(&mut self, probe: Option<Box<dyn Probe>>) -> Option<Box<dyn Probe>> {
        std::mem::replace(&mut self.probe, probe)
    }

    /// Inserts a module; returns the one before.
    pub fn set_slot(&mut self, site: SlotSite, module: Option<Box<dyn TapeSlot>>) -> Option<Box<dyn TapeSlot>> {
        match module {
            Some(module) => self.slots.insert(site, module),
            None => self.slots.remove(&site),
        }
    }

    /// Drops inputs of trained low-rank pairs from now on, or no more.
    pub fn set_dropout(&mut self, dropout: Option<Dropout>) {
        self.dropout = dropout.filter(|dropout| dropout.share > 0.0);
    }

    fn trained(&self, site: Site) -> Option<&Tensor> {
        self.parameters.get(Parameter::Weight(site)).map(|var| var.as_tensor())
    }

    /// The weights of a gated feed-forward branch that is frozen as a whole and that no observer looks into.
    fn frozen_gated(&self, ffn: &Ffn) -> Option<FrozenGated> {
        let FfnKind::Gated(f) = &ffn.kind else { return None };
        let frozen = |linear: &&Linear| linear.deltas.is_empty() && self.trained(linear.site).is_none();
        let norm = match ffn.residual.before() {
            Some(norm) if norm.kind == NormKind::Rms && norm.offset == 0.0 && self.trained(norm.site).is_none() => {
                Some((norm.weight.clone(), norm.eps))
            }
            Some(_) => return None,
            None => None,
        };
        if self.probe.is_some() || ![&f.gate, &f.up, &f.down].iter().all(frozen) {
            return None;
        }
        let [gate, up, down] = [&f.gate, &f.up, &f.down].map(|linear| linear.weight.clone());
        Some(FrozenGated { norm, gate, up, down, activation: f.activation })
    }

    /// The likelihood of targets, `sum_r share_r log p(target_r)`, behind a head that is a projection and nothing else.
    fn head_likelihood(&self, linear: &Linear, x: &Tensor, targets: &[u32], shares: &[f32]) -> Result<Tensor> {
        let context = &self.context;
        let value = match self.parameters.with_sum(Parameter::Weight(linear.site)) {
            Some((w, sum)) if self.summing => likelihood_into(context, x, w, sum, targets, shares),
            Some((w, sum)) => likelihood_into(context, x, &w.detach(), sum, targets, shares),
            None => frozen_likelihood(context, x, &linear.weight, targets, shares),
        };
        Ok(value?)
    }

    /// `x W^T` without deltas.
    fn base(&self, linear: &Linear, x: &Tensor) -> Result<Tensor> {
        Ok(match self.parameters.with_sum(Parameter::Weight(linear.site)) {
            Some((w, sum)) if self.summing => porism_ops::linear_into(&self.context, x, w, sum)?,
            Some((w, _)) => porism_ops::linear(&self.context, x, w)?,
            None => porism_ops::frozen_linear(&self.context, x, &linear.weight)?,
        })
    }
}

impl std::fmt::Debug for TapeExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TapeExecutor({:?}, {} parameters)", self.context.pool, self.parameters.len())
    }
}

/// A weight of one row as a constant tensor `[1, len]`.
fn row(weight: &Weight) -> Result<Tensor> {
    Ok(Tensor::from_vec(weight.to_f32(), (1, weight.len()), &Device::Cpu)?)
}

/// Refuses targets that do not fit n rows of a vocabulary.
fn check_targets(x: &Tensor, targets: &[u32]) -> Result<()> {
    let (rows, vocab) = x.dims2()?;
    if targets.len() != rows {
        return Err(Error::Batch(format!("{} targets for {rows} rows", targets.len())));
    }
    check_vocabulary(targets, vocab)
}

/// Refuses tokens beyond a vocabulary.
fn check_vocabulary(targets: &[u32], vocab: usize) -> Result<()> {
    match targets.iter().find(|&&t| t as usize >= vocab) {
        Some(&id) => Err(Error::TokenRange { id, vocab }),
        None => Ok(()),
    }
}

impl Steps for TapeExecutor {
    type Rows = Tensor;
    type State = TapeState;

    fn shape(&self, x: &Tensor) -> (usize, usize) {
        // Every tensor of this executor has two dimensions.
        let dims = x.dims();
        (dims.first().copied().unwrap_or(0), dims.get(1).copied().unwrap_or(0))
    }

    fn to_vec(&self, x: &Tensor) -> Result<Vec<f32>> {
        Ok(x.flatten_all()?.to_vec1()?)
    }

    fn embed(&mut self, table: &Embedding, input: &Input) -> Result<Tensor> {
        let (vocab, width) = (table.weight.rows(), table.weight.cols());
        match input {
            Input::Ids(ids) => {
                if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab) {
                    return Err(Error::TokenRange { id, vocab });
                }
                let rows = match self.parameters.with_sum(Parameter::Weight(table.site)) {
                    Some((w, sum)) if self.summing => porism_ops::select_rows_into(&self.context, w, ids, sum)?,
                    Some((w, _)) => porism_ops::select_rows(&self.context, w, ids)?,
                    None => porism_ops::embed_frozen(&self.context, &table.weight, ids)?,
                };
                Ok(if table.scale == 1.0 { rows } else { rows.affine(f64::from(table.scale), 0.0)? })
            }
            Input::Rows { values, width: given } => {
                if *given != width || !values.len().is_multiple_of(width) {
                    return Err(Error::Batch(format!("rows of {given} numbers for a model of width {width}")));
                }
                Ok(Tensor::from_slice(values, (values.len() / width, width), &Device::Cpu)?)
            }
        }
    }

    fn norm(&mut self, norm: &Norm, x: &Tensor) -> Result<Tensor> {
        let (tokens, width) = x.dims2()?;
        let run = norm.weight.len();
        if run == 0 || !width.is_multiple_of(run) {
            return Err(Error::Batch(format!("{} has {run} factors for {width} features", norm.site)));
        }
        // A head's norm sees each head as a row.
        let x = if run == width { x.clone() } else { x.reshape((tokens * width / run, run))? };
        let y = match norm.kind {
            NormKind::Rms => match self.trained(norm.site) {
                None if norm.offset == 0.0 => porism_ops::rms_norm_frozen(&self.context, &x, &norm.weight, norm.eps)?,
                weight => {
                    let weight = weight.cloned().map_or_else(|| row(&norm.weight), Ok)?;
                    let weight = weight.affine(1.0, f64::from(norm.offset))?;
                    porism_ops::rms_norm(&self.context, &x, &weight, norm.eps)?
                }
            },
            NormKind::Layer => {
                let weight = self.trained(norm.site).cloned().map_or_else(|| row(&norm.weight), Ok)?;
                let bias = match (self.parameters.get(Parameter::NormBias(norm.site)), &norm.bias) {
                    (Some(trained), _) => trained.as_tensor().clone(),
                    (None, Some(frozen)) => row(frozen)?,
                    (None, None) => Tensor::zeros((1, run), DType::F32, &Device::Cpu)?,
                };
                porism_ops::layer_norm(&self.context, &x, &weight, &bias, norm.eps)?
            }
        };
        Ok(if run == width { y } else { y.reshape((tokens, width))? })
    }

    fn linear(&mut self, linear: &Linear, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        if self.trained(linear.site).is_none()
            && let Some(y) = deltas::low_rank(&self.context, &self.parameters, self.dropout, linear, x, batch)?
        {
            return Ok(y);
        }
        let x = deltas::scale_input(&self.context, &self.parameters, linear, x, batch)?;
        let y = self.base(linear, &x)?;
        deltas::apply(&self.context, &self.parameters, self.dropout, linear, &x, y, batch)
    }

    fn rope(&mut self, rope: &Rope, x: Tensor, head_dim: usize, batch: &Batch) -> Result<Tensor> {
        let fits =
            |c: &CachedRope| Arc::ptr_eq(&c.frequencies, &rope.inverse_frequencies) && c.positions == batch.positions;
        let table = match self.rope.iter().find(|c| fits(c)) {
            Some(cached) => cached.table.clone(),
            None => {
                let table =
                    Arc::new(RopeTable::new(&batch.positions, &rope.inverse_frequencies, rope.attention_factor));
                self.rope.retain(|c| !Arc::ptr_eq(&c.frequencies, &rope.inverse_frequencies));
                self.rope.push(CachedRope {
                    frequencies: rope.inverse_frequencies.clone(),
                    positions: batch.positions.clone(),
                    table: table.clone(),
                });
                table
            }
        };
        Ok(porism_ops::rope(&self.context, &x, rope.layout, &table, head_dim)?)
    }

    fn attend(
        &mut self,
        spec: &AttentionSpec,
        layer: usize,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        batch: &Batch,
        states: &mut [TapeState],
    ) -> Result<Tensor> {
        let (k, v, spans) = state::append(spec.mask, layer, k, v, batch, states)?;
        let dense = Dense {
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            scale: spec.scale,
            softcap: spec.softcap,
            bias: spec.bias.clone(),
        };
        Ok(porism_ops::attention(&self.context, &dense, &spans, &q, &k, &v)?)
    }

    fn add(&mut self, a: Tensor, b: Tensor) -> Result<Tensor> {
        Ok(porism_ops::add_scaled(&self.context, &a, 1.0, &b)?)
    }

    /// In one operation where nothing of the branch is trained, changed or watched.
    fn mlp(&mut self, layer: usize, ffn: &Ffn, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        if let Some(weights) = self.frozen_gated(ffn) {
            return Ok(porism_ops::frozen_gated(&self.context, x, weights)?);
        }
        self.mlp_in_fine_steps(layer, ffn, x, batch)
    }

    fn act_mul(&mut self, activation: Activation, gate: Tensor, up: Tensor) -> Result<Tensor> {
        Ok(porism_ops::act_mul(&self.context, activation, &gate, &up)?)
    }

    fn act(&mut self, activation: Activation, x: Tensor) -> Result<Tensor> {
        Ok(porism_ops::act(&self.context, activation, &x)?)
    }

    fn softcap(&mut self, cap: f32, x: Tensor) -> Result<Tensor> {
        Ok(porism_ops::softcap(&self.context, cap, &x)?)
    }

    // The routing's numbers are few, a row for each token: candle's own operations do, all of which have gradients.
    fn route(&mut self, _layer: usize, routing: &Routing, logits: Tensor) -> Result<Routes<Tensor>> {
        let log_probs = porism_ops::log_softmax(&self.context, &logits)?;
        let chosen: Vec<u32> =
            log_probs.to_vec2::<f32>()?.iter().flat_map(|row| choose(row, routing.used).collect::<Vec<_>>()).collect();
        let index = Tensor::from_slice(&chosen, (log_probs.dim(0)?, routing.used), &Device::Cpu)?;
        let mut weights = log_probs.gather(&index, 1)?.exp()?;
        if routing.normalize {
            weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
        }
        Ok(Routes { chosen, weights })
    }

    fn weighted_sum(&mut self, parts: Vec<Tensor>, from: &[u32], weights: &Tensor) -> Result<Tensor> {
        let (tokens, used) = weights.dims2()?;
        let rows = porism_ops::select_rows(&self.context, &Tensor::cat(&parts, 0)?, from)?;
        let width = rows.dim(1)?;
        let scaled = rows.broadcast_mul(&weights.reshape((tokens * used, 1))?)?;
        Ok(scaled.reshape((tokens, used, width))?.sum(1)?)
    }

    fn mean_of_spans(&mut self, x: &Tensor, batch: &Batch) -> Result<Tensor> {
        let mean = |span: &crate::batch::Span| x.narrow(0, span.rows.start, span.rows.len())?.mean_keepdim(0);
        Ok(Tensor::cat(&batch.spans.iter().map(mean).collect::<candle_core::Result<Vec<_>>>()?, 0)?)
    }

    fn unit_rows(&mut self, x: Tensor) -> Result<Tensor> {
        let length = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12)?;
        Ok(x.broadcast_div(&length)?)
    }

    fn select_rows(&mut self, x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        let (tokens, _) = x.dims2()?;
        if let Some(row) = rows.iter().find(|&&row| row >= tokens) {
            return Err(Error::Batch(format!("row {row} of {tokens}")));
        }
        if rows.len() == tokens && rows.iter().enumerate().all(|(i, &row)| i == row) {
            return Ok(x.clone());
        }
        let ids: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        Ok(porism_ops::select_rows(&self.context, x, &ids)?)
    }

    fn log_softmax(&mut self, x: Tensor) -> Result<Tensor> {
        Ok(porism_ops::log_softmax(&self.context, &x)?)
    }

    fn gather(&mut self, x: &Tensor, columns: &[u32]) -> Result<Tensor> {
        check_targets(x, columns)?;
        Ok(porism_ops::gather(x, columns)?)
    }

    fn cross_entropy(&mut self, logits: Tensor, targets: &[u32], weights: &[f32]) -> Result<Tensor> {
        check_targets(&logits, targets)?;
        Ok(porism_ops::cross_entropy(&self.context, &logits, targets, weights)?)
    }

    fn kl(&mut self, logits: Tensor, teacher_log_probs: &[f32]) -> Result<Tensor> {
        Ok(porism_ops::kl(&self.context, &logits, teacher_log_probs)?)
    }

    fn slot(&mut self, site: SlotSite, x: Tensor, batch: &Batch) -> Result<Tensor> {
        match self.slots.get_mut(&site) {
            Some(module) => module.apply(&self.context, &x, batch),
            None => Ok(x),
        }
    }

    fn probe(&mut self, group: ProbeGroup, x: &Tensor) -> Result<()> {
        let Some(probe) = &mut self.probe else { return Ok(()) };
        let (_, width) = x.dims2()?;
        probe.see(group, &x.flatten_all()?.to_vec1::<f32>()?, width)
    }
}

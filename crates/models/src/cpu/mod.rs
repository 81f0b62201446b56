//! The CPU executor: the steps through our kernels, on recycled buffers, with coarse steps fused.
//!
//! Two modes ([`Activations`]): exact f32, and int8, where the input of every projection with a block
//! format is quantized once and shared by the projections that read it. Everything else is f32 in both.

mod deltas;
mod head;
mod kv;
mod rows;
mod state;

use std::collections::HashMap;
use std::sync::Arc;

use porism_formats::Weight;
use porism_kernels::activation::{self, Activation};
use porism_kernels::attention::paged::{PagedShape, paged_forward};
use porism_kernels::linear::{self, MatrixRef, Product, QUANT_BLOCK, QuantizedRows};
use porism_kernels::rope::{self, RopeTable, Rotation};
use porism_kernels::{Isa, Pool, add, embedding, layer_norm, loss, norm, softcap, softmax};

use crate::batch::{Batch, Input};
use crate::linear::Linear;
use crate::moe::{Routes, Routing, choose};
use crate::observe::{Probe, Slot};
use crate::parts::{Attention, AttentionSpec, Embedding, Ffn, FfnKind, Head, Norm, NormKind, Rope};
use crate::site::{ProbeGroup, Site, SlotSite};
use crate::steps::{HeadOutput, HeadRequest, Steps};
use crate::{Error, Result};

pub use kv::KvType;
pub use rows::Rows;
use rows::Shelf;
pub use state::CpuState;

/// What the inputs of block-format projections are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activations {
    /// Nothing: weights are decoded and multiplied in f32.
    F32,
    /// int8 in blocks of 32: several times faster, see the README for what it costs.
    Int8,
}

impl Activations {
    /// The name used in flags and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Activations::F32 => "f32",
            Activations::Int8 => "int8",
        }
    }
}

/// The CPU executor.
pub struct CpuExecutor {
    pool: Arc<Pool>,
    isa: Isa,
    activations: Activations,
    shelf: Shelf,
    quantized: QuantizedRows,
    rope: Vec<CachedRope>,
    norms: HashMap<usize, Arc<[f32]>>,
    expert_load: Vec<Vec<u64>>,
    probe: Option<Box<dyn Probe>>,
    slots: HashMap<SlotSite, Box<dyn Slot>>,
}

/// Sines and cosines of the last batch, which all layers share.
struct CachedRope {
    frequencies: Arc<[f32]>,
    positions: Vec<u32>,
    table: RopeTable,
}

fn matrix(weight: &Weight) -> MatrixRef<'_> {
    MatrixRef { bytes: weight.bytes(), block: weight.block(), rows: weight.rows(), cols: weight.cols() }
}

impl CpuExecutor {
    /// An executor on the given threads.
    pub fn new(pool: Arc<Pool>, isa: Isa, activations: Activations) -> CpuExecutor {
        CpuExecutor {
            pool,
            isa,
            activations,
            shelf: Shelf::default(),
            quantized: QuantizedRows::default(),
            rope: Vec::new(),
            norms: HashMap::new(),
            expert_load: Vec::new(),
            probe: None,
            slots: HashMap::new(),
        }
    }

    /// The mode.
    pub fn activations(&self) -> Activations {
        self.activations
    }

    /// The instructions.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The threads.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// How often each expert was chosen since the executor was made: by layer, then by expert. A layer without a
    /// mixture has an empty list.
    pub fn expert_load(&self) -> &[Vec<u64>] {
        &self.expert_load
    }

    /// Hangs in an observer of projection inputs; returns the one before.
    pub fn set_probe(&mut self, probe: Option<Box<dyn Probe>>) -> Option<Box<dyn Probe>> {
        std::mem::replace(&mut self.probe, probe)
    }

    /// Inserts a module; returns the one before.
    pub fn set_slot(&mut self, site: SlotSite, module: Option<Box<dyn Slot>>) -> Option<Box<dyn Slot>> {
        match module {
            Some(module) => self.slots.insert(site, module),
            None => self.slots.remove(&site),
        }
    }

    /// Several projections of the same input: it is quantized once, and all share one job.
    fn linear_many<const N: usize>(&mut self, linears: [&Linear; N], x: &Rows, batch: &Batch) -> Result<[Rows; N]> {
        for l in linears {
            if l.in_features() != x.width() {
                return Err(Error::Batch(format!("{} takes {} features, got {}", l.site, l.in_features(), x.width())));
            }
        }
        if linears.iter().any(|l| deltas::scales_input(l)) {
            // Such a projection has an input of its own.
            let mut outs = Vec::with_capacity(N);
            for l in linears {
                let mut scaled = self.shelf.rows(x.tokens(), x.width());
                scaled.data_mut().copy_from_slice(x.data());
                deltas::scale_input(l, scaled.data_mut(), batch)?;
                let [mut out] = self.base_many([l], &scaled);
                self.apply_deltas(l, &scaled, &mut out, batch)?;
                outs.push(out);
            }
            return outs.try_into().map_err(|_| Error::Batch("one result a projection".into()));
        }
        let mut outs = self.base_many(linears, x);
        for (l, out) in linears.iter().zip(&mut outs) {
            self.apply_deltas(l, x, out, batch)?;
        }
        Ok(outs)
    }

    fn base_many<const N: usize>(&mut self, linears: [&Linear; N], x: &Rows) -> [Rows; N] {
        let mut outs = linears.map(|l| self.shelf.rows(x.tokens(), l.out_features()));
        let (mut quantized, mut exact) = (Vec::with_capacity(N), Vec::new());
        for (l, out) in linears.iter().zip(&mut outs) {
            let product = Product { weight: matrix(&l.weight), out: out.data_mut() };
            if self.rounds(l, x.width()) { quantized.push(product) } else { exact.push(product) }
        }
        if !quantized.is_empty() {
            self.quantized.quantize(&self.pool, self.isa, x.data(), x.width());
            linear::forward_int8_many(&self.pool, self.isa, &self.quantized, &mut quantized);
        }
        if !exact.is_empty() {
            linear::forward_f32_many(&self.pool, self.isa, x.data(), &mut exact);
        }
        outs
    }

    /// Whether the projection's input of this width is rounded to int8.
    fn rounds(&self, linear: &Linear, width: usize) -> bool {
        self.activations == Activations::Int8
            && linear::takes_int8(linear.weight.block())
            && width.is_multiple_of(QUANT_BLOCK)
    }

    fn apply_deltas(&self, linear: &Linear, x: &Rows, out: &mut Rows, batch: &Batch) -> Result<()> {
        if linear.deltas.is_empty() {
            return Ok(());
        }
        deltas::apply(&self.pool, self.isa, linear, x, out, batch, &self.shelf)
    }

    /// A norm's factors as f32, `offset` added; files keep them so, but any type is allowed.
    fn norm_weight(&mut self, weight: &Weight, offset: f32) -> Arc<[f32]> {
        let key = weight.bytes().as_ptr() as usize;
        let make = || weight.to_f32().iter().map(|w| w + offset).collect();
        self.norms.entry(key).or_insert_with(make).clone()
    }

    fn rotate(&mut self, rope: &Rope, x: &mut Rows, head_dim: usize, batch: &Batch) {
        let known = self.rope.iter().position(|c| Arc::ptr_eq(&c.frequencies, &rope.inverse_frequencies));
        let at = known.unwrap_or_else(|| {
            self.rope.push(CachedRope {
                frequencies: rope.inverse_frequencies.clone(),
                positions: Vec::new(),
                table: RopeTable::default(),
            });
            self.rope.len() - 1
        });
        let cached = &mut self.rope[at];
        if cached.positions != batch.positions {
            cached.positions.clone_from(&batch.positions);
            cached.table.fill(&batch.positions, &rope.inverse_frequencies, rope.attention_factor);
        }
        rope::rotate(&self.pool, self.isa, rope.layout, Rotation::Forward, &cached.table, head_dim, x.data_mut());
    }
}

impl std::fmt::Debug for CpuExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CpuExecutor({:?}, {}, {})", self.pool, self.isa.name(), self.activations.name())
    }
}

impl Steps for CpuExecutor {
    type Rows = Rows;
    type State = CpuState;

    fn shape(&self, x: &Rows) -> (usize, usize) {
        (x.tokens(), x.width())
    }

    fn to_vec(&self, x: &Rows) -> Result<Vec<f32>> {
        Ok(x.data().to_vec())
    }

    fn embed(&mut self, table: &Embedding, input: &Input) -> Result<Rows> {
        let (vocab, width) = (table.weight.rows(), table.weight.cols());
        let mut out = self.shelf.rows(input.len(), width);
        match input {
            Input::Ids(ids) => {
                if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab) {
                    return Err(Error::TokenRange { id, vocab });
                }
                embedding::gather(&self.pool, matrix(&table.weight), ids, out.data_mut());
                if table.scale != 1.0 {
                    out.data_mut().iter_mut().for_each(|x| *x *= table.scale);
                }
            }
            Input::Rows { values, width: given } => {
                if *given != width || values.len() != out.data().len() {
                    return Err(Error::Batch(format!("rows of {given} numbers for a model of width {width}")));
                }
                out.data_mut().copy_from_slice(values);
            }
        }
        Ok(out)
    }

    fn norm(&mut self, norm: &Norm, x: &Rows) -> Result<Rows> {
        let weight = self.norm_weight(&norm.weight, norm.offset);
        if !x.width().is_multiple_of(weight.len().max(1)) {
            return Err(Error::Batch(format!("{} has {} factors, got {x:?}", norm.site, weight.len())));
        }
        let mut out = self.shelf.rows(x.tokens(), x.width());
        match (norm.kind, &norm.bias) {
            (NormKind::Rms, _) => {
                norm::rms_norm(&self.pool, self.isa, x.data(), &weight, norm.eps, out.data_mut());
            }
            (NormKind::Layer, bias) => {
                let bias = match bias {
                    Some(bias) => self.norm_weight(bias, 0.0),
                    None => Arc::from(vec![0.0; weight.len()]),
                };
                layer_norm::layer_norm(&self.pool, self.isa, x.data(), &weight, &bias, norm.eps, out.data_mut());
            }
        }
        Ok(out)
    }

    fn linear(&mut self, linear: &Linear, x: &Rows, batch: &Batch) -> Result<Rows> {
        if linear.site == Site::Head && linear.deltas.is_empty() && self.rounds(linear, x.width()) {
            return self.two_digit_product(linear, x);
        }
        let [out] = self.linear_many([linear], x, batch)?;
        Ok(out)
    }

    fn rope(&mut self, rope: &Rope, mut x: Rows, head_dim: usize, batch: &Batch) -> Result<Rows> {
        self.rotate(rope, &mut x, head_dim, batch);
        Ok(x)
    }

    fn attend(
        &mut self,
        spec: &AttentionSpec,
        layer: usize,
        q: Rows,
        k: Rows,
        v: Rows,
        batch: &Batch,
        states: &mut [CpuState],
    ) -> Result<Rows> {
        let mut seen = vec![false; states.len()];
        for span in &batch.spans {
            // A second span of one sequence would change what the first one sees.
            if std::mem::replace(&mut seen[span.sequence], true) {
                return Err(Error::Batch(format!("sequence {} has two spans", span.sequence)));
            }
            let part = |x: &Rows| span.rows.start * x.width()..span.rows.end * x.width();
            states[span.sequence].append(
                &self.pool,
                self.isa,
                layer,
                &k.data()[part(&k)],
                &v.data()[part(&v)],
                &batch.positions[span.rows.clone()],
            )?;
        }
        let spans: Vec<_> = batch
            .spans
            .iter()
            .map(|s| states[s.sequence].span(layer, spec.mask, s.rows.clone(), s.tree.as_deref()))
            .collect();
        let shape = PagedShape {
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            scale: spec.scale,
            softcap: spec.softcap,
            bias: spec.bias.as_deref(),
        };
        let mut out = self.shelf.rows(q.tokens(), q.width());
        paged_forward(&self.pool, self.isa, &shape, &spans, q.data(), out.data_mut());
        Ok(out)
    }

    fn add(&mut self, mut a: Rows, b: Rows) -> Result<Rows> {
        if self.shape(&a) != self.shape(&b) {
            return Err(Error::Batch(format!("{a:?} and {b:?} cannot be added")));
        }
        add::add_to(&self.pool, self.isa, a.data_mut(), b.data());
        Ok(a)
    }

    fn act_mul(&mut self, activation: Activation, gate: Rows, up: Rows) -> Result<Rows> {
        let mut out = self.shelf.rows(gate.tokens(), gate.width());
        activation::act_mul(&self.pool, self.isa, activation, gate.data(), up.data(), out.data_mut());
        Ok(out)
    }

    fn act(&mut self, activation: Activation, x: Rows) -> Result<Rows> {
        let mut out = self.shelf.rows(x.tokens(), x.width());
        activation::act(&self.pool, self.isa, activation, x.data(), out.data_mut());
        Ok(out)
    }

    fn softcap(&mut self, cap: f32, mut x: Rows) -> Result<Rows> {
        softcap::softcap(&self.pool, self.isa, cap, x.data_mut());
        Ok(x)
    }

    fn route(&mut self, layer: usize, routing: &Routing, logits: Rows) -> Result<Routes<Rows>> {
        let log_probs = self.log_softmax(logits)?;
        let mut weights = self.shelf.rows(log_probs.tokens(), routing.used);
        let mut chosen = Vec::with_capacity(log_probs.tokens() * routing.used);
        for (i, weights) in weights.data_mut().chunks_exact_mut(routing.used).enumerate() {
            for (weight, expert) in weights.iter_mut().zip(choose(log_probs.row(i), routing.used)) {
                *weight = log_probs.row(i)[expert as usize].exp();
                chosen.push(expert);
            }
            if routing.normalize {
                let total: f32 = weights.iter().sum();
                weights.iter_mut().for_each(|w| *w /= total);
            }
        }
        if self.expert_load.len() <= layer {
            self.expert_load.resize(layer + 1, Vec::new());
        }
        let load = &mut self.expert_load[layer];
        load.resize(routing.experts, 0);
        chosen.iter().for_each(|&expert| load[expert as usize] += 1);
        Ok(Routes { chosen, weights })
    }

    fn weighted_sum(&mut self, parts: Vec<Rows>, from: &[u32], weights: &Rows) -> Result<Rows> {
        let width = parts.first().map_or(0, Rows::width);
        let rows: Vec<&[f32]> = parts.iter().flat_map(|p| p.data().chunks_exact(width)).collect();
        let mut out = self.shelf.rows(weights.tokens(), width);
        let row_parts = weights.data().chunks_exact(weights.width()).zip(from.chunks_exact(weights.width()));
        for (out, (weights, from)) in out.data_mut().chunks_exact_mut(width).zip(row_parts) {
            out.fill(0.0);
            for (&weight, &from) in weights.iter().zip(from) {
                out.iter_mut().zip(rows[from as usize]).for_each(|(o, x)| *o = weight.mul_add(*x, *o));
            }
        }
        Ok(out)
    }

    fn mean_of_spans(&mut self, x: &Rows, batch: &Batch) -> Result<Rows> {
        let mut out = self.shelf.rows(batch.spans.len(), x.width());
        for (span, out) in batch.spans.iter().zip(out.data_mut().chunks_exact_mut(x.width())) {
            out.fill(0.0);
            for row in span.rows.clone() {
                out.iter_mut().zip(x.row(row)).for_each(|(o, x)| *o += x);
            }
            out.iter_mut().for_each(|o| *o /= span.rows.len() as f32);
        }
        Ok(out)
    }

    fn unit_rows(&mut self, mut x: Rows) -> Result<Rows> {
        let width = x.width();
        for row in x.data_mut().chunks_exact_mut(width) {
            let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() as f32;
            // As torch: a row shorter than this is divided by it.
            let length = length.max(1e-12);
            row.iter_mut().for_each(|v| *v /= length);
        }
        Ok(x)
    }

    fn select_rows(&mut self, x: &Rows, rows: &[usize]) -> Result<Rows> {
        let mut out = self.shelf.rows(rows.len(), x.width());
        for (to, &row) in out.data_mut().chunks_exact_mut(x.width()).zip(rows) {
            to.copy_from_slice(x.row(row));
        }
        Ok(out)
    }

    fn log_softmax(&mut self, x: Rows) -> Result<Rows> {
        let mut out = self.shelf.rows(x.tokens(), x.width());
        softmax::log_softmax(&self.pool, self.isa, x.width(), x.data(), out.data_mut());
        Ok(out)
    }

    fn gather(&mut self, x: &Rows, columns: &[u32]) -> Result<Rows> {
        check_targets(x, columns)?;
        let mut out = self.shelf.rows(x.tokens(), 1);
        for (i, (to, &column)) in out.data_mut().iter_mut().zip(columns).enumerate() {
            *to = x.row(i)[column as usize];
        }
        Ok(out)
    }

    fn cross_entropy(&mut self, logits: Rows, targets: &[u32], weights: &[f32]) -> Result<Rows> {
        check_targets(&logits, targets)?;
        let mut out = self.shelf.rows(1, 1);
        out.data_mut()[0] = loss::cross_entropy(&self.pool, self.isa, logits.width(), logits.data(), targets, weights);
        Ok(out)
    }

    fn kl(&mut self, logits: Rows, teacher_log_probs: &[f32]) -> Result<Rows> {
        if teacher_log_probs.len() != logits.data().len() {
            return Err(Error::Batch("the teacher's rows are not the wanted rows".into()));
        }
        let mut out = self.shelf.rows(1, 1);
        out.data_mut()[0] = loss::kl(&self.pool, self.isa, logits.width(), logits.data(), teacher_log_probs);
        Ok(out)
    }

    fn slot(&mut self, site: SlotSite, mut x: Rows, batch: &Batch) -> Result<Rows> {
        if let Some(module) = self.slots.get_mut(&site) {
            let width = x.width();
            module.apply(x.data_mut(), width, batch)?;
        }
        Ok(x)
    }

    fn probe(&mut self, group: ProbeGroup, x: &Rows) -> Result<()> {
        match &mut self.probe {
            Some(probe) => probe.see(group, x.data(), x.width()),
            None => Ok(()),
        }
    }

    fn qkv(&mut self, layer: usize, attention: &Attention, x: &Rows, batch: &Batch) -> Result<(Rows, Rows, Rows)> {
        let normed = match attention.residual.before() {
            Some(norm) => &self.norm(norm, x)?,
            None => x,
        };
        self.probe(ProbeGroup::AttentionInput(layer as u32), normed)?;
        let Attention { query, key, value, query_norm, key_norm, .. } = attention;
        let [q, k, v] = self.linear_many([query, key, value], normed, batch)?;
        let q = self.position(attention, query_norm.as_ref(), q, batch)?;
        let k = self.position(attention, key_norm.as_ref(), k, batch)?;
        Ok((q, k, v))
    }

    fn mlp(&mut self, layer: usize, ffn: &Ffn, x: &Rows, batch: &Batch) -> Result<Rows> {
        let normed = match ffn.residual.before() {
            Some(norm) => &self.norm(norm, x)?,
            None => x,
        };
        self.probe(ProbeGroup::FfnInput(layer as u32), normed)?;
        let (hidden, down) = match &ffn.kind {
            FfnKind::Gated(f) => {
                let [gate, up] = self.linear_many([&f.gate, &f.up], normed, batch)?;
                (self.act_mul(f.activation, gate, up)?, &f.down)
            }
            FfnKind::Plain(f) => {
                let up = self.linear(&f.up, normed, batch)?;
                (self.act(f.activation, up)?, &f.down)
            }
            FfnKind::Moe(moe) => return self.moe(layer, moe, normed, batch),
        };
        self.probe(ProbeGroup::DownInput(layer as u32), &hidden)?;
        self.linear(down, &hidden, batch)
    }

    fn head(&mut self, head: &Head, x: &Rows, batch: &Batch, request: HeadRequest<'_>) -> Result<HeadOutput<Rows>> {
        self.strips(head, x, batch, request)
    }
}

fn check_targets(x: &Rows, columns: &[u32]) -> Result<()> {
    if columns.len() != x.tokens() {
        return Err(Error::Batch(format!("{} targets for {} rows", columns.len(), x.tokens())));
    }
    match columns.iter().find(|&&c| c as usize >= x.width()) {
        Some(&id) => Err(Error::TokenRange { id, vocab: x.width() }),
        None => Ok(()),
    }
}

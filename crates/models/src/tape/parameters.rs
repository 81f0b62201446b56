//! What is trained: tensors that stand in for weights of a model while it runs on the tape.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use porism_formats::Weight;
use porism_ops::GradientSum;

use crate::decoder::Decoder;
use crate::linear::{AdapterId, Delta, DeltaKind, Linear};
use crate::parts::Norm;
use crate::site::Site;
use crate::stack::{Embeddings, Stack};
use crate::{Error, Result};

/// The name of something that is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Parameter {
    /// A whole weight of the model: a table, a norm (as one row) or a projection's base.
    Weight(Site),
    /// The summands of a LayerNorm.
    NormBias(Site),
    /// A part of delta `index` of the projection at a site.
    Delta {
        /// The projection.
        site: Site,
        /// Which of its deltas.
        index: usize,
        /// Which tensor of the delta.
        part: DeltaPart,
    },
}

/// A tensor of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeltaPart {
    /// The low-rank A, `[rank, in]`.
    A,
    /// The low-rank B, `[out, rank]`.
    B,
    /// The one row of a scale or bias.
    Row,
}

/// The trained tensors of a model, by name, in one order for every run.
///
/// Where a model's head is its embedding table, both are one parameter, named by the table's site.
#[derive(Debug, Default)]
pub struct Parameters {
    vars: BTreeMap<Parameter, Trained>,
    head_is_table: bool,
}

#[derive(Debug)]
struct Trained {
    var: Var,
    /// Where passes add up its gradient.
    sum: GradientSum,
}

impl Parameters {
    /// Nothing is trained.
    pub fn none() -> Parameters {
        Parameters::default()
    }

    /// Everything is trained: every weight and every delta that belongs to no adapter.
    pub fn full(decoder: &Decoder) -> Result<Parameters> {
        let stack = &decoder.stack;
        let mut parameters = Parameters { head_is_table: stack.config.tied_embeddings, ..Parameters::default() };
        parameters.train_stack(stack)?;
        parameters.train_norm(&decoder.head.norm)?;
        let head = &decoder.head.linear;
        if !parameters.head_is_table {
            parameters.train(head.site, &head.weight)?;
        }
        parameters.train_deltas(head, |delta| delta.adapter.is_none())?;
        Ok(parameters)
    }

    /// Everything of a stack is trained, but for a relative position bias.
    pub fn train_stack(&mut self, stack: &Stack) -> Result<()> {
        let Embeddings { tokens, positions, token_types, norm } = &stack.embeddings;
        let tables = [Some(tokens), positions.as_ref().map(|(table, _)| table), token_types.as_ref()];
        for table in tables.into_iter().flatten() {
            self.train(table.site, &table.weight)?;
        }
        for norm in norm.iter().chain(stack.blocks.iter().flat_map(|b| b.norms())) {
            self.train_norm(norm)?;
        }
        for linear in stack.linears() {
            self.train(linear.site, &linear.weight)?;
            self.train_deltas(linear, |delta| delta.adapter.is_none())?;
        }
        Ok(())
    }

    fn train_norm(&mut self, norm: &Norm) -> Result<()> {
        self.train(norm.site, &norm.weight)?;
        match &norm.bias {
            Some(bias) => self.insert(Parameter::NormBias(norm.site), bias),
            None => Ok(()),
        }
    }

    /// The deltas of one adapter are trained, everything else is frozen.
    pub fn adapter(decoder: &Decoder, adapter: AdapterId) -> Result<Parameters> {
        let mut parameters = Parameters::default();
        for linear in decoder.linears() {
            parameters.train_deltas(linear, |delta| delta.adapter == Some(adapter))?;
        }
        if parameters.is_empty() {
            return Err(Error::Batch(format!("the model has no deltas of adapter {}", adapter.0)));
        }
        Ok(parameters)
    }

    /// Trains the weight of a site, from its present values.
    pub fn train(&mut self, site: Site, weight: &Weight) -> Result<()> {
        self.insert(Parameter::Weight(site), weight)
    }

    /// Trains those deltas of a projection that are chosen.
    fn train_deltas(&mut self, linear: &Linear, chosen: impl Fn(&Delta) -> bool) -> Result<()> {
        for (index, delta) in linear.deltas.iter().enumerate().filter(|(_, delta)| chosen(delta)) {
            let name = |part| Parameter::Delta { site: linear.site, index, part };
            match &delta.kind {
                DeltaKind::LowRank { a, b, .. } => {
                    self.insert(name(DeltaPart::A), a)?;
                    self.insert(name(DeltaPart::B), b)?;
                }
                DeltaKind::InputScale(w) | DeltaKind::OutputScale(w) | DeltaKind::Bias(w) => {
                    self.insert(name(DeltaPart::Row), w)?;
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, name: Parameter, weight: &Weight) -> Result<()> {
        let shape = (weight.rows(), weight.cols());
        let var = Var::from_vec(weight.to_f32(), shape, &Device::Cpu)?;
        self.vars.insert(name, Trained { var, sum: GradientSum::default() });
        Ok(())
    }

    /// The tensor of a name, if it is trained.
    pub fn get(&self, name: Parameter) -> Option<&Var> {
        self.trained(name).map(|trained| &trained.var)
    }

    fn trained(&self, name: Parameter) -> Option<&Trained> {
        let name = match name {
            Parameter::Weight(Site::Head) if self.head_is_table => Parameter::Weight(Site::TokenEmbedding),
            other => other,
        };
        self.vars.get(&name)
    }

    /// The tensor of a name, and where its gradient is added up beside the tape.
    pub(super) fn with_sum(&self, name: Parameter) -> Option<(&Tensor, &GradientSum)> {
        self.trained(name).map(|trained| (trained.var.as_tensor(), &trained.sum))
    }

    /// All trained tensors with the sums of their gradients.
    pub(super) fn sums(&self) -> impl Iterator<Item = (&Tensor, &GradientSum)> {
        self.vars.values().map(|trained| (trained.var.as_tensor(), &trained.sum))
    }

    /// Takes what [`add_gradients`](super::add_gradients) has added up since they were last taken, in the order of
    /// [`iter`](Parameters::iter): a gradient for each tensor, zeros where none came.
    pub fn take_gradients(&self) -> Vec<Vec<f32>> {
        let taken = |trained: &Trained| {
            let mut sum = trained.sum.take();
            sum.resize(trained.var.elem_count(), 0.0);
            sum
        };
        self.vars.values().map(taken).collect()
    }

    /// Forgets what was added up, after a pass that failed for example.
    pub fn drop_gradients(&self) {
        self.sums().for_each(|(_, sum)| drop(sum.take()));
    }

    /// All trained tensors, each once, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (Parameter, &Var)> {
        self.vars.iter().map(|(&name, trained)| (name, &trained.var))
    }

    /// How many tensors are trained.
    pub fn len(&self) -> usize {
        self.vars.len()
    }

    /// Whether nothing is trained.
    pub fn is_empty(&self) -> bool {
        self.vars.is_empty()
    }
}

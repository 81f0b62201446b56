//! What can be hung into a forward pass: probes that look at activations, modules that change a branch.

use std::collections::BTreeMap;
use std::sync::Arc;

use porism_kernels::linear::backward::backward_weight;
use porism_kernels::{Isa, Pool};

use crate::Result;
use crate::batch::Batch;
use crate::site::ProbeGroup;

/// Looks at the inputs of projections: calibration, statistics.
pub trait Probe: Send {
    /// Called with an input x `[rows, width]` before the projections of its group.
    fn see(&mut self, group: ProbeGroup, x: &[f32], width: usize) -> Result<()>;
}

/// A module on a branch, before the branch is added to the residual: bottleneck adapters.
pub trait Slot: Send {
    /// Changes x `[rows, width]` in place; the batch says whose the rows are.
    fn apply(&mut self, x: &mut [f32], width: usize, batch: &Batch) -> Result<()>;
}

/// A probe that collects `X^T X` of every group's inputs: what GPTQ's Hessian and AWQ's scales are made of.
#[derive(Debug)]
pub struct InputCovariance {
    pool: Arc<Pool>,
    isa: Isa,
    /// For each group the sum of outer products `[width, width]` and the number of rows.
    pub groups: BTreeMap<ProbeGroup, (Vec<f64>, usize)>,
}

impl InputCovariance {
    /// An empty collection.
    pub fn new(pool: Arc<Pool>, isa: Isa) -> InputCovariance {
        InputCovariance { pool, isa, groups: BTreeMap::new() }
    }
}

impl Probe for InputCovariance {
    fn see(&mut self, group: ProbeGroup, x: &[f32], width: usize) -> Result<()> {
        let mut product = vec![0.0f32; width * width];
        backward_weight(&self.pool, self.isa, width, width, x, x, &mut product);
        let (sum, rows) = self.groups.entry(group).or_insert_with(|| (vec![0.0; width * width], 0));
        for (s, p) in sum.iter_mut().zip(&product) {
            *s += f64::from(*p);
        }
        *rows += x.len() / width;
        Ok(())
    }
}

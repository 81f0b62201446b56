//! Optimizers: what they keep of each trained tensor, where they keep it, and their steps.
//!
//! The arithmetic is `porism_kernels::optimizer`. A state is plain memory, or [paged](StateStorage::Paged): a mapped
//! file that the system may write out and evict. Both give the same bits, with any number of threads.

mod layout;
mod paged;
mod regions;
mod serialize;

use std::path::PathBuf;

use porism_kernels::optimizer as kernels;
use porism_ops::OpContext;

use self::layout::{Layout, Shape};
use self::regions::Regions;
use crate::{Error, Result};

/// Which rule makes a step of a gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019), as `torch.optim.AdamW`.
    AdamW {
        /// How much of the first moment remains.
        beta1: f64,
        /// How much of the second moment remains.
        beta2: f64,
        /// Added to the root of the second moment.
        eps: f64,
    },
    /// Stochastic gradient descent, as `torch.optim.SGD`.
    Sgd {
        /// How much of the sum of gradients remains; with zero there is no state.
        momentum: f64,
    },
    /// AdamW with moments of one byte (Dettmers et al. 2022), as bitsandbytes' `AdamW8bit`. Tensors of fewer than 4096
    /// elements keep moments of four.
    AdamW8bit {
        /// How much of the first moment remains.
        beta1: f64,
        /// How much of the second moment remains.
        beta2: f64,
        /// Added to the root of the second moment.
        eps: f64,
    },
}

impl OptimizerKind {
    /// AdamW with PyTorch's settings.
    pub const ADAMW: OptimizerKind = OptimizerKind::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    /// 8-bit AdamW with the same settings.
    pub const ADAMW_8BIT: OptimizerKind = OptimizerKind::AdamW8bit { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    /// Descent with the customary momentum.
    pub const SGD: OptimizerKind = OptimizerKind::Sgd { momentum: 0.9 };

    fn check(self) -> Result<()> {
        let refuse = |what: &str, value: f64, range: &str| {
            Err(Error::Recipe(format!("the optimizer's {what} is {value}; it has to be {range}")))
        };
        match self {
            OptimizerKind::AdamW { beta1, beta2, eps } | OptimizerKind::AdamW8bit { beta1, beta2, eps } => {
                for (what, beta) in [("beta1", beta1), ("beta2", beta2)] {
                    if !(0.0..1.0).contains(&beta) {
                        return refuse(what, beta, "at least 0 and below 1");
                    }
                }
                if !(0.0..f64::INFINITY).contains(&eps) {
                    return refuse("eps", eps, "at least 0");
                }
            }
            OptimizerKind::Sgd { momentum } if !(0.0..f64::INFINITY).contains(&momentum) => {
                return refuse("momentum", momentum, "at least 0");
            }
            OptimizerKind::Sgd { .. } => {}
        }
        Ok(())
    }
}

/// A tensor that is trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainedTensor {
    /// Its name: no two have the same.
    pub name: String,
    /// Its elements.
    pub len: usize,
    /// Whether weight decay is for it. Norms and biases are customarily left alone.
    pub decays: bool,
}

/// Where the state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateStorage {
    /// In ordinary memory.
    Memory,
    /// In a mapped file in this folder, which has no name and is gone with the optimizer. On a file system that lies in
    /// memory nothing is won.
    Paged(PathBuf),
}

/// An optimizer and its state.
#[derive(Debug)]
pub struct Optimizer {
    context: OpContext,
    kind: OptimizerKind,
    tensors: Vec<TrainedTensor>,
    layouts: Vec<Layout>,
    /// Steps that each tensor has taken.
    steps: Vec<u64>,
    regions: Regions,
}

impl Optimizer {
    /// A new one for these tensors. Later they go by their place in the list.
    ///
    /// # Errors
    /// A setting out of its range, a name that comes twice, no room in the folder for a paged state.
    pub fn new(
        context: &OpContext,
        kind: OptimizerKind,
        tensors: Vec<TrainedTensor>,
        storage: &StateStorage,
    ) -> Result<Optimizer> {
        kind.check()?;
        let mut names: Vec<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
            return Err(Error::Recipe(format!("the tensor `{}` is to be trained twice; list it once", twice[0])));
        }
        let layouts: Vec<Layout> = tensors.iter().map(|t| Layout::new(kind, t.len)).collect();
        let sizes: Vec<usize> = layouts.iter().map(Layout::bytes).collect();
        let regions = Regions::new(&sizes, storage)?;
        let steps = vec![0; tensors.len()];
        Ok(Optimizer { context: context.clone(), kind, tensors, layouts, steps, regions })
    }

    /// The rule.
    pub fn kind(&self) -> OptimizerKind {
        self.kind
    }

    /// The tensors.
    pub fn tensors(&self) -> &[TrainedTensor] {
        &self.tensors
    }

    /// Bytes of the state.
    pub fn state_bytes(&self) -> u64 {
        self.layouts.iter().map(|layout| layout.bytes() as u64).sum()
    }

    /// One step of the tensor `index` along its gradient.
    ///
    /// `weight_decay` is taken for zero if the tensor does not decay.
    ///
    /// # Errors
    /// There is no such tensor, or the lengths are not its own.
    pub fn step(
        &mut self,
        index: usize,
        values: &mut [f32],
        gradient: &[f32],
        learning_rate: f64,
        weight_decay: f64,
    ) -> Result<()> {
        self.step_scaled(index, values, gradient, 1.0, learning_rate, weight_decay)
    }

    /// [`step`](Optimizer::step) along `gradient_scale * gradient`: clipping or a mean in the same pass.
    ///
    /// # Errors
    /// As there.
    pub fn step_scaled(
        &mut self,
        index: usize,
        values: &mut [f32],
        gradient: &[f32],
        gradient_scale: f64,
        learning_rate: f64,
        weight_decay: f64,
    ) -> Result<()> {
        let Some(tensor) = self.tensors.get(index) else {
            return Err(Error::Recipe(format!("tensor {index} of {} trained ones", self.tensors.len())));
        };
        if values.len() != tensor.len || gradient.len() != tensor.len {
            return Err(Error::Recipe(format!(
                "`{}` has {} elements; a step was asked for with {} values and {} of a gradient",
                tensor.name,
                tensor.len,
                values.len(),
                gradient.len()
            )));
        }
        let weight_decay = if tensor.decays { weight_decay } else { 0.0 };
        let step = self.steps[index].saturating_add(1);
        self.steps[index] = step;
        let (pool, isa) = (&self.context.pool, self.context.isa);
        self.regions.will_need(index);
        let shape = self.layouts[index].split(self.regions.bytes_mut(index));
        match self.kind {
            OptimizerKind::AdamW { beta1, beta2, eps } | OptimizerKind::AdamW8bit { beta1, beta2, eps } => {
                let by = kernels::AdamW { learning_rate, beta1, beta2, eps, weight_decay, gradient_scale, step };
                match shape {
                    Shape::Moments { first, second } => {
                        kernels::adamw(pool, isa, &by, values, gradient, first, second);
                    }
                    Shape::Moments8bit(moments) => kernels::adamw8bit(pool, isa, &by, values, gradient, moments),
                    Shape::Buffer(_) => {}
                }
            }
            OptimizerKind::Sgd { momentum } => {
                if let Shape::Buffer(buffer) = shape {
                    let by = kernels::Sgd { learning_rate, momentum, weight_decay, gradient_scale };
                    kernels::sgd(pool, isa, &by, values, gradient, buffer);
                }
            }
        }
        self.regions.may_go(index);
        Ok(())
    }

    /// The norm of all gradients as one vector.
    pub fn gradient_norm<G: AsRef<[f32]>>(&self, gradients: &[G]) -> f64 {
        let squares = |g: &G| kernels::sum_of_squares(&self.context.pool, self.context.isa, g.as_ref());
        gradients.iter().map(squares).sum::<f64>().sqrt()
    }

    /// Shortens all gradients together to at most `max_norm`, as `torch.nn.utils.clip_grad_norm_`; 0 leaves them.
    /// Returns their norm before. If that is infinite or no number, so are they afterwards: do not step then.
    pub fn clip<G: AsRef<[f32]> + AsMut<[f32]>>(&self, gradients: &mut [G], max_norm: f64) -> f64 {
        let norm = self.gradient_norm(gradients);
        let factor = clip_factor(norm, max_norm);
        if factor != 1.0 {
            for gradient in gradients {
                kernels::scale(&self.context.pool, self.context.isa, factor as f32, gradient.as_mut());
            }
        }
        norm
    }
}

/// What gradients of this norm are multiplied with so that they are no longer than `max_norm`:
/// `max_norm / (norm + 1e-6)` if that is below one. 1 for a `max_norm` of 0.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    let factor = max_norm / (norm + 1e-6);
    if max_norm > 0.0 && (factor < 1.0 || factor.is_nan()) { factor } else { 1.0 }
}

//! Gradients of large weights, added up beside the tape.
//!
//! candle's backward pass takes each gradient as a tensor of its own, adds it to zeros that it made for the purpose, and gives that
//! to be added to others: of a weight that takes part several times (a head that sees a few rows at a time and is the embedding table
//! too, any weight in each micro-batch) most of the time goes into zeros and sums. An operation with a [`GradientSum`] adds its
//! gradient where it belongs.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use porism_kernels::add;

use crate::error::input;
use crate::tensor::{Numbers, tensor};
use crate::{OpContext, Result};

/// What the gradient of one weight has come to. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct GradientSum(Arc<Mutex<Vec<f32>>>);

impl GradientSum {
    /// Takes the sum; the next begins with zeros. Empty if nothing was added.
    pub fn take(&self) -> Vec<f32> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a gradient that came by the tape, on all threads.
    ///
    /// # Errors
    /// Its length is another one.
    pub fn add(&self, context: &OpContext, gradient: &Tensor) -> Result<()> {
        const OP: &str = "gradient-sum";
        let gradient = gradient.contiguous()?;
        let numbers = Numbers::of(&gradient);
        let values = numbers.slice(OP)?;
        let mut sum = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sum.is_empty() {
            *sum = values.to_vec();
            return Ok(());
        }
        if sum.len() != values.len() {
            return input(OP, format!("{} numbers cannot be added to {}", values.len(), sum.len()));
        }
        add::add_to(&context.pool, context.isa, &mut sum, values);
        Ok(())
    }

    /// Has `add` add to the sum; without one, to zeros, which become the gradient of `w` for the tape.
    pub(crate) fn of(
        sum: Option<&GradientSum>,
        w: &Tensor,
        add: impl FnOnce(&mut [f32]),
    ) -> candle_core::Result<Option<Tensor>> {
        let Some(sum) = sum else {
            let mut dw = vec![0.0; w.elem_count()];
            add(&mut dw);
            return tensor(dw, w.shape()).map(Some);
        };
        let mut sum = sum.0.lock().unwrap_or_else(PoisonError::into_inner);
        sum.resize(w.elem_count(), 0.0);
        add(&mut sum);
        Ok(None)
    }
}

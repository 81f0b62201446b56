//! An LSTM cell (Hochreiter and Schmidhuber 1997; forget gates by Gers et al. 2000) whose gates can be forced, and how
//! its memory depends on the memory before (book, Part I, 4.2).
//!
//! `i, f, o = sigmoid(W x + U h + b)`, `g = tanh(W x + U h + b)`, `c' = f * c + i * g`, `h' = o * tanh(c')`.

use candle_core::{Tensor, Var};
use porism_kernels::activation::Activation;
use porism_ops::{OpContext, act, add_columns, add_scaled, inner_product, linear};

use crate::Result;
use crate::random::Random;
use crate::tape::{constant, context, gradient, numbers, variable};

/// Features of an input.
const INPUTS: usize = 3;
/// Features of the memory.
const HIDDEN: usize = 4;

/// How the old memory and the candidate make the new memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// `f * c + i * g`: the LSTM's.
    Added,
    /// `f * c * g`: what it is not.
    Multiplied,
}

/// One step of the cell.
#[derive(Clone, Debug, PartialEq)]
pub struct CellStep {
    /// The memory before.
    pub before: Vec<f64>,
    /// The candidate.
    pub candidate: Vec<f64>,
    /// The forget gate.
    pub forget: Vec<f64>,
    /// The memory afterwards.
    pub after: Vec<f64>,
    /// The memory afterwards by the memory before, feature by feature, along the memory itself.
    pub slopes: Vec<f64>,
}

/// A cell with random weights. Gates that are given are forced to that value.
pub struct Lstm {
    context: OpContext,
    /// For input gate, forget gate and candidate: weights of x, of h, and the bias.
    layers: [(Tensor, Tensor, Tensor); 3],
    random: Random,
}

struct Gates {
    input: Tensor,
    forget: Tensor,
    candidate: Tensor,
}

impl Lstm {
    /// The cell of a seed.
    ///
    /// # Errors
    /// An operation failed.
    pub fn new(seed: u64) -> Result<Lstm> {
        let mut random = Random::new(seed);
        let mut matrix = |rows: usize, cols: usize| {
            let values: Vec<f64> = (0..rows * cols).map(|_| random.normal() * 0.8).collect();
            constant(rows, &values)
        };
        let mut layer =
            || Ok::<_, crate::Error>((matrix(HIDDEN, INPUTS)?, matrix(HIDDEN, HIDDEN)?, matrix(1, HIDDEN)?));
        let layers = [layer()?, layer()?, layer()?];
        Ok(Lstm { context: context(), layers, random })
    }

    fn draw(&mut self, n: usize) -> Vec<f64> {
        // In the tape's precision, so that what is kept can be compared to the bit.
        (0..n).map(|_| f64::from(self.random.normal() as f32)).collect()
    }

    fn gates(&self, x: &Tensor, h: &Tensor) -> Result<Gates> {
        let sum = |(w, u, b): &(Tensor, Tensor, Tensor)| -> Result<Tensor> {
            let both = add_scaled(&self.context, &linear(&self.context, x, w)?, 1.0, &linear(&self.context, h, u)?)?;
            Ok(add_columns(&both, b)?)
        };
        let gate = |layer| Ok::<_, crate::Error>(act(&self.context, Activation::Sigmoid, &sum(layer)?)?);
        let [input, forget, candidate] = &self.layers;
        Ok(Gates { input: gate(input)?, forget: gate(forget)?, candidate: sum(candidate)?.tanh()? })
    }

    /// A step from a random memory with both gates forced; the state h comes from elsewhere.
    ///
    /// # Errors
    /// An operation failed.
    pub fn forced(&mut self, forget: f64, input: f64, update: Update) -> Result<CellStep> {
        let (x, h, before) = (self.draw(INPUTS), self.draw(HIDDEN), self.draw(HIDDEN));
        let c = variable(1, &before)?;
        let gates = Gates {
            input: constant(1, &[input; HIDDEN])?,
            forget: constant(1, &[forget; HIDDEN])?,
            ..self.gates(&constant(1, &x)?, &constant(1, &h)?)?
        };
        let after = updated(&gates, &c, update)?;
        // Feature i of the result depends on feature i alone, so one backward pass has all slopes.
        let ones = constant(1, &[1.0; HIDDEN])?;
        let slopes = gradient(&inner_product(&after, &ones)?.backward()?, &c)?;
        let (candidate, forget) = (numbers(&gates.candidate)?, numbers(&gates.forget)?);
        Ok(CellStep { before, candidate, forget, after: numbers(&after)?, slopes })
    }

    /// A step with the gates that the cell computes itself from `h = tanh(c)`: the gates see the memory too.
    ///
    /// # Errors
    /// An operation failed.
    pub fn free(&mut self) -> Result<CellStep> {
        let (x, before) = (self.draw(INPUTS), self.draw(HIDDEN));
        let c: Var = variable(1, &before)?;
        let gates = self.gates(&constant(1, &x)?, &c.tanh()?)?;
        let after = updated(&gates, &c, Update::Added)?;
        let mut slopes = Vec::new();
        for i in 0..HIDDEN {
            let mut only = [0.0; HIDDEN];
            only[i] = 1.0;
            slopes.push(gradient(&inner_product(&after, &constant(1, &only)?)?.backward()?, &c)?[i]);
        }
        let (candidate, forget) = (numbers(&gates.candidate)?, numbers(&gates.forget)?);
        Ok(CellStep { before, candidate, forget, after: numbers(&after)?, slopes })
    }
}

fn updated(gates: &Gates, c: &Tensor, update: Update) -> Result<Tensor> {
    let kept = gates.forget.mul(c)?;
    Ok(match update {
        Update::Added => kept.add(&gates.input.mul(&gates.candidate)?)?,
        Update::Multiplied => kept.mul(&gates.candidate)?,
    })
}

/// How much of a change of the memory is left after each of so many steps, on average over its features: the product of
/// the steps' slopes, 1 at first.
///
/// # Errors
/// An operation failed.
pub fn memory_gradients(seed: u64, forget: f64, input: f64, update: Update, steps: usize) -> Result<Vec<f64>> {
    let mut cell = Lstm::new(seed)?;
    let mut left = [1.0; HIDDEN];
    let mut out = vec![1.0];
    for _ in 0..steps {
        let step = cell.forced(forget, input, update)?;
        left.iter_mut().zip(&step.slopes).for_each(|(left, slope)| *left *= slope);
        out.push(left.iter().map(|x: &f64| x.abs()).sum::<f64>() / HIDDEN as f64);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sigmoid(z: f64) -> f64 {
        1.0 / (1.0 + (-z).exp())
    }

    /// One feature of the cell, written out in f64.
    fn scalar_cell(cell: &Lstm, x: &[f64], c: &[f64]) -> Vec<f64> {
        let layer = |which: usize, row: usize| -> f64 {
            let (w, u, b) = &cell.layers[which];
            let (w, u, b) = (numbers(w).expect("w"), numbers(u).expect("u"), numbers(b).expect("b"));
            let of_x: f64 = (0..INPUTS).map(|j| w[row * INPUTS + j] * x[j]).sum();
            let of_h: f64 = (0..HIDDEN).map(|j| u[row * HIDDEN + j] * c[j].tanh()).sum();
            of_x + of_h + b[row]
        };
        (0..HIDDEN).map(|i| sigmoid(layer(1, i)) * c[i] + sigmoid(layer(0, i)) * layer(2, i).tanh()).collect()
    }

    #[test]
    fn the_cell_is_its_equations_and_the_slopes_are_its_derivatives() {
        for seed in 0..5 {
            let mut cell = Lstm::new(seed).expect("a cell");
            let mut again = Lstm::new(seed).expect("a cell");
            let (x, c) = (again.draw(INPUTS), again.draw(HIDDEN));
            let step = cell.free().expect("a step");
            assert_eq!(step.before, c);
            let want = scalar_cell(&again, &x, &c);
            for i in 0..HIDDEN {
                assert!((step.after[i] - want[i]).abs() < 1e-6);
                let h = 1e-5;
                let moved = |d: f64| {
                    let mut c = c.clone();
                    c[i] += d;
                    scalar_cell(&again, &x, &c)[i]
                };
                let slope = (moved(h) - moved(-h)) / (2.0 * h);
                assert!((step.slopes[i] - slope).abs() < 1e-5, "{} {slope}", step.slopes[i]);
            }
        }
    }
}

//! Mixtures of experts (Shazeer et al. 2017): a router chooses a few feed-forward networks for each row.
//!
//! `mix` is the step's body for every executor: route, send each expert its rows, sum what comes back in the
//! order of the row's choices, so that a row's bits do not depend on its neighbours.

use crate::Result;
use crate::batch::Batch;
use crate::linear::Linear;
use crate::parts::Gated;
use crate::steps::Steps;

/// How experts are chosen: the `used` likeliest by softmax over all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routing {
    /// Experts in all.
    pub experts: usize,
    /// Experts that work on a row.
    pub used: usize,
    /// Whether the chosen ones' probabilities are scaled to sum to one: the same as a softmax over the chosen
    /// alone (Mixtral), where without it the softmax comes before the choice (OLMoE).
    pub normalize: bool,
}

/// A mixture of experts.
#[derive(Clone, Debug)]
pub struct Moe {
    /// `[experts, width]`.
    pub router: Linear,
    /// How its logits choose.
    pub routing: Routing,
    /// The experts, `routing.experts` of them.
    pub experts: Vec<Gated>,
    /// An expert that works on every row.
    pub shared: Option<Shared>,
}

/// An expert for every row, behind a gate of its own: `sigmoid(gate(x)) * network(x)` (Qwen 2 MoE).
#[derive(Clone, Debug)]
pub struct Shared {
    /// The network.
    pub network: Gated,
    /// `[1, width]`.
    pub gate: Linear,
}

impl Moe {
    /// Every projection of it.
    pub fn linears(&self) -> Vec<&Linear> {
        let mut linears = vec![&self.router];
        linears.extend(self.experts.iter().flat_map(|e| [&e.gate, &e.up, &e.down]));
        if let Some(Shared { network, gate }) = &self.shared {
            linears.extend([gate, &network.gate, &network.up, &network.down]);
        }
        linears
    }
}

/// A router's choices.
#[derive(Debug)]
pub struct Routes<R> {
    /// For each row its `used` experts, likeliest first (of equals, the one with the lower number).
    pub chosen: Vec<u32>,
    /// Their weights, `[tokens, used]`.
    pub weights: R,
}

/// The experts' numbers, likeliest first, of one row of scores.
pub(crate) fn choose(scores: &[f32], used: usize) -> impl Iterator<Item = u32> {
    crate::steps::top_k(scores, used).into_iter().map(|(expert, _)| expert)
}

/// The body of the step: x is normed.
pub(crate) fn mix<S: Steps>(steps: &mut S, layer: usize, moe: &Moe, x: &S::Rows, batch: &Batch) -> Result<S::Rows> {
    let (tokens, _) = steps.shape(x);
    let used = moe.routing.used;
    let logits = steps.linear(&moe.router, x, batch)?;
    let routes = steps.route(layer, &moe.routing, logits)?;
    // For each expert, the rows that chose it, and where in its result each of them stands.
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); moe.experts.len()];
    for (i, &expert) in routes.chosen.iter().enumerate() {
        rows[expert as usize].push(i / used);
    }
    let firsts: Vec<usize> = rows
        .iter()
        .scan(0, |next, rows| {
            *next += rows.len();
            Some(*next - rows.len())
        })
        .collect();
    let mut seen = firsts.clone();
    let mut from = vec![0u32; tokens * used];
    for (i, &expert) in routes.chosen.iter().enumerate() {
        from[i] = seen[expert as usize] as u32;
        seen[expert as usize] += 1;
    }
    let mut parts = Vec::new();
    for (expert, rows) in moe.experts.iter().zip(&rows).filter(|(_, rows)| !rows.is_empty()) {
        let x = steps.select_rows(x, rows)?;
        parts.push(gated(steps, expert, &x, &batch.select(rows))?);
    }
    let sum = steps.weighted_sum(parts, &from, &routes.weights)?;
    let Some(Shared { network, gate }) = &moe.shared else { return Ok(sum) };
    let every = gated(steps, network, x, batch)?;
    let share = steps.linear(gate, x, batch)?;
    let share = steps.act(porism_kernels::activation::Activation::Sigmoid, share)?;
    let in_order: Vec<u32> = (0..tokens as u32).collect();
    let every = steps.weighted_sum(vec![every], &in_order, &share)?;
    steps.add(sum, every)
}

fn gated<S: Steps>(steps: &mut S, network: &Gated, x: &S::Rows, batch: &Batch) -> Result<S::Rows> {
    let gate = steps.linear(&network.gate, x, batch)?;
    let up = steps.linear(&network.up, x, batch)?;
    let hidden = steps.act_mul(network.activation, gate, up)?;
    steps.linear(&network.down, &hidden, batch)
}

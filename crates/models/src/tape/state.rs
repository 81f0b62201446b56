//! The tape executor's sequence state: keys and values of each layer as tensors, so that gradients reach
//! earlier rows and seeded prefixes.

use candle_core::{Device, Tensor};
use porism_kernels::attention::Mask;
use porism_kernels::attention::dense::DenseSpan;

use crate::batch::Batch;
use crate::config::ModelConfig;
use crate::state::{Mark, SequenceState};
use crate::{Error, Result};

/// Entries of one layer: `seeded` that belong to no row, then one for each position.
#[derive(Clone, Debug, Default)]
struct Layer {
    entries: Option<(Tensor, Tensor)>,
    seeded: usize,
    positions: Vec<u32>,
}

/// What the tape executor keeps of a sequence. Cloning shares the tensors, which never change.
#[derive(Clone, Debug)]
pub struct TapeState {
    layers: Vec<Layer>,
    kv_width: usize,
}

impl TapeState {
    /// An empty state for a decoder.
    pub fn new(config: &ModelConfig) -> TapeState {
        TapeState { layers: vec![Layer::default(); config.layers], kv_width: config.kv_heads * config.head_dim }
    }

    /// [`SequenceState::seed`] with tensors, which may be trained: k and v `[n, kv_heads * head_dim]`.
    pub fn seed_tensors(&mut self, layer: usize, k: &Tensor, v: &Tensor) -> Result<()> {
        let n = k.dims().first().copied().unwrap_or(0);
        if k.dims() != [n, self.kv_width] || v.dims() != k.dims() {
            let (k, v, width) = (k.dims(), v.dims(), self.kv_width);
            return Err(Error::State(format!("seeds {k:?} and {v:?} for rows of {width}")));
        }
        let layer_state = self.layer(layer)?;
        if layer_state.entries.is_some() {
            return Err(Error::State(format!("layer {layer} has entries already; seeds come first")));
        }
        *layer_state = Layer { entries: Some((k.clone(), v.clone())), seeded: n, positions: Vec::new() };
        Ok(())
    }

    /// Cuts what is kept off the tape: gradients no longer reach the rows appended so far.
    pub fn detach(&mut self) {
        for layer in &mut self.layers {
            layer.entries = layer.entries.take().map(|(k, v)| (k.detach(), v.detach()));
        }
    }

    fn layer(&mut self, layer: usize) -> Result<&mut Layer> {
        let layers = self.layers.len();
        let missing = || Error::State(format!("layer {layer} of a state for {layers} layers"));
        self.layers.get_mut(layer).ok_or_else(missing)
    }
}

impl SequenceState for TapeState {
    fn len(&self) -> usize {
        self.layers.iter().map(|l| l.positions.len()).max().unwrap_or(0)
    }

    fn fork(&self) -> TapeState {
        self.clone()
    }

    fn mark(&self) -> Mark {
        Mark(self.len())
    }

    fn rollback(&mut self, mark: Mark) -> Result<()> {
        if mark.0 > self.len() {
            return Err(Error::State(format!("a rollback to row {} of {}", mark.0, self.len())));
        }
        for layer in &mut self.layers {
            layer.positions.truncate(mark.0);
            let kept = layer.seeded + layer.positions.len();
            layer.entries = match layer.entries.take() {
                Some((k, v)) if kept > 0 => Some((k.narrow(0, 0, kept)?, v.narrow(0, 0, kept)?)),
                _ => None,
            };
        }
        Ok(())
    }

    fn seed(&mut self, layer: usize, k: &[f32], v: &[f32]) -> Result<()> {
        if k.len() != v.len() || !k.len().is_multiple_of(self.kv_width) {
            let (k, v, width) = (k.len(), v.len(), self.kv_width);
            return Err(Error::State(format!("seeds of {k} and {v} numbers for rows of {width}")));
        }
        let tensor = |x: &[f32]| Tensor::from_slice(x, (x.len() / self.kv_width, self.kv_width), &Device::Cpu);
        let (k, v) = (tensor(k)?, tensor(v)?);
        self.seed_tensors(layer, &k, &v)
    }
}

/// Appends the batch's k and v `[tokens, kv_heads * head_dim]` to its sequences' states of a layer. Gives all
/// entries of these sequences, one after the other, and what each row sees of them.
pub(super) fn append(
    mask: Mask,
    layer: usize,
    k: Tensor,
    v: Tensor,
    batch: &Batch,
    states: &mut [TapeState],
) -> Result<(Tensor, Tensor, Vec<DenseSpan>)> {
    let mut seen = vec![false; states.len()];
    let (mut keys, mut values, mut spans) = (Vec::new(), Vec::new(), Vec::new());
    let mut fresh = true;
    let mut end = 0;
    for span in &batch.spans {
        let Some(state) = states.get_mut(span.sequence) else {
            return Err(Error::Batch(format!("sequence {} has no state", span.sequence)));
        };
        // A second span of one sequence would change what the first one sees.
        if std::mem::replace(&mut seen[span.sequence], true) {
            return Err(Error::Batch(format!("sequence {} has two spans", span.sequence)));
        }
        if span.tree.is_some() {
            return Err(Error::Batch("rows that branch need the CPU executor".into()));
        }
        let layer = state.layer(layer)?;
        let part = |x: &Tensor| x.narrow(0, span.rows.start, span.rows.len());
        let (new_k, new_v) = (part(&k)?, part(&v)?);
        let (all_k, all_v) = match layer.entries.take() {
            Some((old_k, old_v)) => {
                fresh = false;
                (Tensor::cat(&[&old_k, &new_k], 0)?, Tensor::cat(&[&old_v, &new_v], 0)?)
            }
            None => (new_k, new_v),
        };
        layer.positions.extend_from_slice(&batch.positions[span.rows.clone()]);
        layer.entries = Some((all_k.clone(), all_v.clone()));
        let entries = end..end + layer.seeded + layer.positions.len();
        end = entries.end;
        spans.push(DenseSpan::new(mask, span.rows.clone(), entries, layer.seeded, &layer.positions));
        keys.push(all_k);
        values.push(all_v);
    }
    if fresh {
        // Every sequence begins here: its entries are the batch's own rows, already in order.
        return Ok((k, v, spans));
    }
    Ok((Tensor::cat(&keys, 0)?, Tensor::cat(&values, 0)?, spans))
}

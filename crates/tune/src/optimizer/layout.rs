//! What an optimizer keeps of a tensor, as parts of one region of bytes.

use porism_kernels::optimizer::{BLOCK, Moments8bit};

use super::OptimizerKind;

/// Tensors of fewer elements have no 8-bit moments: little would be won, and they are often the delicate ones.
const MIN_8BIT: usize = 4096;

/// The type of a part's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// Four bytes.
    F32,
    /// A code.
    U8,
}

impl Element {
    /// As safetensors names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Element::F32 => "F32",
            Element::U8 => "U8",
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::U8 => 1,
        }
    }
}

/// A vector of the state of one tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// As PyTorch and bitsandbytes name it.
    pub(super) name: &'static str,
    pub(super) element: Element,
    pub(super) len: usize,
}

/// The parts of one tensor's state, one behind the other; those of four bytes come first.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) parts: Vec<Part>,
    kind: OptimizerKind,
}

/// A region cut into its parts.
pub(super) enum Shape<'a> {
    Moments { first: &'a mut [f32], second: &'a mut [f32] },
    Moments8bit(Moments8bit<'a>),
    Buffer(&'a mut [f32]),
}

impl Layout {
    /// The parts for a tensor of `len` elements.
    pub(super) fn new(kind: OptimizerKind, len: usize) -> Layout {
        let floats = |name, len| Part { name, element: Element::F32, len };
        let codes = |name| Part { name, element: Element::U8, len };
        let parts = match kind {
            OptimizerKind::AdamW8bit { .. } if len >= MIN_8BIT => {
                let blocks = len.div_ceil(BLOCK);
                vec![floats("absmax1", blocks), floats("absmax2", blocks), codes("state1"), codes("state2")]
            }
            OptimizerKind::AdamW8bit { .. } => vec![floats("state1", len), floats("state2", len)],
            OptimizerKind::AdamW { .. } => vec![floats("exp_avg", len), floats("exp_avg_sq", len)],
            OptimizerKind::Sgd { momentum: 0.0 } => vec![],
            OptimizerKind::Sgd { .. } => vec![floats("momentum_buffer", len)],
        };
        Layout { parts, kind }
    }

    /// Bytes of all parts.
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.len * part.element.bytes()).sum()
    }

    /// Cuts the region, which begins at a multiple of four and is long enough.
    pub(super) fn split<'a>(&self, region: &'a mut [u8]) -> Shape<'a> {
        let of_f32 = self.parts.iter().filter(|p| p.element == Element::F32);
        let (floats, codes) = region[..self.bytes()].split_at_mut(of_f32.map(|p| 4 * p.len).sum());
        let floats: &mut [f32] = bytemuck::cast_slice_mut(floats);
        let half = floats.len() / 2;
        match self.kind {
            OptimizerKind::Sgd { .. } => Shape::Buffer(floats),
            _ if codes.is_empty() => {
                let (first, second) = floats.split_at_mut(half);
                Shape::Moments { first, second }
            }
            _ => {
                let (first_absmax, second_absmax) = floats.split_at_mut(half);
                let (first, second) = codes.split_at_mut(codes.len() / 2);
                Shape::Moments8bit(Moments8bit { first, second, first_absmax, second_absmax })
            }
        }
    }
}

//! The CPU executor's sequence state: keys and values of each layer in pages that forks share.

use std::sync::Arc;

use half::f16;
use half::slice::HalfFloatSliceExt;
use porism_kernels::Isa;
use porism_kernels::attention::Mask;
use porism_kernels::attention::paged::{
    KV_BLOCK, KvSlice, PAGE, PageRef, PagedSpan, Q4Block, Q8Block, encode_q4, encode_q8,
};

use crate::decoder::DecoderConfig;
use crate::state::{Mark, SequenceState};
use crate::{Error, Result};

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// As computed.
    F32,
    /// Rounded to half precision.
    F16,
    /// Rounded to 8 bits in blocks of 32 with an f16 scale; heads must be whole blocks.
    Q8_0,
    /// Rounded to 4 bits in blocks of 32 with an f16 scale; heads must be whole blocks.
    Q4_0,
}

impl KvType {
    /// Every type.
    pub const ALL: [KvType; 4] = [KvType::F32, KvType::F16, KvType::Q8_0, KvType::Q4_0];

    /// The name used in flags and reports.
    pub const fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::Q8_0 => "q8_0",
            KvType::Q4_0 => "q4_0",
        }
    }

    /// Bytes of `numbers` numbers, of block types whole blocks.
    pub const fn bytes(self, numbers: usize) -> usize {
        match self {
            KvType::F32 => 4 * numbers,
            KvType::F16 => 2 * numbers,
            KvType::Q8_0 => numbers / KV_BLOCK * size_of::<Q8Block>(),
            KvType::Q4_0 => numbers / KV_BLOCK * size_of::<Q4Block>(),
        }
    }

    /// Whether heads of `head_dim` numbers can be kept.
    pub const fn fits(self, head_dim: usize) -> bool {
        matches!(self, KvType::F32 | KvType::F16) || head_dim.is_multiple_of(KV_BLOCK)
    }
}

#[derive(Clone)]
enum Buffer {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Q8(Vec<Q8Block>),
    Q4(Vec<Q4Block>),
}

impl Buffer {
    fn new(kind: KvType, len: usize) -> Buffer {
        match kind {
            KvType::F32 => Buffer::F32(vec![0.0; len]),
            KvType::F16 => Buffer::F16(vec![f16::ZERO; len]),
            KvType::Q8_0 => Buffer::Q8(vec![Q8Block::default(); len / KV_BLOCK]),
            KvType::Q4_0 => Buffer::Q4(vec![Q4Block::default(); len / KV_BLOCK]),
        }
    }

    /// Writes the numbers of one head.
    fn write(&mut self, at: usize, values: &[f32]) {
        let blocks = at / KV_BLOCK..(at + values.len()) / KV_BLOCK;
        match self {
            Buffer::F32(b) => b[at..at + values.len()].copy_from_slice(values),
            Buffer::F16(b) => b[at..at + values.len()].convert_from_f32_slice(values),
            Buffer::Q8(b) => encode_q8(Isa::detect(), values.len(), values, &mut b[blocks]),
            Buffer::Q4(b) => encode_q4(Isa::detect(), values.len(), values, &mut b[blocks]),
        }
    }

    fn slice(&self) -> KvSlice<'_> {
        match self {
            Buffer::F32(b) => KvSlice::F32(b),
            Buffer::F16(b) => KvSlice::F16(b),
            Buffer::Q8(b) => KvSlice::Q8_0(b),
            Buffer::Q4(b) => KvSlice::Q4_0(b),
        }
    }
}

/// Keys and values of [`PAGE`] entries, `[kv_heads, PAGE, head_dim]` each.
#[derive(Clone)]
struct Page {
    k: Buffer,
    v: Buffer,
}

#[derive(Clone, Default)]
struct Layer {
    pages: Vec<Arc<Page>>,
    /// Leading entries that belong to no row.
    seeded: usize,
    /// The position of each row's entry, in order of appending.
    positions: Vec<u32>,
}

/// What the CPU executor keeps of a sequence. Memory grows by pages as rows are appended.
#[derive(Clone)]
pub struct CpuState {
    layers: Vec<Layer>,
    kind: KvType,
    kv_heads: usize,
    head_dim: usize,
}

impl CpuState {
    /// An empty state for a decoder.
    pub fn new(config: &DecoderConfig, kind: KvType) -> CpuState {
        CpuState {
            layers: vec![Layer::default(); config.layers],
            kind,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
        }
    }

    /// Bytes of the pages that this state refers to, shared ones included.
    pub fn bytes(&self) -> usize {
        let page = 2 * self.kind.bytes(self.kv_heads * PAGE * self.head_dim);
        self.layers.iter().map(|l| l.pages.len() * page).sum()
    }

    /// Bytes that one more row of context takes in a decoder's cache.
    pub fn bytes_per_row(config: &DecoderConfig, kind: KvType) -> usize {
        2 * config.layers * kind.bytes(config.kv_heads * config.head_dim)
    }

    /// Appends rows of k and v `[rows, kv_heads * head_dim]` to a layer.
    pub(super) fn append(&mut self, layer: usize, k: &[f32], v: &[f32], positions: &[u32]) -> Result<()> {
        self.check_layer(layer)?;
        let first = self.layers[layer].seeded + self.layers[layer].positions.len();
        self.write(layer, first, k, v);
        self.layers[layer].positions.extend_from_slice(positions);
        Ok(())
    }

    fn check_layer(&self, layer: usize) -> Result<()> {
        if !self.kind.fits(self.head_dim) {
            return Err(Error::State(format!(
                "keys and values of {} numbers a head cannot be kept as {}, in blocks of {KV_BLOCK}; use f16",
                self.head_dim,
                self.kind.name()
            )));
        }
        if layer >= self.layers.len() {
            return Err(Error::State(format!("layer {layer} of a state for {} layers", self.layers.len())));
        }
        Ok(())
    }

    fn write(&mut self, layer: usize, first: usize, k: &[f32], v: &[f32]) {
        let (heads, dim, kind) = (self.kv_heads, self.head_dim, self.kind);
        let layer = &mut self.layers[layer];
        for (i, (k, v)) in k.chunks_exact(heads * dim).zip(v.chunks_exact(heads * dim)).enumerate() {
            let entry = first + i;
            if entry / PAGE == layer.pages.len() {
                let len = heads * PAGE * dim;
                layer.pages.push(Arc::new(Page { k: Buffer::new(kind, len), v: Buffer::new(kind, len) }));
            }
            // Copies the page first if a fork shares it.
            let page = Arc::make_mut(&mut layer.pages[entry / PAGE]);
            for head in 0..heads {
                let at = (head * PAGE + entry % PAGE) * dim;
                page.k.write(at, &k[head * dim..(head + 1) * dim]);
                page.v.write(at, &v[head * dim..(head + 1) * dim]);
            }
        }
    }

    /// The layer's cache as the last `rows.len()` appended rows see it.
    pub(super) fn span(&self, layer: usize, mask: Mask, rows: std::ops::Range<usize>) -> PagedSpan<'_> {
        let layer = &self.layers[layer];
        let total = layer.seeded + layer.positions.len();
        let before = layer.positions.len() - rows.len();
        let visible = (0..rows.len())
            .map(|i| {
                let end = layer.seeded + before + i + 1;
                match mask {
                    Mask::Full => 0..total,
                    Mask::Window(window) => {
                        let position = layer.positions[before + i] as usize;
                        let hidden =
                            layer.positions[..before + i].partition_point(|&p| p as usize + window <= position);
                        layer.seeded + hidden..end
                    }
                    Mask::Around(window) => {
                        let position = layer.positions[before + i] as usize;
                        let hidden = layer.positions.partition_point(|&p| p as usize + window <= position);
                        let end = layer.positions.partition_point(|&p| (p as usize) < position + window);
                        layer.seeded + hidden..layer.seeded + end
                    }
                    _ => 0..end,
                }
            })
            .collect();
        let pages = layer.pages.iter().map(|p| PageRef { k: p.k.slice(), v: p.v.slice() }).collect();
        PagedSpan { rows, pages, own: layer.seeded + before, always: layer.seeded, visible }
    }
}

impl SequenceState for CpuState {
    fn len(&self) -> usize {
        self.layers.iter().map(|l| l.positions.len()).max().unwrap_or(0)
    }

    fn fork(&self) -> CpuState {
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
            layer.pages.truncate((layer.seeded + layer.positions.len()).div_ceil(PAGE));
        }
        Ok(())
    }

    fn seed(&mut self, layer: usize, k: &[f32], v: &[f32]) -> Result<()> {
        self.check_layer(layer)?;
        let width = self.kv_heads * self.head_dim;
        if k.len() != v.len() || !k.len().is_multiple_of(width) {
            return Err(Error::State(format!("seeds of {} and {} numbers for rows of {width}", k.len(), v.len())));
        }
        if !self.layers[layer].pages.is_empty() {
            return Err(Error::State(format!("layer {layer} has entries already; seeds come first")));
        }
        self.write(layer, 0, k, v);
        self.layers[layer].seeded = k.len() / width;
        Ok(())
    }
}

impl std::fmt::Debug for CpuState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CpuState({} rows, {} layers, {})", self.len(), self.layers.len(), self.kind.name())
    }
}

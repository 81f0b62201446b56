//! The CPU executor's sequence state: keys and values of each layer in pages that forks share.
//!
//! A layer with a window is a ring of pages: what no later row can see goes, but for some slack that a rollback may
//! go back over, and its memory takes the next rows.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use porism_kernels::arena::Arena;
use porism_kernels::attention::paged::{KV_BLOCK, PAGE, PageMut, PageRef, PagedSpan, write_entries};
use porism_kernels::attention::{Mask, Tree};
use porism_kernels::{Isa, Pool};

use super::kv::{Buffer, KvType};
use crate::config::ModelConfig;
use crate::state::{Mark, SequenceState};
use crate::{Error, Result};

/// Keys and values of [`PAGE`] entries of all heads.
#[derive(Clone)]
struct Page {
    k: Buffer,
    v: Buffer,
}

/// Rows that a layer with a window keeps beyond it, so that drafts can be taken back.
const SLACK: usize = 64;

#[derive(Clone, Default)]
struct Layer {
    pages: VecDeque<Arc<Page>>,
    /// Pages before the first one that were given up.
    gone: usize,
    /// A page that was given up, for the next rows.
    spare: Option<Arc<Page>>,
    /// Positions that a row sees, where they are limited.
    window: Option<usize>,
    /// Leading entries that belong to no row.
    seeded: usize,
    /// The position of each row's entry, in order of appending.
    positions: Vec<u32>,
}

impl Layer {
    /// The first entry that a row at `position` sees.
    fn first_seen(&self, window: usize, position: u32) -> usize {
        self.positions.partition_point(|&p| p as usize + window <= position as usize)
    }

    /// Drops the pages that no row from `position` on will see, slack considered.
    fn give_up(&mut self, position: u32) {
        // Seeds are seen by every row and stand in the first pages.
        let Some(window) = self.window.filter(|_| self.seeded == 0) else { return };
        let first = self.first_seen(window + SLACK, position) / PAGE;
        while self.gone < first {
            let Some(page) = self.pages.pop_front() else { break };
            self.gone += 1;
            self.spare = Some(page).filter(|page| Arc::strong_count(page) == 1).or(self.spare.take());
        }
    }

    /// Whether the rows up to `len` are still there for the row that would follow them.
    fn keeps(&self, len: usize) -> bool {
        let Some(window) = self.window else { return true };
        let Some(&last) = self.positions.get(len.wrapping_sub(1)) else { return true };
        self.first_seen(window, last + 1).min(len) >= self.gone * PAGE
    }
}

/// What the CPU executor keeps of a sequence. Memory grows by pages as rows are appended.
#[derive(Clone)]
pub struct CpuState {
    layers: Vec<Layer>,
    kind: KvType,
    kv_heads: usize,
    head_dim: usize,
    /// Where pages come from and go to; forks share it.
    arena: Arena,
}

impl CpuState {
    /// An empty state for a decoder.
    pub fn new(config: &ModelConfig, kind: KvType) -> CpuState {
        CpuState {
            // Without causality every row sees to both sides, and nothing may go.
            layers: config
                .layer_specs
                .iter()
                .map(|l| Layer { window: l.window.filter(|_| !config.bidirectional), ..Layer::default() })
                .collect(),
            kind,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            arena: Arena::new(),
        }
    }

    /// Bytes of the pages that this state refers to, shared ones included.
    pub fn bytes(&self) -> usize {
        let page = 2 * self.kind.bytes(self.kv_heads * PAGE * self.head_dim);
        self.layers.iter().map(|l| (l.pages.len() + usize::from(l.spare.is_some())) * page).sum()
    }

    /// Bytes that one more row of context takes in a decoder's cache.
    pub fn bytes_per_row(config: &ModelConfig, kind: KvType) -> usize {
        2 * config.layers * kind.bytes(config.kv_heads * config.head_dim)
    }

    /// Bytes of the cache at a context of `rows`: a layer with a window keeps no more than that, the slack and the
    /// rows of one pass.
    pub fn bytes_at(config: &ModelConfig, kind: KvType, rows: usize) -> usize {
        let row = 2 * kind.bytes(config.kv_heads * config.head_dim);
        let kept = |window: Option<usize>| window.map_or(rows, |w| rows.min(w + SLACK + PAGE));
        config.layer_specs.iter().map(|l| kept(l.window).div_ceil(PAGE) * PAGE * row).sum()
    }

    /// Appends rows of k and v `[rows, kv_heads * head_dim]` to a layer.
    pub(super) fn append(
        &mut self,
        pool: &Pool,
        isa: Isa,
        layer: usize,
        k: &[f32],
        v: &[f32],
        positions: &[u32],
    ) -> Result<()> {
        self.check_layer(layer)?;
        let first = self.layers[layer].seeded + self.layers[layer].positions.len();
        if let Some(&position) = positions.first() {
            self.layers[layer].give_up(position);
        }
        self.write(pool, isa, layer, first, k, v);
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

    /// Writes rows as the entries from `first` on.
    fn write(&mut self, pool: &Pool, isa: Isa, layer: usize, first: usize, k: &[f32], v: &[f32]) {
        let (heads, dim, kind) = (self.kv_heads, self.head_dim, self.kind);
        let end = first + k.len() / (heads * dim);
        if first == end {
            return;
        }
        let (layer, arena) = (&mut self.layers[layer], &self.arena);
        while (layer.gone + layer.pages.len()) * PAGE < end {
            let len = heads * PAGE * dim;
            let room = || Buffer::new(arena, kind, len);
            let fresh = || Arc::new(Page { k: room(), v: room() });
            layer.pages.push_back(layer.spare.take().unwrap_or_else(fresh));
        }
        let entry = first - layer.gone * PAGE;
        let mut pages: Vec<PageMut<'_>> = layer
            .pages
            .range_mut(entry / PAGE..(end - layer.gone * PAGE).div_ceil(PAGE))
            // Copies the page first if a fork shares it.
            .map(Arc::make_mut)
            .map(|page| PageMut { k: page.k.slice_mut(), v: page.v.slice_mut() })
            .collect();
        write_entries(pool, isa, heads, dim, &mut pages, entry % PAGE, k, v);
    }

    /// The layer's cache as the last `rows.len()` appended rows see it; if they branch, as `tree` says.
    pub(super) fn span(&self, layer: usize, mask: Mask, rows: Range<usize>, tree: Option<&Tree>) -> PagedSpan<'_> {
        let layer = &self.layers[layer];
        let before = layer.positions.len() - rows.len();
        // Entries are counted from the first page that is still there.
        let gone = layer.gone * PAGE;
        let visible = mask.rows(&layer.positions, rows.len(), layer.seeded, tree).without(gone);
        let pages = layer.pages.iter().map(|p| PageRef { k: p.k.slice(), v: p.v.slice() }).collect();
        PagedSpan { rows, pages, own: layer.seeded + before - gone, visible }
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
        if !self.keeps(mark) {
            return Err(Error::State(format!(
                "row {} lies before what the layers with a window still hold: begin anew",
                mark.0
            )));
        }
        for layer in &mut self.layers {
            layer.positions.truncate(mark.0);
            if layer.positions.is_empty() && layer.seeded == 0 {
                layer.gone = 0;
            }
            let end = (layer.seeded + layer.positions.len()).div_ceil(PAGE);
            layer.pages.truncate(end.saturating_sub(layer.gone));
        }
        Ok(())
    }

    fn keeps(&self, mark: Mark) -> bool {
        self.layers.iter().all(|l| l.keeps(mark.0))
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
        self.write(&Pool::new(1), Isa::detect(), layer, 0, k, v);
        self.layers[layer].seeded = k.len() / width;
        Ok(())
    }
}

impl std::fmt::Debug for CpuState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CpuState({} rows, {} layers, {})", self.len(), self.layers.len(), self.kind.name())
    }
}

//! Scores: queries against a panel of keys, `[features][32 entries]` as the cache keeps them.
//!
//! A lane is an entry, so nothing is transposed: each feature is one step of a matrix product whose tile of sums
//! stays in registers. Up to six queries share a panel. A sum runs over the features in order; that of blocks over
//! the 32 features of a block, then over the blocks, each times its scale.

use half::f16;

use super::kv::{Q4Tile, Q8Tile};
use super::vector::{Kernel, Vector, prefetch};
use super::{BLOCK, KV_BLOCK};

/// Numbers in memory that widen to f32.
pub(super) trait Numbers: Copy {
    /// Numbers `at .. at + 8`.
    unsafe fn load<V: Vector>(self, at: usize) -> V;
    /// Asks for what lies `bytes` behind number `at`.
    fn fetch(self, at: usize, bytes: usize);
}

impl Numbers for *const f32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(self, at: usize) -> V {
        // SAFETY: the caller's.
        unsafe { V::load(self.add(at)) }
    }
    #[inline(always)]
    fn fetch(self, _: usize, _: usize) {}
}

impl Numbers for *const f16 {
    #[inline(always)]
    unsafe fn load<V: Vector>(self, at: usize) -> V {
        // SAFETY: the caller's.
        unsafe { V::load_f16(self.add(at)) }
    }
    #[inline(always)]
    fn fetch(self, at: usize, bytes: usize) {
        prefetch(self.wrapping_add(at).wrapping_byte_add(bytes));
    }
}

impl Numbers for *const i8 {
    #[inline(always)]
    unsafe fn load<V: Vector>(self, at: usize) -> V {
        // SAFETY: the caller's.
        unsafe { V::load_i8(self.add(at)) }
    }
    #[inline(always)]
    fn fetch(self, at: usize, bytes: usize) {
        prefetch(self.wrapping_add(at).wrapping_byte_add(bytes));
    }
}

/// The low halves of bytes.
#[derive(Clone, Copy)]
pub(super) struct Low(pub(super) *const u8);

impl Numbers for Low {
    #[inline(always)]
    unsafe fn load<V: Vector>(self, at: usize) -> V {
        // SAFETY: the caller's.
        unsafe { V::load_low(self.0.add(at)) }
    }
    #[inline(always)]
    fn fetch(self, at: usize, bytes: usize) {
        prefetch(self.0.wrapping_add(at).wrapping_byte_add(bytes));
    }
}

/// The high halves of bytes.
#[derive(Clone, Copy)]
pub(super) struct High(pub(super) *const u8);

impl Numbers for High {
    #[inline(always)]
    unsafe fn load<V: Vector>(self, at: usize) -> V {
        // SAFETY: the caller's.
        unsafe { V::load_high(self.0.add(at)) }
    }
    #[inline(always)]
    fn fetch(self, _: usize, _: usize) {}
}

/// A panel of keys.
pub(super) trait Panel: Copy {
    /// Whether the numbers come in blocks of 32 features with scales.
    const BLOCKS: bool;
    /// Adds the products of the block's features, or of all, in order.
    unsafe fn multiply<V: Vector, const N: usize, const W: usize>(
        self,
        block: usize,
        q: Queries,
        at: usize,
        sums: &mut [[V; W]; N],
    );
    /// The scales of a block's entries `at .. at + 8`.
    unsafe fn scales<V: Vector>(self, block: usize, at: usize) -> V;
}

/// Lines of queries: `features` numbers each, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Queries {
    pub(super) start: *const f32,
    pub(super) stride: usize,
    pub(super) features: usize,
}

impl Queries {
    #[inline(always)]
    unsafe fn block(self, first: usize, features: usize) -> Queries {
        // SAFETY: the caller's.
        Queries { start: unsafe { self.start.add(first) }, features, ..self }
    }
}

#[inline(always)]
unsafe fn products<V: Vector, S: Numbers, const N: usize, const W: usize>(
    keys: S,
    q: Queries,
    at: usize,
    sums: &mut [[V; W]; N],
) {
    // SAFETY: the caller's.
    unsafe {
        let mut acc = *sums;
        for d in 0..q.features {
            keys.fetch(d * BLOCK, AHEAD);
            let mut k = [V::splat(0.0); W];
            for (w, k) in k.iter_mut().enumerate() {
                *k = keys.load(d * BLOCK + at + 8 * w);
            }
            for (n, acc) in acc.iter_mut().enumerate() {
                let x = V::splat(*q.start.add(n * q.stride + d));
                for (acc, k) in acc.iter_mut().zip(&k) {
                    *acc = k.fma(x, *acc);
                }
            }
        }
        *sums = acc;
    }
}

/// Bytes that are fetched ahead of the ones in use.
pub(super) const AHEAD: usize = 4096;

/// Plain numbers.
#[derive(Clone, Copy)]
pub(super) struct Flat<S>(pub(super) S);

impl<S: Numbers> Panel for Flat<S> {
    const BLOCKS: bool = false;
    #[inline(always)]
    unsafe fn multiply<V: Vector, const N: usize, const W: usize>(
        self,
        _: usize,
        q: Queries,
        at: usize,
        sums: &mut [[V; W]; N],
    ) {
        // SAFETY: the caller's.
        unsafe { products(self.0, q, at, sums) }
    }
    #[inline(always)]
    unsafe fn scales<V: Vector>(self, _: usize, _: usize) -> V {
        // SAFETY: the caller's.
        unsafe { V::splat(1.0) }
    }
}

impl Panel for *const Q8Tile {
    const BLOCKS: bool = true;
    #[inline(always)]
    unsafe fn multiply<V: Vector, const N: usize, const W: usize>(
        self,
        block: usize,
        q: Queries,
        at: usize,
        sums: &mut [[V; W]; N],
    ) {
        // SAFETY: the caller's.
        unsafe { products((&raw const (*self.add(block)).quants).cast::<i8>(), q, at, sums) }
    }
    #[inline(always)]
    unsafe fn scales<V: Vector>(self, block: usize, at: usize) -> V {
        // SAFETY: the caller's.
        unsafe { V::load_f16((&raw const (*self.add(block)).scales).cast::<f16>().add(at)) }
    }
}

impl Panel for *const Q4Tile {
    const BLOCKS: bool = true;
    #[inline(always)]
    unsafe fn multiply<V: Vector, const N: usize, const W: usize>(
        self,
        block: usize,
        q: Queries,
        at: usize,
        sums: &mut [[V; W]; N],
    ) {
        // SAFETY: the caller's.
        unsafe {
            let bytes = (&raw const (*self.add(block)).quants).cast::<u8>();
            products(Low(bytes), q.block(0, KV_BLOCK / 2), at, sums);
            products(High(bytes), q.block(KV_BLOCK / 2, KV_BLOCK / 2), at, sums);
        }
    }
    #[inline(always)]
    unsafe fn scales<V: Vector>(self, block: usize, at: usize) -> V {
        // SAFETY: the caller's.
        unsafe { V::load_f16((&raw const (*self.add(block)).scales).cast::<f16>().add(at)) }
    }
}

/// Blocks whose quants and scales were widened.
#[derive(Clone, Copy)]
pub(super) struct Widened {
    /// `[features][32]`.
    pub(super) quants: *const f32,
    /// `[blocks][32]`.
    pub(super) scales: *const f32,
}

impl Panel for Widened {
    const BLOCKS: bool = true;
    #[inline(always)]
    unsafe fn multiply<V: Vector, const N: usize, const W: usize>(
        self,
        block: usize,
        q: Queries,
        at: usize,
        sums: &mut [[V; W]; N],
    ) {
        // SAFETY: the caller's.
        unsafe { products(self.quants.add(block * KV_BLOCK * BLOCK), q, at, sums) }
    }
    #[inline(always)]
    unsafe fn scales<V: Vector>(self, block: usize, at: usize) -> V {
        // SAFETY: the caller's.
        unsafe { V::load(self.scales.add(block * BLOCK + at)) }
    }
}

/// The scores of up to six lines for the 32 entries of a panel.
///
/// The queries and the panel hold `q.features` features, whole blocks of them where it is of blocks; each of the
/// lines of `out`, `out_stride` apart, has room for 32 numbers.
pub(super) struct Scores<P> {
    pub(super) panel: P,
    pub(super) q: Queries,
    pub(super) lines: usize,
    pub(super) out: *mut f32,
    pub(super) out_stride: usize,
}

impl<P: Panel> Scores<P> {
    #[inline(always)]
    unsafe fn tile<V: Vector, const N: usize, const W: usize>(&self) {
        // SAFETY: the caller's.
        unsafe {
            let block = if P::BLOCKS { KV_BLOCK } else { self.q.features };
            for at in (0..BLOCK).step_by(8 * W) {
                let mut total = [[V::splat(0.0); W]; N];
                for b in 0..self.q.features / block {
                    let mut sums = [[V::splat(0.0); W]; N];
                    self.panel.multiply(b, self.q.block(b * block, block), at, &mut sums);
                    for w in 0..W {
                        let scales = self.panel.scales::<V>(b, at + 8 * w);
                        for n in 0..N {
                            total[n][w] = if P::BLOCKS { sums[n][w].fma(scales, total[n][w]) } else { sums[n][w] };
                        }
                    }
                }
                for (n, total) in total.iter().enumerate() {
                    for (w, total) in total.iter().enumerate() {
                        total.store(self.out.add(n * self.out_stride + at + 8 * w));
                    }
                }
            }
        }
    }
}

impl<P: Panel> Kernel for Scores<P> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's.
        unsafe {
            if V::REGISTERS >= 32 {
                match self.lines {
                    1 => self.tile::<V, 1, 4>(),
                    2 => self.tile::<V, 2, 4>(),
                    3 => self.tile::<V, 3, 4>(),
                    4 => self.tile::<V, 4, 4>(),
                    5 => self.tile::<V, 5, 4>(),
                    _ => self.tile::<V, 6, 4>(),
                }
            } else {
                match self.lines {
                    1 => self.tile::<V, 1, 4>(),
                    2 => self.tile::<V, 2, 4>(),
                    3 => self.tile::<V, 3, 2>(),
                    4 => self.tile::<V, 4, 2>(),
                    5 => self.tile::<V, 5, 2>(),
                    _ => self.tile::<V, 6, 2>(),
                }
            }
        }
    }
}

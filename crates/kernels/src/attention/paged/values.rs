//! Weighted values: lines of weights against the values of some entries, `[entry][feature]` as the cache keeps them.
//!
//! A lane is a feature. A sum runs over the entries in order, so it may be interrupted and taken up again.

use std::ops::Range;

use super::scores::{AHEAD, Numbers};
use super::vector::{Kernel, Vector};

/// Values that rows of features are read from.
pub(super) trait Rows: Copy {
    /// Features `8 * vector ..` of an entry.
    unsafe fn load<V: Vector>(self, entry: usize, vector: usize) -> V;
    /// Asks for what comes later.
    fn fetch(self, entry: usize, vector: usize);
}

/// Rows of numbers, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Strided<S> {
    pub(super) start: S,
    pub(super) stride: usize,
}

impl<S: Numbers> Rows for Strided<S> {
    #[inline(always)]
    unsafe fn load<V: Vector>(self, entry: usize, vector: usize) -> V {
        // SAFETY: the caller's.
        unsafe { self.start.load(entry * self.stride + 8 * vector) }
    }
    #[inline(always)]
    fn fetch(self, entry: usize, vector: usize) {
        self.start.fetch(entry * self.stride + 8 * vector, AHEAD);
    }
}

/// The quants of a tile of 4-bit values, `[32 entries][16 bytes]`.
#[derive(Clone, Copy)]
pub(super) struct Halves(pub(super) *const u8);

impl Rows for Halves {
    #[inline(always)]
    unsafe fn load<V: Vector>(self, entry: usize, vector: usize) -> V {
        // SAFETY: the caller's.
        unsafe {
            if vector < 2 {
                V::load_low(self.0.add(entry * 16 + 8 * vector))
            } else {
                V::load_high(self.0.add(entry * 16 + 8 * (vector - 2)))
            }
        }
    }
    #[inline(always)]
    fn fetch(self, _: usize, _: usize) {}
}

/// Adds the weighted values of the entries `entries` to up to six lines.
///
/// Line `n` of the weights starts at `weights + n * weight_stride`, its first number being that of entry 0; line `n`
/// of the sums at `out + n * out_stride`, with `8 * vectors` numbers. `vectors` is even.
pub(super) struct Values<R> {
    pub(super) rows: R,
    pub(super) vectors: usize,
    pub(super) entries: Range<usize>,
    pub(super) weights: *const f32,
    pub(super) weight_stride: usize,
    pub(super) lines: usize,
    pub(super) out: *mut f32,
    pub(super) out_stride: usize,
}

impl<R: Rows> Values<R> {
    #[inline(always)]
    unsafe fn tile<V: Vector, const N: usize, const W: usize>(&self, first: usize) {
        // SAFETY: the caller's.
        unsafe {
            let mut acc = [[V::splat(0.0); W]; N];
            for (n, acc) in acc.iter_mut().enumerate() {
                for (w, acc) in acc.iter_mut().enumerate() {
                    *acc = V::load(self.out.add(n * self.out_stride + 8 * (first + w)));
                }
            }
            for j in self.entries.start..self.entries.end {
                // A cache line holds two to eight vectors.
                for w in (0..W).step_by(4) {
                    self.rows.fetch(j, first + w);
                }
                let mut x = [V::splat(0.0); N];
                for (n, x) in x.iter_mut().enumerate() {
                    *x = V::splat(*self.weights.add(n * self.weight_stride + j));
                }
                for w in 0..W {
                    let v: V = self.rows.load(j, first + w);
                    for (x, acc) in x.iter().zip(&mut acc) {
                        acc[w] = v.fma(*x, acc[w]);
                    }
                }
            }
            for (n, acc) in acc.iter().enumerate() {
                for (w, acc) in acc.iter().enumerate() {
                    acc.store(self.out.add(n * self.out_stride + 8 * (first + w)));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn narrow<V: Vector, const N: usize>(&self, mut first: usize) {
        // SAFETY: the caller's.
        unsafe {
            while first < self.vectors {
                self.tile::<V, N, 2>(first);
                first += 2;
            }
        }
    }

    /// All features of a head of 64 at once, so that the values are read from beginning to end.
    #[inline(always)]
    unsafe fn widest<V: Vector, const N: usize>(&self) {
        // SAFETY: the caller's.
        unsafe {
            let mut first = 0;
            while first + 8 <= self.vectors {
                self.tile::<V, N, 8>(first);
                first += 8;
            }
            self.wide::<V, N>(first);
        }
    }

    #[inline(always)]
    unsafe fn wide<V: Vector, const N: usize>(&self, mut first: usize) {
        // SAFETY: the caller's.
        unsafe {
            while first + 4 <= self.vectors {
                self.tile::<V, N, 4>(first);
                first += 4;
            }
            self.narrow::<V, N>(first);
        }
    }
}

impl<R: Rows> Kernel for Values<R> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's.
        unsafe {
            if V::REGISTERS >= 32 {
                match self.lines {
                    1 => self.widest::<V, 1>(),
                    2 => self.widest::<V, 2>(),
                    3 => self.widest::<V, 3>(),
                    4 => self.wide::<V, 4>(0),
                    5 => self.wide::<V, 5>(0),
                    _ => self.wide::<V, 6>(0),
                }
            } else {
                match self.lines {
                    1 => self.wide::<V, 1>(0),
                    2 => self.wide::<V, 2>(0),
                    3 => self.narrow::<V, 3>(0),
                    4 => self.narrow::<V, 4>(0),
                    5 => self.narrow::<V, 5>(0),
                    _ => self.narrow::<V, 6>(0),
                }
            }
        }
    }
}

/// `out[n][j] = weights[n][j] * scales[j]` for `count` entries, a multiple of eight.
pub(super) struct Weigh<S> {
    pub(super) weights: *const f32,
    pub(super) weight_stride: usize,
    pub(super) scales: S,
    pub(super) count: usize,
    pub(super) lines: usize,
    pub(super) out: *mut f32,
    pub(super) out_stride: usize,
}

impl<S: Numbers> Kernel for Weigh<S> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's.
        unsafe {
            for j in (0..self.count).step_by(8) {
                let scale: V = self.scales.load(j);
                for n in 0..self.lines {
                    let w = V::load(self.weights.add(n * self.weight_stride + j));
                    w.mul(scale).store(self.out.add(n * self.out_stride + j));
                }
            }
        }
    }
}

/// Widens rows of 16 numbers: `count` of them, `from_stride` and `to_stride` apart.
pub(super) struct Widen<S> {
    pub(super) from: S,
    pub(super) from_stride: usize,
    pub(super) to: *mut f32,
    pub(super) to_stride: usize,
    pub(super) count: usize,
}

impl<S: Numbers> Kernel for Widen<S> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's.
        unsafe {
            for i in 0..self.count {
                let (from, to) = (i * self.from_stride, self.to.add(i * self.to_stride));
                self.from.load::<V>(from).store(to);
                self.from.load::<V>(from + 8).store(to.add(8));
            }
        }
    }
}

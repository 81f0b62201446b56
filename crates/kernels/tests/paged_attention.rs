//! Attention over pages: against a plain f64 evaluation, to the bit across levels, batches and threads.

use std::ops::Range;

use half::f16;
use porism_kernels::attention::paged::{
    KV_BLOCK, KvSlice, PAGE, PageRef, PagedShape, PagedSpan, Q4Block, Q8Block, decode_q4, decode_q8, encode_q4,
    encode_q8, paged_forward,
};
use porism_kernels::attention::{Mask, RelativeBias, Tree, Visible};
use porism_kernels::{Isa, Pool};

struct Random(u64);

impl Random {
    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n)
            .map(|_| {
                self.0 ^= self.0 << 13;
                self.0 ^= self.0 >> 7;
                self.0 ^= self.0 << 17;
                (self.0 >> 40) as f32 / (1u64 << 22) as f32 - 2.0
            })
            .collect()
    }
}

struct Cache {
    k: Vec<Vec<f32>>,
    v: Vec<Vec<f32>>,
    k16: Vec<Vec<f16>>,
    v16: Vec<Vec<f16>>,
}

impl Cache {
    /// Values that half precision holds exactly, so that both kinds of pages mean the same numbers.
    fn new(random: &mut Random, pages: usize, page_len: usize) -> Cache {
        let mut make = || -> Vec<Vec<f32>> {
            (0..pages).map(|_| random.floats(page_len).iter().map(|v| f16::from_f32(*v).to_f32()).collect()).collect()
        };
        let (k, v) = (make(), make());
        let half = |x: &Vec<Vec<f32>>| x.iter().map(|p| p.iter().map(|v| f16::from_f32(*v)).collect()).collect();
        Cache { k16: half(&k), v16: half(&v), k, v }
    }

    fn pages(&self, half: bool) -> Vec<PageRef<'_>> {
        (0..self.k.len())
            .map(|i| {
                if half {
                    PageRef { k: KvSlice::F16(&self.k16[i]), v: KvSlice::F16(&self.v16[i]) }
                } else {
                    PageRef { k: KvSlice::F32(&self.k[i]), v: KvSlice::F32(&self.v[i]) }
                }
            })
            .collect()
    }
}

fn in_f64(shape: &PagedShape<'_>, cache: &Cache, own: usize, seen: &[Range<usize>], q: &[f32]) -> Vec<f64> {
    let (dim, group) = (shape.head_dim, shape.heads / shape.kv_heads);
    let entries: Vec<usize> = seen.iter().cloned().flatten().collect();
    (0..shape.heads)
        .flat_map(|h| {
            let row = |data: &[Vec<f32>], j: usize| -> Vec<f64> {
                let at = (h / group * PAGE + j % PAGE) * dim;
                data[j / PAGE][at..at + dim].iter().map(|v| f64::from(*v)).collect()
            };
            let scores: Vec<f64> = entries
                .iter()
                .map(|&j| {
                    let dot: f64 = row(&cache.k, j).iter().zip(&q[h * dim..]).map(|(k, q)| k * f64::from(*q)).sum();
                    let s = dot * f64::from(shape.scale);
                    let s = shape.softcap.map_or(s, |c| f64::from(c) * (s / f64::from(c)).tanh());
                    s + shape.bias.map_or(0.0, |b| {
                        let index = (j as i64 - own as i64 + b.max as i64).clamp(0, 2 * b.max as i64);
                        f64::from(b.table[h * (2 * b.max + 1) + index as usize])
                    })
                })
                .collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|s| (s - top).exp()).sum();
            let mut out = vec![0.0; dim];
            for (&j, s) in entries.iter().zip(&scores) {
                for (o, v) in out.iter_mut().zip(row(&cache.v, j)) {
                    *o += (s - top).exp() / total * v;
                }
            }
            out
        })
        .collect()
}

#[test]
fn agrees_with_f64_and_to_the_bit_with_itself() {
    let mut random = Random(3);
    for (heads, kv_heads, head_dim, softcap, max) in [
        (9, 3, 64, None, None),
        (4, 4, 8, None, Some(300)),
        (4, 1, 80, Some(3.0), None),
        (6, 3, 36, None, None),
        (5, 1, 128, None, None),
        (2, 1, 32, Some(3.0), Some(20)),
    ] {
        let bias = max.map(|max| RelativeBias { heads, max, table: random.floats(heads * (2 * max + 1)) });
        let shape = PagedShape { heads, kv_heads, head_dim, scale: 0.11, softcap, bias: bias.as_ref() };
        let width = heads * head_dim;
        let cache = Cache::new(&mut random, 3, kv_heads * PAGE * head_dim);
        let rows = 40;
        let q = random.floats(rows * width);
        let prefixed = |always: usize, rows: &[Range<usize>]| {
            let mut visible = Visible::default();
            rows.iter().for_each(|row| visible.push([0..always, row.clone()]));
            visible
        };
        // A tree: each row's parent is one of the few before it.
        let parents = (0..rows).map(|i: usize| i.checked_sub(1 + i * i % 5)).collect();
        let tree = Tree::new(parents).expect("a tree");
        let positions = |before: usize| -> Vec<u32> {
            (0..before).chain((0..rows).map(|i| before + tree.depth(i))).map(|p| p as u32).collect()
        };
        for (first, visible) in [
            // Causal from an empty cache; causal deep in the cache; a window; a window behind a prefix; both
            // sides of a row; trees, one with a window that is longer than the branches are.
            (0, (0..rows).map(|i| 0..i + 1).collect::<Visible>()),
            (599, (0..rows).map(|i| 0..i + 600).collect()),
            (269, (0..rows).map(|i| i + 230..i + 270).collect()),
            (529, prefixed(5, &(0..rows).map(|i| i + 480..i + 530).collect::<Vec<_>>())),
            (250, (0..rows).map(|i| i + 200..i + 300).collect()),
            (240, Mask::Causal.rows(&positions(240), rows, 0, Some(&tree))),
            (504, Mask::Window(300).rows(&positions(500), rows, 4, Some(&tree))),
            (246, Mask::Window(3).rows(&positions(246), rows, 0, Some(&tree))),
        ] {
            let part = |rows: Range<usize>| {
                let mut part = Visible::default();
                rows.for_each(|row| part.push(visible.row(row).iter().cloned()));
                part
            };
            let span = |half, rows: Range<usize>, at: usize| PagedSpan {
                visible: part(at..at + rows.len()),
                rows,
                own: first + at,
                pages: cache.pages(half),
            };
            let mut reference = vec![0.0; rows * width];
            paged_forward(&Pool::new(1), Isa::Scalar, &shape, &[span(false, 0..rows, 0)], &q, &mut reference);
            for row in [0, 1, 17, rows - 1] {
                let want = in_f64(&shape, &cache, first + row, visible.row(row), &q[row * width..(row + 1) * width]);
                for (got, want) in reference[row * width..(row + 1) * width].iter().zip(want) {
                    assert!((f64::from(*got) - want).abs() < 2e-5, "{got} for {want}");
                }
            }
            for isa in Isa::available() {
                for threads in [1, 2, 3] {
                    let pool = Pool::new(threads);
                    for half in [false, true] {
                        let mut out = vec![f32::NAN; rows * width];
                        paged_forward(&pool, isa, &shape, &[span(half, 0..rows, 0)], &q, &mut out);
                        assert_eq!(out, reference, "{isa:?}, {threads} threads, half {half}");
                    }
                    // Alone, then packed with another sequence.
                    let mut out = vec![f32::NAN; width];
                    let row = &q[7 * width..8 * width];
                    paged_forward(&pool, isa, &shape, &[span(false, 0..1, 7)], row, &mut out);
                    assert_eq!(out, reference[7 * width..8 * width]);
                    let mut out = vec![f32::NAN; 5 * width];
                    let spans = [span(true, 0..2, 30), span(false, 2..5, 7)];
                    let mut packed = q[30 * width..32 * width].to_vec();
                    packed.extend_from_slice(&q[7 * width..10 * width]);
                    paged_forward(&pool, isa, &shape, &spans, &packed, &mut out);
                    assert_eq!(out[..2 * width], reference[30 * width..32 * width]);
                    assert_eq!(out[2 * width..], reference[7 * width..10 * width]);
                }
            }
        }
    }
}

type Encode<B> = fn(Isa, usize, &[f32], &mut [B]);
type Decode<B> = fn(Isa, usize, &[B], &mut [f32]);

/// The keys (or values) of pages as blocks, and as the numbers that the blocks stand for.
fn rounded<B: Clone + Default>(
    pages: &[Vec<f32>],
    dim: usize,
    encode: Encode<B>,
    decode: Decode<B>,
) -> (Vec<Vec<B>>, Vec<Vec<f32>>) {
    let round = |page: &Vec<f32>| {
        let (mut blocks, mut wide) = (vec![B::default(); page.len() / KV_BLOCK], vec![0.0; page.len()]);
        encode(Isa::detect(), dim, page, &mut blocks);
        decode(Isa::detect(), dim, &blocks, &mut wide);
        (blocks, wide)
    };
    pages.iter().map(round).unzip()
}

fn refs<'a, T>(k: &'a [Vec<T>], v: &'a [Vec<T>], slice: fn(&'a [T]) -> KvSlice<'a>) -> Vec<PageRef<'a>> {
    k.iter().zip(v).map(|(k, v)| PageRef { k: slice(k), v: slice(v) }).collect()
}

#[test]
fn rounded_pages_stand_for_their_numbers() {
    let mut random = Random(5);
    for (heads, kv_heads, head_dim) in [(4, 2, 64), (3, 1, 128), (2, 2, 32), (2, 1, 96)] {
        let shape = PagedShape { heads, kv_heads, head_dim, scale: 0.11, softcap: None, bias: None };
        let width = heads * head_dim;
        let cache = Cache::new(&mut random, 2, kv_heads * PAGE * head_dim);
        let q = random.floats(20 * width);
        let run = |isa: Isa, threads: usize, pages: Vec<PageRef<'_>>| {
            let visible = (0..20).map(|i| 3 * i..300 + i).collect();
            let span = PagedSpan { rows: 0..20, pages, own: 299, visible };
            let mut out = vec![f32::NAN; 20 * width];
            paged_forward(&Pool::new(threads), isa, &shape, &[span], &q, &mut out);
            out
        };
        let (k8, wide_k8) = rounded::<Q8Block>(&cache.k, head_dim, encode_q8, decode_q8);
        let (v8, wide_v8) = rounded::<Q8Block>(&cache.v, head_dim, encode_q8, decode_q8);
        let (k4, wide_k4) = rounded::<Q4Block>(&cache.k, head_dim, encode_q4, decode_q4);
        let (v4, wide_v4) = rounded::<Q4Block>(&cache.v, head_dim, encode_q4, decode_q4);
        let want8 = run(Isa::Scalar, 1, refs(&wide_k8, &wide_v8, KvSlice::F32));
        let want4 = run(Isa::Scalar, 1, refs(&wide_k4, &wide_v4, KvSlice::F32));
        for (want, pages) in [(want8, refs(&k8, &v8, KvSlice::Q8_0)), (want4, refs(&k4, &v4, KvSlice::Q4_0))] {
            let reference = run(Isa::Scalar, 1, pages.clone());
            // The same sums in another frame.
            for (got, want) in reference.iter().zip(&want) {
                assert!((got - want).abs() < 2e-5, "{got} for {want}, {head_dim}");
            }
            for isa in Isa::available() {
                for threads in [1, 2] {
                    assert!(run(isa, threads, pages.clone()) == reference, "{isa:?}, {threads} threads, {head_dim}");
                }
            }
        }
    }
}

#[test]
fn keys_and_values_may_be_kept_differently() {
    let mut random = Random(6);
    let shape = PagedShape { heads: 2, kv_heads: 1, head_dim: 64, scale: 0.11, softcap: None, bias: None };
    let cache = Cache::new(&mut random, 1, PAGE * 64);
    let q = random.floats(4 * 128);
    let (blocks, wide) = rounded::<Q8Block>(&cache.k, 64, encode_q8, decode_q8);
    let run = |k: KvSlice<'_>, v: KvSlice<'_>| {
        let span = |rows: Range<usize>, k, v| {
            let visible = rows.clone().map(|i| 0..100 + i).collect();
            PagedSpan { rows, pages: vec![PageRef { k, v }], own: 99, visible }
        };
        let mut out = vec![f32::NAN; 4 * 128];
        // A sequence of plain numbers beside it.
        let spans = [span(0..2, k, v), span(2..4, KvSlice::F32(&wide[0]), KvSlice::F32(&wide[0]))];
        paged_forward(&Pool::new(2), Isa::detect(), &shape, &spans, &q, &mut out);
        out
    };
    let (b, w) = (KvSlice::Q8_0(&blocks[0]), KvSlice::F32(&wide[0]));
    let want = run(w, w);
    for (k, v) in [(b, w), (w, b), (b, b)] {
        assert!(run(k, v).iter().zip(&want).all(|(g, w)| (g - w).abs() < 2e-5));
        assert_eq!(run(k, v)[2 * 128..], want[2 * 128..]);
    }
}

#[test]
#[should_panic(expected = "do not fill blocks of 32")]
fn blocks_need_heads_of_whole_blocks() {
    let shape = PagedShape { heads: 1, kv_heads: 1, head_dim: 48, scale: 1.0, softcap: None, bias: None };
    let page = vec![Q8Block::default(); PAGE * 48 / KV_BLOCK];
    let pages = vec![PageRef { k: KvSlice::Q8_0(&page), v: KvSlice::Q8_0(&page) }];
    let span = PagedSpan { rows: 0..1, pages, own: 0, visible: std::iter::once(0..1).collect() };
    paged_forward(&Pool::new(1), Isa::detect(), &shape, &[span], &[0.0; 48], &mut [0.0; 48]);
}

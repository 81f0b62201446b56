//! Attention over pages: against a plain f64 evaluation, to the bit across levels, batches and threads.

use std::ops::Range;

use half::f16;
use porism_kernels::attention::paged::{
    KvSlice, KvSliceMut, PAGE, PageMut, PageRef, PagedShape, PagedSpan, Q4Tile, Q8Tile, paged_forward, path,
    read_entries, write_entries,
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

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    F32,
    F16,
    Q8,
    Q4,
}

/// A page's keys or values.
enum Kept {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Q8(Vec<Q8Tile>),
    Q4(Vec<Q4Tile>),
}

impl Kept {
    fn new(kind: Kind, numbers: usize) -> Kept {
        match kind {
            // What was never written is not to be looked at.
            Kind::F32 => Kept::F32(vec![f32::NAN; numbers]),
            Kind::F16 => Kept::F16(vec![f16::NAN; numbers]),
            Kind::Q8 => Kept::Q8(vec![Q8Tile::default(); numbers / 1024]),
            Kind::Q4 => Kept::Q4(vec![Q4Tile::default(); numbers / 1024]),
        }
    }

    fn slice(&self) -> KvSlice<'_> {
        match self {
            Kept::F32(v) => KvSlice::F32(v),
            Kept::F16(v) => KvSlice::F16(v),
            Kept::Q8(v) => KvSlice::Q8_0(v),
            Kept::Q4(v) => KvSlice::Q4_0(v),
        }
    }

    fn slice_mut(&mut self) -> KvSliceMut<'_> {
        match self {
            Kept::F32(v) => KvSliceMut::F32(v),
            Kept::F16(v) => KvSliceMut::F16(v),
            Kept::Q8(v) => KvSliceMut::Q8_0(v),
            Kept::Q4(v) => KvSliceMut::Q4_0(v),
        }
    }
}

/// A sequence's entries as pages, and as the numbers that these stand for, `[entries, kv_heads * head_dim]`.
struct Cache {
    pages: Vec<(Kept, Kept)>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Cache {
    fn new(kinds: (Kind, Kind), kv_heads: usize, head_dim: usize, k: &[f32], v: &[f32]) -> Cache {
        let width = kv_heads * head_dim;
        let entries = k.len() / width;
        let mut pages: Vec<(Kept, Kept)> = (0..entries.div_ceil(PAGE))
            .map(|_| (Kept::new(kinds.0, width * PAGE), Kept::new(kinds.1, width * PAGE)))
            .collect();
        let mut open: Vec<_> = pages.iter_mut().map(|(k, v)| PageMut { k: k.slice_mut(), v: v.slice_mut() }).collect();
        write_entries(&Pool::new(1), Isa::detect(), kv_heads, head_dim, &mut open, 0, k, v);
        let (mut wide_k, mut wide_v) = (vec![0.0; k.len()], vec![0.0; v.len()]);
        let parts = wide_k.chunks_mut(PAGE * width).zip(wide_v.chunks_mut(PAGE * width));
        for ((k, v), (wide_k, wide_v)) in pages.iter().zip(parts) {
            let page = PageRef { k: k.slice(), v: v.slice() };
            read_entries(Isa::detect(), kv_heads, head_dim, &page, 0..wide_k.len() / width, wide_k, wide_v);
        }
        Cache { pages, k: wide_k, v: wide_v }
    }

    fn pages(&self) -> Vec<PageRef<'_>> {
        self.pages.iter().map(|(k, v)| PageRef { k: k.slice(), v: v.slice() }).collect()
    }
}

fn in_f64(shape: &PagedShape<'_>, cache: &Cache, own: usize, seen: &[Range<usize>], q: &[f32]) -> Vec<f64> {
    let (dim, group) = (shape.head_dim, shape.heads / shape.kv_heads);
    let entries: Vec<usize> = seen.iter().cloned().flatten().collect();
    (0..shape.heads)
        .flat_map(|h| {
            let row = |data: &[f32], j: usize| -> Vec<f64> {
                let at = (j * shape.kv_heads + h / group) * dim;
                data[at..at + dim].iter().map(|v| f64::from(*v)).collect()
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

const ROWS: usize = 40;

/// What 40 rows see: each with the entry of the first row, and how many entries there are.
fn bounds() -> Vec<(usize, Visible, usize)> {
    let rows = ROWS;
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
    vec![
        // Causal from an empty cache; causal deep in the cache; a window; a window behind a prefix; both sides of
        // a row; a window that is longer than the sequence.
        (0, (0..rows).map(|i| 0..i + 1).collect::<Visible>(), 40),
        (599, (0..rows).map(|i| 0..i + 600).collect(), 639),
        (269, (0..rows).map(|i| i + 230..i + 270).collect(), 309),
        (529, prefixed(5, &(0..rows).map(|i| i + 480..i + 530).collect::<Vec<_>>()), 569),
        (250, (0..rows).map(|i| i + 200..i + 300).collect(), 339),
        (20, Mask::Window(1000).rows(&(0..60).collect::<Vec<_>>(), rows, 0, None), 60),
        // Rows that see nothing between others.
        (30, (0..rows).map(|i| if i % 3 == 1 { 7..7 } else { 2..i + 31 }).collect(), 70),
        // Trees, one with a window that is longer than the branches are.
        (240, Mask::Causal.rows(&positions(240), rows, 0, Some(&tree)), 280),
        (504, Mask::Window(300).rows(&positions(500), rows, 4, Some(&tree)), 544),
        (246, Mask::Window(3).rows(&positions(246), rows, 0, Some(&tree)), 286),
    ]
}

/// One shape with one kind of cache: against f64, and every way to compute it against the others.
fn check(random: &mut Random, shape: &PagedShape<'_>, kinds: (Kind, Kind), cases: &[usize]) {
    let (width, kv_width) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let q = random.floats(ROWS * width);
    let all = bounds();
    for &case in cases {
        let (first, visible, entries) = &all[case];
        let (k, v) = (random.floats(entries * kv_width), random.floats(entries * kv_width));
        let cache = Cache::new(kinds, shape.kv_heads, shape.head_dim, &k, &v);
        let part = |rows: Range<usize>| {
            let mut part = Visible::default();
            rows.for_each(|row| part.push(visible.row(row).iter().cloned()));
            part
        };
        let span = |rows: Range<usize>, at: usize| PagedSpan {
            visible: part(at..at + rows.len()),
            rows,
            own: first + at,
            pages: cache.pages(),
        };
        let mut reference = vec![0.0; ROWS * width];
        paged_forward(&Pool::new(1), Isa::Scalar, shape, &[span(0..ROWS, 0)], &q, &mut reference);
        for row in [0, 1, 17, ROWS - 1] {
            let want = in_f64(shape, &cache, first + row, visible.row(row), &q[row * width..(row + 1) * width]);
            for (got, want) in reference[row * width..(row + 1) * width].iter().zip(want) {
                assert!((f64::from(*got) - want).abs() < 2e-5, "{got} for {want}, {kinds:?}, case {case}, row {row}");
            }
        }
        for isa in Isa::available() {
            let what = format!("{kinds:?}, case {case}, {isa:?}, {} of {}", shape.heads, shape.head_dim);
            for threads in [1, 2, 3] {
                let pool = Pool::new(threads);
                let mut out = vec![f32::NAN; ROWS * width];
                paged_forward(&pool, isa, shape, &[span(0..ROWS, 0)], &q, &mut out);
                assert!(out == reference, "{what}, {threads} threads");
                // Alone, then packed with others.
                let mut out = vec![f32::NAN; width];
                paged_forward(&pool, isa, shape, &[span(0..1, 7)], &q[7 * width..8 * width], &mut out);
                assert!(out == reference[7 * width..8 * width], "{what}, {threads} threads, alone");
                let mut out = vec![f32::NAN; 5 * width];
                let mut packed = q[30 * width..32 * width].to_vec();
                packed.extend_from_slice(&q[7 * width..10 * width]);
                paged_forward(&pool, isa, shape, &[span(0..2, 30), span(2..5, 7)], &packed, &mut out);
                assert!(out[..2 * width] == reference[30 * width..32 * width], "{what}, packed");
                assert!(out[2 * width..] == reference[7 * width..10 * width], "{what}, packed");
            }
        }
    }
}

#[test]
fn agrees_with_f64_and_to_the_bit_with_itself() {
    let mut random = Random(3);
    let every: Vec<usize> = (0..bounds().len()).collect();
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
        check(&mut random, &shape, (Kind::F32, Kind::F32), &every);
        check(&mut random, &shape, (Kind::F16, Kind::F16), &every);
    }
}

#[test]
fn blocks_are_read_as_their_numbers() {
    let mut random = Random(5);
    for (heads, kv_heads, head_dim) in [(4, 2, 64), (3, 1, 128), (2, 2, 32), (2, 1, 96)] {
        let shape = PagedShape { heads, kv_heads, head_dim, scale: 0.11, softcap: None, bias: None };
        for kind in [Kind::Q8, Kind::Q4] {
            check(&mut random, &shape, (kind, kind), &[0, 1, 3, 6, 8]);
        }
    }
}

#[test]
fn any_size_of_head_and_group() {
    let mut random = Random(7);
    for head_dim in [1, 7, 32, 40, 48, 72, 80, 96, 112, 120, 160, 192, 256] {
        for (heads, kv_heads) in [(1, 1), (7, 1), (8, 1), (4, 2)] {
            let scale = 1.0 / (head_dim as f32).sqrt();
            let shape = PagedShape { heads, kv_heads, head_dim, scale, softcap: None, bias: None };
            check(&mut random, &shape, (Kind::F16, Kind::F16), &[2]);
            check(&mut random, &shape, (Kind::F32, Kind::F16), &[9]);
            if head_dim.is_multiple_of(32) {
                check(&mut random, &shape, (Kind::Q8, Kind::Q4), &[4]);
            }
        }
        assert_eq!(path(head_dim).contains("padded"), head_dim % 16 != 0);
    }
}

#[test]
fn keys_and_values_may_be_kept_differently() {
    let mut random = Random(6);
    let shape = PagedShape { heads: 2, kv_heads: 1, head_dim: 64, scale: 0.11, softcap: None, bias: None };
    for kinds in [(Kind::Q8, Kind::F32), (Kind::F16, Kind::Q4), (Kind::F32, Kind::Q8)] {
        check(&mut random, &shape, kinds, &[0, 4]);
    }
}

#[test]
fn what_no_row_sees_is_not_looked_at() {
    // A later row that is not a number, and what a rollback left behind, reach no earlier row.
    let shape = PagedShape { heads: 3, kv_heads: 1, head_dim: 64, scale: 0.125, softcap: None, bias: None };
    let mut random = Random(8);
    let (mut k, mut v) = (random.floats(300 * 64), random.floats(300 * 64));
    let q = random.floats(20 * 192);
    for kind in [Kind::F32, Kind::F16, Kind::Q8, Kind::Q4] {
        let run = |k: &[f32], v: &[f32]| {
            let cache = Cache::new((kind, kind), 1, 64, k, v);
            let visible = (0..20).map(|i| i + 10..i + 271).collect();
            let span = PagedSpan { rows: 0..20, pages: cache.pages(), own: 270, visible };
            let mut out = vec![0.0; 20 * 192];
            paged_forward(&Pool::new(1), Isa::detect(), &shape, &[span], &q, &mut out);
            out
        };
        let want = run(&k, &v);
        for entry in [280, 295, 3] {
            for x in [&mut k, &mut v] {
                x[entry * 64 + 5] = f32::NAN;
            }
        }
        let got = run(&k, &v);
        assert!(got[..10 * 192] == want[..10 * 192], "{kind:?}: rows before entry 280");
        assert!(got[10 * 192..].iter().any(|x| x.is_nan()));
    }
}

#[test]
#[should_panic(expected = "do not fill blocks of 32")]
fn blocks_need_heads_of_whole_blocks() {
    let shape = PagedShape { heads: 1, kv_heads: 1, head_dim: 48, scale: 1.0, softcap: None, bias: None };
    let page = vec![Q8Tile::default(); PAGE * 48 / 1024];
    let pages = vec![PageRef { k: KvSlice::Q8_0(&page), v: KvSlice::Q8_0(&page) }];
    let span = PagedSpan { rows: 0..1, pages, own: 0, visible: std::iter::once(0..1).collect() };
    paged_forward(&Pool::new(1), Isa::detect(), &shape, &[span], &[0.0; 48], &mut [0.0; 48]);
}

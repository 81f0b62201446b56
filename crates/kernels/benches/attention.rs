//! Attention over the paged cache at the size of a small model's layer (9 heads over 3 of 64): one token at depth
//! (bytes of cache a second) and 512 rows (operations a second), against a plain n x n evaluation.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use porism_kernels::attention::Visible;
use porism_kernels::attention::paged::{
    KvSlice, KvSliceMut, PAGE, PageMut, PageRef, PagedShape, PagedSpan, Q4Tile, Q8Tile, paged_forward, write_entries,
};
use porism_kernels::pool::usable_cores;
use porism_kernels::{Isa, Pool};

const HEADS: usize = 9;
const KV_HEADS: usize = 3;
const DIM: usize = 64;
const WIDTH: usize = KV_HEADS * DIM;

#[derive(Clone)]
enum Kept {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Q8(Vec<Q8Tile>),
    Q4(Vec<Q4Tile>),
}

const KINDS: [&str; 4] = ["f32", "f16", "q8_0", "q4_0"];

impl Kept {
    fn new(kind: &str) -> Kept {
        let numbers = PAGE * WIDTH;
        match kind {
            "f32" => Kept::F32(vec![0.0; numbers]),
            "f16" => Kept::F16(vec![f16::ZERO; numbers]),
            "q8_0" => Kept::Q8(vec![Q8Tile::default(); numbers / 1024]),
            _ => Kept::Q4(vec![Q4Tile::default(); numbers / 1024]),
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

    fn bytes(&self) -> usize {
        match self {
            Kept::F32(v) => size_of_val(v.as_slice()),
            Kept::F16(v) => size_of_val(v.as_slice()),
            Kept::Q8(v) => size_of_val(v.as_slice()),
            Kept::Q4(v) => size_of_val(v.as_slice()),
        }
    }
}

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 2_654_435_761 % 1024) as f32 / 512.0 - 1.0).collect()
}

/// The pages of a sequence of `entries`.
fn sequence(kind: &str, entries: usize, k: &[f32], v: &[f32]) -> Vec<(Kept, Kept)> {
    let mut pages: Vec<_> = (0..entries.div_ceil(PAGE)).map(|_| (Kept::new(kind), Kept::new(kind))).collect();
    let mut open: Vec<_> = pages.iter_mut().map(|(k, v)| PageMut { k: k.slice_mut(), v: v.slice_mut() }).collect();
    let (k, v) = (&k[..entries * WIDTH], &v[..entries * WIDTH]);
    write_entries(&Pool::new(1), Isa::detect(), KV_HEADS, DIM, &mut open, 0, k, v);
    pages
}

fn span(pages: &[(Kept, Kept)], rows: usize, depth: usize) -> PagedSpan<'_> {
    let visible: Visible = (0..rows).map(|row| 0..depth + row + 1).collect();
    let pages = pages.iter().map(|(k, v)| PageRef { k: k.slice(), v: v.slice() }).collect();
    PagedSpan { rows: 0..rows, pages, own: depth, visible }
}

fn shape() -> PagedShape<'static> {
    PagedShape { heads: HEADS, kv_heads: KV_HEADS, head_dim: DIM, scale: 0.125, softcap: None, bias: None }
}

fn decode(c: &mut Criterion) {
    let (k, v) = (numbers(8192 * WIDTH), numbers(8192 * WIDTH));
    let q = numbers(HEADS * DIM);
    let mut out = vec![0.0; HEADS * DIM];
    for threads in [1, usable_cores()] {
        let pool = Pool::new(threads);
        for depth in [512usize, 2048, 8192] {
            let mut group = c.benchmark_group(format!("decode-{depth}/{threads}-threads"));
            for kind in KINDS {
                // As many layers as do not fit into a cache, made when they are first asked for.
                let mut layers = Vec::new();
                let mut next = 0;
                let (k, v) = (&k, &v);
                let bytes = Kept::new(kind).bytes() * 2 * depth.div_ceil(PAGE);
                group.throughput(Throughput::Bytes(bytes as u64));
                group.bench_function(kind, |b| {
                    if layers.is_empty() {
                        layers.push(sequence(kind, depth, k, v));
                        layers.extend((0..(128 << 20) / bytes).map(|_| layers[0].clone()).collect::<Vec<_>>());
                    }
                    b.iter(|| {
                        next = (next + 1) % layers.len();
                        let span = span(&layers[next], 1, depth - 1);
                        paged_forward(&pool, Isa::detect(), &shape(), &[span], black_box(&q), &mut out);
                    });
                });
            }
        }
    }
}

fn prefill(c: &mut Criterion) {
    let rows = 512;
    let q = numbers(rows * HEADS * DIM);
    let mut out = vec![0.0; rows * HEADS * DIM];
    for depth in [0, 2048] {
        let (k, v) = (numbers((depth + rows) * WIDTH), numbers((depth + rows) * WIDTH));
        let seen: usize = (0..rows).map(|row| depth + row + 1).sum();
        for threads in [1, usable_cores()] {
            let pool = Pool::new(threads);
            let mut group = c.benchmark_group(format!("prefill-512-at-{depth}/{threads}-threads"));
            group.throughput(Throughput::Elements((4 * HEADS * DIM * seen) as u64));
            for kind in KINDS {
                let pages = sequence(kind, depth + rows, &k, &v);
                group.bench_function(kind, |b| {
                    b.iter(|| {
                        let span = span(&pages, rows, depth);
                        paged_forward(&pool, Isa::detect(), &shape(), &[span], black_box(&q), &mut out);
                    });
                });
            }
            if threads == 1 && depth == 0 {
                group.bench_function(BenchmarkId::from_parameter("naive"), |b| {
                    b.iter(|| naive(black_box(&q), &k, &v, rows, &mut out));
                });
            }
        }
    }
}

/// All scores, n x n of them, then the softmax, then the sums.
fn naive(q: &[f32], k: &[f32], v: &[f32], rows: usize, out: &mut [f32]) {
    let mut scores = vec![0.0f32; rows * rows];
    for head in 0..HEADS {
        let kv = head / (HEADS / KV_HEADS);
        for i in 0..rows {
            let q = &q[(i * HEADS + head) * DIM..][..DIM];
            for j in 0..=i {
                let k = &k[(j * KV_HEADS + kv) * DIM..][..DIM];
                scores[i * rows + j] = 0.125 * q.iter().zip(k).map(|(a, b)| a * b).sum::<f32>();
            }
        }
        for i in 0..rows {
            let scores = &mut scores[i * rows..][..=i];
            let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            scores.iter_mut().for_each(|s| *s = (*s - top).exp());
            let total: f32 = scores.iter().sum();
            let out = &mut out[(i * HEADS + head) * DIM..][..DIM];
            out.fill(0.0);
            for (j, s) in scores.iter().enumerate() {
                let v = &v[(j * KV_HEADS + kv) * DIM..][..DIM];
                out.iter_mut().zip(v).for_each(|(o, v)| *o += s / total * v);
            }
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(std::time::Duration::from_millis(100)).measurement_time(std::time::Duration::from_millis(300));
    targets = decode, prefill
}
criterion_main!(benches);

//! Running one row inside this process.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use porism_formats::Weight;
use porism_kernels::{Isa, Pool};
use porism_models::cpu::{CpuExecutor, CpuState, Rows};
use porism_models::parts::Embedding;
use porism_models::{Batch, Decoder, HeadRequest, Input, Mark, SequenceState, Site, Span, Steps};

use super::{Memory, Row, RowSpec, Test, median, work};
use crate::chunks::chunks;
use crate::{Error, Result};

/// Passes of a small batch in one repetition: a single one is too short to be timed well.
const PASSES: u32 = 8;

/// Runs a row: the cache is filled to its depth, then the test runs once to warm up and `repeat` times for
/// the median; the cache goes back to its depth each time. The memory is that of the whole process so far.
/// `contention` is `generate`: its [`Neighbour`](super::Neighbour) is the caller's to start.
///
/// # Errors
/// `n` or `repeat` is 0, the system does not give the threads, the test is `first_token` (see
/// [`super::first_token`]), or the forward pass fails.
pub fn run_row(decoder: &Decoder, isa: Isa, spec: &RowSpec, repeat: usize) -> Result<Row> {
    if spec.n == 0 || repeat == 0 {
        return Err(Error::Options(format!("{} tokens and {repeat} repetitions; both must be 1 or more", spec.n)));
    }
    let pool = Arc::new(Pool::new(spec.threads));
    if pool.threads() != spec.threads {
        return Err(Error::Options(format!("the system gave {} of {} threads", pool.threads(), spec.threads)));
    }
    let sequences = if spec.test == Test::Sequences { spec.n } else { 1 };
    let mut bench = Bench {
        decoder,
        steps: CpuExecutor::new(pool, isa, spec.activations),
        states: (0..sequences).map(|_| CpuState::new(&decoder.stack.config, spec.kv_type)).collect(),
        numbers: Numbers(1),
    };
    match spec.test {
        Test::Attention | Test::Sequences => bench.fill(spec.depth)?,
        _ if spec.depth > 0 => bench.prompt(0, spec.depth)?,
        _ => {}
    }
    let start = Start::of(&bench.states, decoder);
    let mut seconds = Vec::with_capacity(repeat);
    let mut cache = 0;
    for run in 0..=repeat {
        let time = match spec.test {
            Test::Prefill => timed(|| bench.prompt(spec.depth, spec.n))?,
            Test::Generate | Test::Contention => timed(|| bench.generate(spec.depth, spec.n))?,
            Test::Attention => bench.attention(0, spec.depth, spec.n)?,
            Test::Batch | Test::Sequences => {
                let batch = bench.batch(spec);
                let mut time = Duration::ZERO;
                for _ in 0..PASSES {
                    time += timed(|| bench.forward(&batch))?;
                    cache = cache.max(bench.cache_bytes());
                    start.restore(&mut bench.states)?;
                }
                time / PASSES
            }
            Test::FirstToken => {
                return Err(Error::Options("the first token is timed from outside of the process".into()));
            }
        };
        if run > 0 {
            seconds.push(time.as_secs_f64());
        }
        cache = cache.max(bench.cache_bytes());
        start.restore(&mut bench.states)?;
    }
    Ok(Row::new(spec, &work(decoder, spec), median(seconds), Memory::of("self"), cache))
}

fn timed(run: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let started = Instant::now();
    run()?;
    Ok(started.elapsed())
}

/// Where every repetition starts.
struct Start {
    marks: Vec<Mark>,
    /// Layers with a window give up rows that a rollback would need, so that these are forked instead; without
    /// windows this stays empty, since a fork has to copy what it writes to.
    windowed: Vec<CpuState>,
}

impl Start {
    fn of(states: &[CpuState], decoder: &Decoder) -> Start {
        let windowed = has_windows(decoder);
        Start {
            marks: states.iter().map(CpuState::mark).collect(),
            windowed: states.iter().filter(|_| windowed).map(CpuState::fork).collect(),
        }
    }

    fn restore(&self, states: &mut [CpuState]) -> Result<()> {
        for (i, (state, &mark)) in states.iter_mut().zip(&self.marks).enumerate() {
            match self.windowed.get(i) {
                Some(start) if !state.keeps(mark) => *state = start.fork(),
                _ => state.rollback(mark)?,
            }
        }
        Ok(())
    }
}

fn has_windows(decoder: &Decoder) -> bool {
    decoder.stack.config.layer_specs.iter().any(|layer| layer.window.is_some())
}

struct Bench<'a> {
    decoder: &'a Decoder,
    steps: CpuExecutor,
    states: Vec<CpuState>,
    numbers: Numbers,
}

impl Bench<'_> {
    /// `n` tokens from position `start` on, in chunks, with the logits of the last.
    fn prompt(&mut self, start: usize, n: usize) -> Result<()> {
        let end = start + n;
        for part in chunks(start..end) {
            let ids = self.numbers.ids(part.len(), self.decoder.stack.config.vocab);
            let mut batch = Batch::single(&ids, part.start as u32);
            if part.end < end {
                batch.wanted.clear();
            }
            self.forward(&batch)?;
        }
        Ok(())
    }

    fn cache_bytes(&self) -> u64 {
        self.states.iter().map(CpuState::bytes).sum::<usize>() as u64
    }

    fn forward(&mut self, batch: &Batch) -> Result<()> {
        black_box(self.decoder.forward(&mut self.steps, batch, &mut self.states, HeadRequest::Logits)?);
        Ok(())
    }

    /// A small batch behind the depth: of one sequence, or one token of each; all logits are wanted.
    fn batch(&mut self, spec: &RowSpec) -> Batch {
        let (n, depth) = (spec.n, spec.depth as u32);
        let mut batch = Batch::single(&self.numbers.ids(n, self.decoder.stack.config.vocab), depth);
        batch.wanted = (0..n).collect();
        if spec.test == Test::Sequences {
            batch.positions = vec![depth; n];
            batch.spans = (0..n).map(|i| Span { sequence: i, rows: i..i + 1, adapter: None }).collect();
        }
        batch
    }

    /// `n` tokens from position `start` on, one at a time.
    fn generate(&mut self, start: usize, n: usize) -> Result<()> {
        for position in start..start + n {
            let ids = self.numbers.ids(1, self.decoder.stack.config.vocab);
            let batch = Batch::single(&ids, position as u32);
            self.forward(&batch)?;
        }
        Ok(())
    }

    /// Puts `n` entries of random numbers into the cache of every layer of every sequence.
    fn fill(&mut self, n: usize) -> Result<()> {
        let (layers, config) = (self.decoder.stack.blocks.len(), &self.decoder.stack.config);
        let len = n * config.kv_heads * config.head_dim;
        for sequence in 0..self.states.len() {
            // Seeds are quick, but seen by all rows, whatever the window.
            if has_windows(self.decoder) {
                self.attention(sequence, 0, n)?;
                continue;
            }
            let (k, v) = (self.numbers.values(len), self.numbers.values(len));
            for layer in 0..layers {
                self.states[sequence].seed(layer, &k, &v)?;
            }
        }
        Ok(())
    }

    /// The attention steps of all layers for `n` rows of a sequence from position `start` on; their inputs are made
    /// outside of the measured time.
    fn attention(&mut self, sequence: usize, start: usize, n: usize) -> Result<Duration> {
        let decoder = self.decoder;
        let mut time = Duration::ZERO;
        for part in chunks(start..start + n) {
            let mut batch = Batch::single(&vec![0; part.len()], part.start as u32);
            batch.spans[0].sequence = sequence;
            for (layer, block) in decoder.stack.blocks.iter().enumerate() {
                let spec = &block.attention.spec;
                let q = self.rows(part.len(), spec.heads * spec.head_dim)?;
                let k = self.rows(part.len(), spec.kv_heads * spec.head_dim)?;
                let v = self.rows(part.len(), spec.kv_heads * spec.head_dim)?;
                let started = Instant::now();
                black_box(self.steps.attend(spec, layer, q, k, v, &batch, &mut self.states)?);
                time += started.elapsed();
            }
        }
        Ok(time)
    }

    /// Random activations `[rows, width]`.
    fn rows(&mut self, rows: usize, width: usize) -> Result<Rows> {
        // A table of the wanted width lets given rows through.
        let weight = Weight::from_f32(&vec![0.0; width], 1, width).map_err(porism_models::Error::from)?;
        let table = Embedding { site: Site::TokenEmbedding, weight, scale: 1.0 };
        let input = Input::Rows { values: self.numbers.values(rows * width), width };
        Ok(self.steps.embed(&table, &input)?)
    }
}

/// Reproducible numbers without a pattern (splitmix64, Steele et al. 2014).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn ids(&mut self, n: usize, vocab: usize) -> Vec<u32> {
        (0..n).map(|_| (self.next() % vocab as u64) as u32).collect()
    }

    /// Uniform in [-1, 1).
    fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0).collect()
    }
}

//! A toy decoder of the llama kind with deltas of every kind, and its forward pass in f64 by definition.
#![allow(dead_code)] // Each test file uses its part.

use std::collections::BTreeMap;
use std::sync::Arc;

use porism_formats::Weight;
use porism_kernels::activation::Activation;
use porism_kernels::attention::Mask;
use porism_kernels::attention::dense::{Dense, DenseSpan};
use porism_kernels::rope::{RopeLayout, inverse_frequencies};
use porism_models::config::LayerSpec;
use porism_models::linear::{AdapterId, Delta, DeltaKind, Linear};
use porism_models::parts::{
    Attention, AttentionSpec, Embedding, Ffn, FfnKind, Gated, Head, Norm, NormKind, Residual, Rope,
};
use porism_models::rope::{RopeScaling, RopeSpec};
use porism_models::stack::{Block, Embeddings, Stack};
use porism_models::tape::{DeltaPart, Parameter};
use porism_models::{Batch, BlockSite, Decoder, Input, ModelConfig, Site, Span};

use crate::twin::{self, Matrix, Random};

pub(crate) const WIDTH: usize = 16;
pub(crate) const HEADS: usize = 4;
pub(crate) const KV_HEADS: usize = 2;
pub(crate) const HEAD_DIM: usize = 4;
pub(crate) const KV_WIDTH: usize = KV_HEADS * HEAD_DIM;
pub(crate) const FFN: usize = 24;
pub(crate) const VOCAB: usize = 11;
const RANK: usize = 3;

pub(crate) const LORA: AdapterId = AdapterId(1);
pub(crate) const IA3: AdapterId = AdapterId(2);

/// Two blocks; a bias on the query, LoRA on query and down, IA3's scales on key and down.
pub(crate) fn decoder(seed: u64, mask: Mask, tied: bool) -> Decoder {
    let mut random = Random(seed);
    let mut weight = |rows: usize, cols: usize, size: f32, around: f32| {
        let values: Vec<f32> = random.numbers(rows * cols).iter().map(|v| around + size * v).collect();
        Weight::from_f32(&values, rows, cols).expect("a weight")
    };
    let rope = Rope {
        layout: RopeLayout::Halves,
        inverse_frequencies: Arc::from(inverse_frequencies(100.0, HEAD_DIM)),
        attention_factor: 1.0,
    };
    let embedding = Embedding { site: Site::TokenEmbedding, weight: weight(VOCAB, WIDTH, 1.0, 0.0), scale: 1.0 };
    let blocks = (0..2)
        .map(|i| {
            let site = |s| Site::Block(i, s);
            let mut linear = |s, rows, cols| Linear::new(site(s), weight(rows, cols, 0.3, 0.0));
            let (mut query, mut key) =
                (linear(BlockSite::Query, WIDTH, WIDTH), linear(BlockSite::Key, KV_WIDTH, WIDTH));
            let (value, output) =
                (linear(BlockSite::Value, KV_WIDTH, WIDTH), linear(BlockSite::AttentionOutput, WIDTH, WIDTH));
            let (gate, up) = (linear(BlockSite::Gate, FFN, WIDTH), linear(BlockSite::Up, FFN, WIDTH));
            let mut down = linear(BlockSite::Down, WIDTH, FFN);
            query.deltas.push(Delta { adapter: None, kind: DeltaKind::Bias(weight(1, WIDTH, 0.3, 0.0)) });
            for (linear, inputs) in [(&mut query, WIDTH), (&mut down, FFN)] {
                let (a, b) = (weight(RANK, inputs, 0.3, 0.0), weight(WIDTH, RANK, 0.3, 0.0));
                linear.deltas.push(Delta { adapter: Some(LORA), kind: DeltaKind::LowRank { a, b, scale: 2.0 } });
            }
            let kind = DeltaKind::OutputScale(weight(1, KV_WIDTH, 0.2, 1.0));
            key.deltas.push(Delta { adapter: Some(IA3), kind });
            down.deltas.push(Delta { adapter: Some(IA3), kind: DeltaKind::InputScale(weight(1, FFN, 0.2, 1.0)) });
            let mut norm = |s| Norm {
                site: site(s),
                kind: NormKind::Rms,
                weight: weight(1, WIDTH, 0.2, 1.0),
                bias: None,
                eps: 1e-5,
                offset: 0.0,
            };
            let (attention_norm, ffn_norm) = (norm(BlockSite::AttentionNorm), norm(BlockSite::FfnNorm));
            let spec = AttentionSpec {
                heads: HEADS,
                kv_heads: KV_HEADS,
                head_dim: HEAD_DIM,
                scale: 0.5,
                softcap: None,
                mask,
                bias: None,
            };
            Block {
                attention: Attention {
                    residual: Residual::Pre(attention_norm),
                    query,
                    key,
                    value,
                    output,
                    query_norm: None,
                    key_norm: None,
                    rope: Some(rope.clone()),
                    spec,
                },
                ffn: Ffn {
                    residual: Residual::Pre(ffn_norm),
                    kind: FfnKind::Gated(Gated { gate, up, down, activation: Activation::Silu }),
                },
            }
        })
        .collect();
    let norm = Norm {
        site: Site::OutputNorm,
        kind: NormKind::Rms,
        weight: weight(1, WIDTH, 0.2, 1.0),
        bias: None,
        eps: 1e-5,
        offset: 0.0,
    };
    let head = if tied { embedding.weight.clone() } else { weight(VOCAB, WIDTH, 0.5, 0.0) };
    let config = ModelConfig {
        architecture: "llama".into(),
        layers: 2,
        width: WIDTH,
        heads: HEADS,
        kv_heads: KV_HEADS,
        head_dim: HEAD_DIM,
        ffn: FFN,
        vocab: VOCAB,
        context: 64,
        norm_eps: 1e-5,
        ropes: vec![RopeSpec { theta: 100.0, rotary_dim: HEAD_DIM, scaling: RopeScaling::None }],
        layer_specs: vec![LayerSpec { window: None, rope: Some(0), moe: false }; 2],
        attention_scale: 0.5,
        tied_embeddings: tied,
        ..ModelConfig::default()
    };
    let embeddings = Embeddings { tokens: embedding, positions: None, token_types: None, norm: None };
    let head = Head { norm, linear: Linear::new(Site::Head, head), softcap: None };
    Decoder { stack: Stack { config, embeddings, blocks }, head }
}

/// Two sequences, the first with LoRA, the second with IA3; output wanted of five of nine rows.
pub(crate) fn batch() -> Batch {
    Batch {
        input: Input::Ids(vec![1, 4, 4, 10, 0, 7, 3, 4, 9]),
        positions: vec![0, 1, 2, 3, 4, 0, 1, 2, 3],
        spans: vec![
            Span { sequence: 0, rows: 0..5, adapter: Some(LORA), tree: None },
            Span { sequence: 1, rows: 5..9, adapter: Some(IA3), tree: None },
        ],
        wanted: vec![1, 3, 4, 5, 8],
    }
}

pub(crate) const TARGETS: [u32; 5] = [4, 0, 7, 3, 2];
pub(crate) const WEIGHTS: [f32; 5] = [1.0, 0.5, 0.0, 2.0, 1.0];

/// The decoder in f64, with some of its weights replaced.
pub(crate) struct Twin<'a> {
    pub(crate) decoder: &'a Decoder,
    pub(crate) mask: Mask,
    pub(crate) replaced: BTreeMap<Parameter, Matrix>,
    /// For each sequence and layer keys and values that stand before its first row.
    pub(crate) seeds: BTreeMap<(usize, usize), (Matrix, Matrix)>,
}

fn dense(w: &Weight) -> Matrix {
    Matrix::new(w.rows(), w.cols(), w.to_f32().into_iter().map(f64::from).collect())
}

impl<'a> Twin<'a> {
    pub(crate) fn new(decoder: &'a Decoder, mask: Mask) -> Twin<'a> {
        Twin { decoder, mask, replaced: BTreeMap::new(), seeds: BTreeMap::new() }
    }

    fn weight(&self, site: Site, w: &Weight) -> Matrix {
        let tied = site == Site::Head && self.decoder.stack.config.tied_embeddings;
        let site = if tied { Site::TokenEmbedding } else { site };
        self.replaced.get(&Parameter::Weight(site)).cloned().unwrap_or_else(|| dense(w))
    }

    fn part(&self, site: Site, index: usize, part: DeltaPart, w: &Weight) -> Matrix {
        self.replaced.get(&Parameter::Delta { site, index, part }).cloned().unwrap_or_else(|| dense(w))
    }

    fn norm(&self, norm: &Norm, x: &Matrix) -> Matrix {
        x.rms_norm(&self.weight(norm.site, &norm.weight), f64::from(norm.eps))
    }

    /// Row by row: each row has its own adapter.
    fn linear(&self, linear: &Linear, x: &Matrix, batch: &Batch) -> Matrix {
        let base = self.weight(linear.site, &linear.weight);
        let mut out = Vec::new();
        for i in 0..x.rows {
            let adapter = batch.spans.iter().find(|s| s.rows.contains(&i)).and_then(|s| s.adapter);
            let mine: Vec<(usize, &DeltaKind)> = linear
                .deltas
                .iter()
                .enumerate()
                .filter(|(_, d)| d.adapter.is_none() || d.adapter == adapter)
                .map(|(index, d)| (index, &d.kind))
                .collect();
            let mut x = Matrix::new(1, x.cols, x.row(i).to_vec());
            for &(index, kind) in &mine {
                if let DeltaKind::InputScale(s) = kind {
                    let s = self.part(linear.site, index, DeltaPart::Row, s);
                    x.v.iter_mut().zip(&s.v).for_each(|(x, s)| *x *= s);
                }
            }
            let mut y = x.linear(&base);
            for &(index, kind) in &mine {
                let part = |part, w| self.part(linear.site, index, part, w);
                match kind {
                    DeltaKind::InputScale(_) => {}
                    DeltaKind::OutputScale(s) => {
                        y.v.iter_mut().zip(&part(DeltaPart::Row, s).v).for_each(|(y, s)| *y *= s);
                    }
                    DeltaKind::Bias(b) => y = y.add(&part(DeltaPart::Row, b)),
                    DeltaKind::LowRank { a, b, scale } => {
                        let low = x.linear(&part(DeltaPart::A, a)).linear(&part(DeltaPart::B, b));
                        y = y.add(&low.scaled(f64::from(*scale)));
                    }
                }
            }
            out.extend(y.v);
        }
        Matrix::new(x.rows, base.rows, out)
    }

    /// Logits of the wanted rows of a batch of ids whose sequences begin here.
    pub(crate) fn logits(&self, batch: &Batch) -> Matrix {
        let Input::Ids(ids) = &batch.input else { panic!("ids") };
        let mut x = self.weight(Site::TokenEmbedding, &self.decoder.stack.embeddings.tokens.weight).select(ids);
        for (layer, Block { attention, ffn }) in self.decoder.stack.blocks.iter().enumerate() {
            let normed = self.norm(attention.residual.before().expect("a norm"), &x);
            let turn = |x: &Matrix| {
                let rope = attention.rope.as_ref().expect("positions");
                x.rope(rope.layout, &batch.positions, &rope.inverse_frequencies, HEAD_DIM)
            };
            let q = turn(&self.linear(&attention.query, &normed, batch));
            let k = turn(&self.linear(&attention.key, &normed, batch));
            let v = self.linear(&attention.value, &normed, batch);
            let (mut keys, mut values, mut spans, mut rows) = (Vec::new(), Vec::new(), Vec::new(), 0);
            for span in &batch.spans {
                let mut seeded = 0;
                if let Some((k, v)) = self.seeds.get(&(span.sequence, layer)) {
                    seeded = k.rows;
                    keys.extend(&k.v);
                    values.extend(&v.v);
                }
                for row in span.rows.clone() {
                    keys.extend(k.row(row));
                    values.extend(v.row(row));
                }
                let end = rows + seeded + span.rows.len();
                let positions = &batch.positions[span.rows.clone()];
                spans.push(DenseSpan::new(self.mask, span.rows.clone(), rows..end, seeded, positions));
                rows = end;
            }
            let spec =
                Dense { heads: HEADS, kv_heads: KV_HEADS, head_dim: HEAD_DIM, scale: 0.5, softcap: None, bias: None };
            let (k, v) = (Matrix::new(rows, KV_WIDTH, keys), Matrix::new(rows, KV_WIDTH, values));
            let mixed = twin::attention(self.mask, &spec, &spans, &q, &k, &v);
            x = x.add(&self.linear(&attention.output, &mixed, batch));
            let normed = self.norm(ffn.residual.before().expect("a norm"), &x);
            let FfnKind::Gated(ffn) = &ffn.kind else { panic!("gated") };
            let (gate, up) = (self.linear(&ffn.gate, &normed, batch), self.linear(&ffn.up, &normed, batch));
            x = x.add(&self.linear(&ffn.down, &gate.silu_mul(&up), batch));
        }
        let wanted: Vec<u32> = batch.wanted.iter().map(|&row| row as u32).collect();
        let normed = self.norm(&self.decoder.head.norm, &x.select(&wanted));
        self.linear(&self.decoder.head.linear, &normed, &batch.select(&batch.wanted))
    }
}

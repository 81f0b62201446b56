//! A toy decoder, small enough to run everything on.

use std::sync::Arc;

use porism_formats::Weight;
use porism_kernels::activation::Activation;
use porism_kernels::attention::Mask;
use porism_kernels::rope::{RopeLayout, inverse_frequencies};
use porism_models::config::LayerSpec;
use porism_models::parts::{
    Attention, AttentionSpec, Embedding, Ffn, FfnKind, Gated, Head, Norm, NormKind, Residual, Rope,
};
use porism_models::rope::{RopeScaling, RopeSpec};
use porism_models::stack::{Block, Embeddings, Stack};
use porism_models::{BlockSite, Decoder, Linear, ModelConfig, Site};

const VOCAB: usize = 50;
const LAYERS: usize = 2;
const WIDTH: usize = 32;
const HEADS: usize = 2;
const KV_HEADS: usize = 1;
const HEAD_DIM: usize = 16;
const FFN: usize = 64;

/// Reproducible numbers in [-1, 1): a linear congruential generator's upper bits.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    fn weight(&mut self, rows: usize, cols: usize) -> Weight {
        let values: Vec<f32> = (0..rows * cols).map(|_| self.next() * 0.5).collect();
        Weight::from_f32(&values, rows, cols).expect("a weight")
    }
}

/// Two blocks of dense random weights, with an untied head.
pub(crate) fn toy_decoder() -> Decoder {
    let mut numbers = Numbers(7);
    let rope = Rope {
        layout: RopeLayout::Halves,
        inverse_frequencies: Arc::from(inverse_frequencies(1e4, HEAD_DIM)),
        attention_factor: 1.0,
    };
    let norm = |site, numbers: &mut Numbers| {
        let values: Vec<f32> = (0..WIDTH).map(|_| 1.0 + 0.1 * numbers.next()).collect();
        Norm {
            site,
            kind: NormKind::Rms,
            weight: Weight::from_f32(&values, 1, WIDTH).expect("a norm"),
            bias: None,
            eps: 1e-5,
            offset: 0.0,
        }
    };
    let mut block = |i: u32| {
        let site = |s| Site::Block(i, s);
        let mut linear = |s, rows, cols| Linear::new(site(s), numbers.weight(rows, cols));
        let query = linear(BlockSite::Query, HEADS * HEAD_DIM, WIDTH);
        let key = linear(BlockSite::Key, KV_HEADS * HEAD_DIM, WIDTH);
        let value = linear(BlockSite::Value, KV_HEADS * HEAD_DIM, WIDTH);
        let output = linear(BlockSite::AttentionOutput, WIDTH, HEADS * HEAD_DIM);
        let gate = linear(BlockSite::Gate, FFN, WIDTH);
        let up = linear(BlockSite::Up, FFN, WIDTH);
        let down = linear(BlockSite::Down, WIDTH, FFN);
        let spec = AttentionSpec {
            heads: HEADS,
            kv_heads: KV_HEADS,
            head_dim: HEAD_DIM,
            scale: 0.25,
            softcap: None,
            mask: Mask::Causal,
            bias: None,
        };
        let attention_norm = norm(site(BlockSite::AttentionNorm), &mut numbers);
        let ffn_norm = norm(site(BlockSite::FfnNorm), &mut numbers);
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
    };
    let blocks = (0..LAYERS as u32).map(&mut block).collect();
    let head_norm = norm(Site::OutputNorm, &mut numbers);
    let config = ModelConfig {
        architecture: "llama".into(),
        layers: LAYERS,
        width: WIDTH,
        heads: HEADS,
        kv_heads: KV_HEADS,
        head_dim: HEAD_DIM,
        ffn: FFN,
        vocab: VOCAB,
        context: 1024,
        norm_eps: 1e-5,
        ropes: vec![RopeSpec { theta: 1e4, rotary_dim: HEAD_DIM, scaling: RopeScaling::None }],
        layer_specs: vec![LayerSpec { window: None, rope: Some(0), moe: false }; 2],
        attention_scale: 0.5,
        tied_embeddings: false,
        ..ModelConfig::default()
    };
    let tokens = Embedding { site: Site::TokenEmbedding, weight: numbers.weight(VOCAB, WIDTH), scale: 1.0 };
    let embeddings = Embeddings { tokens, positions: None, token_types: None, norm: None };
    let linear = Linear::new(Site::Head, numbers.weight(VOCAB, WIDTH));
    let head = Head { norm: head_norm, linear, softcap: None };
    Decoder { stack: Stack { config, embeddings, blocks }, head }
}

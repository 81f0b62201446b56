//! A random llama with everything that a conversion can meet: grouped heads that are wider than
//! `width / heads`, biases, a head of its own, a byte-level tokenizer, rows beyond the tokens.

use std::path::Path;

use porism_formats::gguf::{Array, GgufHeader, GgufWriter, Value, ValueType};
use porism_kernels::BlockType;
use porism_kernels::block::quantize;

pub(crate) const LAYERS: usize = 2;
pub(crate) const HEADS: usize = 4;
pub(crate) const KV_HEADS: usize = 2;
pub(crate) const HEAD_DIM: usize = 16;
pub(crate) const FFN: usize = 64;
/// 256 bytes, two merged tokens, three control tokens, three rows that no token has.
pub(crate) const ROWS: usize = 264;

/// What a test may ask for.
#[derive(Clone, Copy)]
pub(crate) struct Tiny {
    pub(crate) block: BlockType,
    pub(crate) tokenizer: bool,
    /// Features of the residual stream.
    pub(crate) width: usize,
    /// One weight of the last down projection.
    pub(crate) outlier: f32,
}

impl Default for Tiny {
    fn default() -> Tiny {
        Tiny { block: BlockType::F32, tokenizer: true, width: 32, outlier: 0.25 }
    }
}

impl Tiny {
    /// Writes it as a GGUF file.
    pub(crate) fn write(self, path: &Path) {
        let tensors = tensors(self.width);
        let mut header = header(self);
        for (name, dims) in &tensors {
            header.tensor(name, dims, self.block_of(dims));
        }
        let mut writer = GgufWriter::create(path, &header).expect("a header");
        let mut random = 1u64;
        for (name, dims) in &tensors {
            let count = dims.iter().product::<u64>() as usize;
            let mut values: Vec<f32> = (0..count).map(|_| next(&mut random)).collect();
            if name == "blk.1.ffn_down.weight" {
                values[77] = self.outlier;
            }
            let mut bytes = Vec::new();
            quantize(self.block_of(dims), &values, &mut bytes).expect("weights");
            writer.write(name, &bytes).expect("written");
        }
        writer.commit().expect("a file");
    }

    fn block_of(self, dims: &[u64]) -> BlockType {
        if dims.len() == 1 { BlockType::F32 } else { self.block }
    }
}

/// Numbers of a linear congruential generator, between -0.5 and 0.5.
fn next(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
}

fn tensors(width: usize) -> Vec<(String, Vec<u64>)> {
    let (width, ffn) = (width as u64, FFN as u64);
    let (q, kv) = ((HEADS * HEAD_DIM) as u64, (KV_HEADS * HEAD_DIM) as u64);
    let mut all = vec![("token_embd.weight".to_string(), vec![width, ROWS as u64])];
    for i in 0..LAYERS {
        for (name, dims) in [
            ("attn_norm.weight", vec![width]),
            ("attn_q.weight", vec![width, q]),
            ("attn_q.bias", vec![q]),
            ("attn_k.weight", vec![width, kv]),
            ("attn_k.bias", vec![kv]),
            ("attn_v.weight", vec![width, kv]),
            ("attn_v.bias", vec![kv]),
            ("attn_output.weight", vec![q, width]),
            ("attn_output.bias", vec![width]),
            ("ffn_norm.weight", vec![width]),
            ("ffn_gate.weight", vec![width, ffn]),
            ("ffn_up.weight", vec![width, ffn]),
            ("ffn_down.weight", vec![ffn, width]),
        ] {
            all.push((format!("blk.{i}.{name}"), dims));
        }
    }
    all.push(("output_norm.weight".into(), vec![width]));
    all.push(("output.weight".into(), vec![width, ROWS as u64]));
    all
}

fn header(tiny: Tiny) -> GgufHeader {
    let mut header = GgufHeader::new();
    header.set("general.architecture", "llama");
    header.set("general.name", "Tiny");
    for (key, value) in [
        ("block_count", LAYERS),
        ("context_length", 128),
        ("embedding_length", tiny.width),
        ("feed_forward_length", FFN),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", KV_HEADS),
        ("attention.key_length", HEAD_DIM),
        ("attention.value_length", HEAD_DIM),
        ("rope.dimension_count", HEAD_DIM),
        ("vocab_size", ROWS),
    ] {
        header.set(&format!("llama.{key}"), value as u32);
    }
    header.set("llama.rope.freq_base", 10_000.0f32);
    header.set("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
    if tiny.tokenizer {
        vocabulary(&mut header);
    }
    header
}

fn vocabulary(header: &mut GgufHeader) {
    let mut tokens: Vec<String> = (0..=255u8).map(|b| byte_character(b).to_string()).collect();
    tokens.extend(["he", "Ġhe", "<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(String::from));
    let mut types = vec![1i32; 258];
    types.extend([3, 3, 3]);
    for id in tokens.len()..ROWS {
        tokens.push(format!("[PAD{id}]"));
        types.push(5);
    }
    let types = Array::new(ValueType::I32, types.into_iter().map(Value::I32)).expect("one type");
    header.set("tokenizer.ggml.model", "gpt2");
    header.set("tokenizer.ggml.pre", "qwen2");
    header.set("tokenizer.ggml.tokens", Array::strings(&tokens));
    header.set("tokenizer.ggml.token_type", types);
    header.set("tokenizer.ggml.merges", Array::strings(["h e", "Ġ he"]));
    header.set("tokenizer.ggml.bos_token_id", 258u32);
    header.set("tokenizer.ggml.eos_token_id", 260u32);
    header.set("tokenizer.ggml.eot_token_id", 258u32);
    header.set("tokenizer.ggml.padding_token_id", 258u32);
    header.set("tokenizer.ggml.add_bos_token", true);
    header.set("tokenizer.chat_template", "{% for m in messages %}{{ m.content }}{% endfor %}");
}

/// GPT-2's character for a byte: printable ones stand for themselves, the others count on from 256.
fn byte_character(byte: u8) -> char {
    let printable = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(256 + before).expect("a character")
}

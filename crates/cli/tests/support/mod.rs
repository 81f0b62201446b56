//! What the tests of the binary share: running it, and a tiny model that can be spoiled.
#![allow(dead_code)] // Each test file uses its part.

use std::path::Path;
use std::process::{Command, Stdio};

use porism_formats::gguf::{Array, GgufHeader, GgufWriter};
use porism_kernels::BlockType;

/// What a run of the binary gave.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the binary with an environment of its own, `home` as its cache, and nothing on stdin.
pub(crate) fn porism(home: &Path, environment: &[(&str, &str)], args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_porism"));
    command.args(args).env("PORISM_HOME", home).env("NO_COLOR", "1").stdin(Stdio::null());
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"] {
        command.env_remove(name);
    }
    for (name, value) in environment {
        command.env(name, value);
    }
    let out = command.output().expect("the binary runs");
    Ran {
        code: out.status.code(),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// A llama of one block with random weights and a vocabulary of single bytes.
pub(crate) struct Tiny {
    pub(crate) architecture: &'static str,
    pub(crate) template: &'static str,
    pub(crate) tokenizer: bool,
    /// The pre-tokenizer's name.
    pub(crate) pre: &'static str,
    /// Tensors to leave out.
    pub(crate) without: &'static [&'static str],
    /// Rows of the feed-forward projections, which should be 64.
    pub(crate) ffn_rows: u64,
    pub(crate) context: u32,
    /// The token that ends an answer.
    pub(crate) end: &'static str,
}

impl Default for Tiny {
    fn default() -> Tiny {
        Tiny {
            architecture: "llama",
            template: "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:",
            tokenizer: true,
            pre: "gpt-2",
            without: &[],
            ffn_rows: 64,
            context: 128,
            end: "<|end|>",
        }
    }
}

/// GPT-2's visible stand-in for each byte.
fn byte_tokens() -> Vec<String> {
    let mut hidden = 0u32;
    (0..=255u32)
        .map(|b| {
            let shown = matches!(b, 33..=126 | 161..=172 | 174..=255);
            let code = if shown {
                b
            } else {
                hidden += 1;
                255 + hidden
            };
            char::from_u32(code).expect("a character").to_string()
        })
        .collect()
}

impl Tiny {
    /// Writes the model.
    pub(crate) fn write(&self, path: &Path) {
        let mut header = GgufHeader::new();
        header.set("general.architecture", self.architecture);
        let key = |name: &str| format!("{}.{name}", self.architecture);
        for (name, value) in [
            ("block_count", 1u32),
            ("embedding_length", 32),
            ("feed_forward_length", 64),
            ("attention.head_count", 4),
            ("attention.head_count_kv", 2),
            ("context_length", self.context),
        ] {
            header.set(&key(name), value);
        }
        header.set(&key("attention.layer_norm_rms_epsilon"), 1e-5f32);
        if self.tokenizer {
            let mut tokens = byte_tokens();
            let mut types = vec![1i32; tokens.len()];
            tokens.push(self.end.into());
            types.push(3);
            header.set("tokenizer.ggml.model", "gpt2");
            header.set("tokenizer.ggml.pre", self.pre);
            header.set("tokenizer.ggml.tokens", Array::strings(&tokens));
            header.set("tokenizer.ggml.token_type", types.as_slice());
            header.set("tokenizer.ggml.merges", Array::strings(&[] as &[&str]));
            header.set("tokenizer.ggml.eos_token_id", 256u32);
            header.set("tokenizer.chat_template", self.template);
        }
        let tensors: Vec<(&str, Vec<u64>)> = [
            ("token_embd.weight", vec![32, 257]),
            ("output_norm.weight", vec![32]),
            ("blk.0.attn_norm.weight", vec![32]),
            ("blk.0.attn_q.weight", vec![32, 32]),
            ("blk.0.attn_k.weight", vec![32, 16]),
            ("blk.0.attn_v.weight", vec![32, 16]),
            ("blk.0.attn_output.weight", vec![32, 32]),
            ("blk.0.ffn_norm.weight", vec![32]),
            ("blk.0.ffn_gate.weight", vec![32, self.ffn_rows]),
            ("blk.0.ffn_up.weight", vec![32, self.ffn_rows]),
            ("blk.0.ffn_down.weight", vec![64, 32]),
        ]
        .into_iter()
        .filter(|(name, _)| !self.without.contains(name))
        .collect();
        for (name, dims) in &tensors {
            header.tensor(name, dims, BlockType::F32);
        }
        let mut writer = GgufWriter::create(path, &header).expect("a file");
        let mut state = 88172645463325252u64;
        for (name, dims) in &tensors {
            let bytes: Vec<u8> = (0..dims.iter().product::<u64>())
                .flat_map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5).to_le_bytes()
                })
                .collect();
            writer.write(name, &bytes).expect("a tensor");
        }
        writer.commit().expect("a whole file");
    }
}

/// A tiny model in a folder that is the cache's home too.
pub(crate) struct Fixture {
    folder: tempfile::TempDir,
    pub(crate) model: String,
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("tiny.gguf");
        Tiny::default().write(&model);
        Fixture { model: model.to_str().expect("UTF-8").to_string(), folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A run that has to succeed.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let ran = porism(self.path(), &[], args);
        assert_eq!(ran.code, Some(0), "{args:?}\n{ran:?}");
        ran
    }

    /// What a run prints, as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.run(args).stdout).expect("JSON on stdout")
    }
}

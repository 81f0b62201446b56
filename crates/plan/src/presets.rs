//! Models by name, with the dimensions that their publishers' configurations give.

use crate::{Dimensions, Error, Experts, FeedForward, Norms, QueryKeyNorm, Result};

/// One model: the name, layers, width, heads, key and value heads, features a head, feed-forward width, vocabulary,
/// context; and what is special.
type Row = (&'static str, [u64; 8], Kind);

/// What models have in common with others.
#[derive(Clone, Copy)]
enum Kind {
    /// RMSNorm, a gated network, a head of its own.
    Llama,
    /// The same with the embedding table as the head.
    LlamaTied,
    /// A window in every layer.
    Mistral(u64),
    /// Experts: how many, and how many for a token.
    Mixtral(u64, u64),
    /// Biases on queries, keys and values.
    Qwen2,
    /// The same with the embedding table as the head.
    Qwen2Tied,
    /// Norms of each head's queries and keys.
    Qwen3,
    /// The same with the embedding table as the head.
    Qwen3Tied,
    /// The same with experts: how many, and how many for a token.
    Qwen3Moe(u64, u64),
    /// Norms of all queries and keys together, and experts.
    Olmoe(u64, u64),
    /// Norms before and after the branches; a window, and the layers that have it.
    Gemma2(u64, u64),
    /// The same with norms of each head's queries and keys.
    Gemma3(u64, u64),
    /// LayerNorm, biases, learned positions, a network without a gate, the embedding table as the head.
    Gpt2,
}

use Kind::{
    Gemma2, Gemma3, Gpt2, Llama, LlamaTied, Mistral, Mixtral, Olmoe, Qwen2, Qwen2Tied, Qwen3, Qwen3Moe, Qwen3Tied,
};

const PRESETS: [Row; 39] = [
    ("llama-7b", [32, 4096, 32, 32, 128, 11_008, 32_000, 2048], Llama),
    ("llama-13b", [40, 5120, 40, 40, 128, 13_824, 32_000, 2048], Llama),
    ("llama-30b", [60, 6656, 52, 52, 128, 17_920, 32_000, 2048], Llama),
    ("llama-65b", [80, 8192, 64, 64, 128, 22_016, 32_000, 2048], Llama),
    ("llama-2-7b", [32, 4096, 32, 32, 128, 11_008, 32_000, 4096], Llama),
    ("llama-2-13b", [40, 5120, 40, 40, 128, 13_824, 32_000, 4096], Llama),
    ("llama-2-70b", [80, 8192, 64, 8, 128, 28_672, 32_000, 4096], Llama),
    ("llama-3-8b", [32, 4096, 32, 8, 128, 14_336, 128_256, 8192], Llama),
    ("llama-3-70b", [80, 8192, 64, 8, 128, 28_672, 128_256, 8192], Llama),
    ("llama-3.1-8b", [32, 4096, 32, 8, 128, 14_336, 128_256, 131_072], Llama),
    ("llama-3.2-1b", [16, 2048, 32, 8, 64, 8192, 128_256, 131_072], LlamaTied),
    ("llama-3.2-3b", [28, 3072, 24, 8, 128, 8192, 128_256, 131_072], LlamaTied),
    ("tinyllama-1.1b", [22, 2048, 32, 4, 64, 5632, 32_000, 2048], Llama),
    ("mistral-7b", [32, 4096, 32, 8, 128, 14_336, 32_000, 32_768], Mistral(4096)),
    ("mixtral-8x7b", [32, 4096, 32, 8, 128, 14_336, 32_000, 32_768], Mixtral(8, 2)),
    ("mixtral-8x22b", [56, 6144, 48, 8, 128, 16_384, 32_000, 65_536], Mixtral(8, 2)),
    ("qwen2.5-0.5b", [24, 896, 14, 2, 64, 4864, 151_936, 32_768], Qwen2Tied),
    ("qwen2.5-1.5b", [28, 1536, 12, 2, 128, 8960, 151_936, 32_768], Qwen2Tied),
    ("qwen2.5-3b", [36, 2048, 16, 2, 128, 11_008, 151_936, 32_768], Qwen2Tied),
    ("qwen2.5-7b", [28, 3584, 28, 4, 128, 18_944, 152_064, 131_072], Qwen2),
    ("qwen2.5-14b", [48, 5120, 40, 8, 128, 13_824, 152_064, 131_072], Qwen2),
    ("qwen2.5-32b", [64, 5120, 40, 8, 128, 27_648, 152_064, 131_072], Qwen2),
    ("qwen2.5-72b", [80, 8192, 64, 8, 128, 29_568, 152_064, 131_072], Qwen2),
    ("qwen3-0.6b", [28, 1024, 16, 8, 128, 3072, 151_936, 40_960], Qwen3Tied),
    ("qwen3-8b", [36, 4096, 32, 8, 128, 12_288, 151_936, 40_960], Qwen3),
    ("qwen3-30b-a3b", [48, 2048, 32, 4, 128, 768, 151_936, 40_960], Qwen3Moe(128, 8)),
    ("olmoe-1b-7b", [16, 2048, 16, 16, 128, 1024, 50_304, 4096], Olmoe(64, 8)),
    ("smollm2-135m", [30, 576, 9, 3, 64, 1536, 49_152, 8192], LlamaTied),
    ("smollm2-360m", [32, 960, 15, 5, 64, 2560, 49_152, 8192], LlamaTied),
    ("smollm2-1.7b", [24, 2048, 32, 32, 64, 8192, 49_152, 8192], LlamaTied),
    ("gemma-2-2b", [26, 2304, 8, 4, 256, 9216, 256_000, 8192], Gemma2(4096, 13)),
    ("gemma-2-9b", [42, 3584, 16, 8, 256, 14_336, 256_000, 8192], Gemma2(4096, 21)),
    ("gemma-3-270m", [18, 640, 4, 1, 256, 2048, 262_144, 32_768], Gemma3(512, 15)),
    ("gemma-3-1b", [26, 1152, 4, 1, 256, 6912, 262_144, 32_768], Gemma3(512, 22)),
    ("gpt2", [12, 768, 12, 12, 64, 3072, 50_257, 1024], Gpt2),
    ("gpt2-medium", [24, 1024, 16, 16, 64, 4096, 50_257, 1024], Gpt2),
    ("gpt2-large", [36, 1280, 20, 20, 64, 5120, 50_257, 1024], Gpt2),
    ("gpt2-xl", [48, 1600, 25, 25, 64, 6400, 50_257, 1024], Gpt2),
    ("gpt-3-175b", [96, 12_288, 96, 96, 128, 49_152, 50_257, 2048], Gpt2),
];

/// Other names of presets.
const ALIASES: [(&str, &str); 6] = [
    ("llama-70b", "llama-2-70b"),
    ("llama-8b", "llama-3-8b"),
    ("llama-33b", "llama-30b"),
    ("gpt-2", "gpt2"),
    ("gpt-3", "gpt-3-175b"),
    ("gpt3", "gpt-3-175b"),
];

/// The names of all presets.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|row| row.0)
}

/// The preset of a name, upper and lower case alike.
///
/// # Errors
/// There is none; the error has the nearest names.
pub fn find(name: &str) -> Result<Dimensions> {
    let wanted = name.trim().to_lowercase();
    let wanted = ALIASES.iter().find(|(alias, _)| *alias == wanted).map_or(wanted.as_str(), |(_, name)| name);
    match PRESETS.iter().find(|row| row.0 == wanted) {
        Some(row) => dimensions(row).checked(),
        None => Err(Error::UnknownPreset { name: name.into(), near: nearest(wanted) }),
    }
}

/// The three names that take the fewest changes, those first that it is the beginning of.
fn nearest(name: &str) -> Vec<&'static str> {
    let known = names().chain(ALIASES.iter().map(|(alias, _)| *alias));
    let mut ranked: Vec<(bool, usize, &str)> =
        known.map(|known| (!known.starts_with(name), changes(name, known), known)).collect();
    ranked.sort();
    ranked.into_iter().take(3).map(|(_, _, name)| name).collect()
}

/// Letters to insert, remove or replace to make one word of another (Levenshtein 1966).
fn changes(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(100).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn dimensions((name, [layers, width, heads, kv_heads, head_dim, ffn, vocab, context], kind): &Row) -> Dimensions {
    let plain = Dimensions {
        name: (*name).into(),
        layers: *layers,
        width: *width,
        heads: *heads,
        kv_heads: *kv_heads,
        head_dim: *head_dim,
        ffn: FeedForward { width: *ffn, gated: true },
        experts: None,
        vocab: *vocab,
        tied: false,
        context: Some(*context),
        positions: 0,
        norms: Norms { in_layer: 2, numbers: 1 },
        query_key_norm: None,
        qkv_bias: false,
        other_bias: false,
        window: None,
        windowed_layers: 0,
    };
    let experts = |count, used| Some(Experts { count, used, width: *ffn, shared: 0, layers: *layers });
    let by_head = Some(QueryKeyNorm::Head);
    match *kind {
        Llama => plain,
        LlamaTied => Dimensions { tied: true, ..plain },
        Mistral(window) => Dimensions { window: Some(window), windowed_layers: *layers, ..plain },
        Mixtral(count, used) => Dimensions { experts: experts(count, used), ..plain },
        Qwen2 => Dimensions { qkv_bias: true, ..plain },
        Qwen2Tied => Dimensions { qkv_bias: true, tied: true, ..plain },
        Qwen3 => Dimensions { query_key_norm: by_head, ..plain },
        Qwen3Tied => Dimensions { query_key_norm: by_head, tied: true, ..plain },
        Qwen3Moe(count, used) => Dimensions { query_key_norm: by_head, experts: experts(count, used), ..plain },
        Olmoe(count, used) => {
            Dimensions { query_key_norm: Some(QueryKeyNorm::Row), experts: experts(count, used), ..plain }
        }
        Gemma2(window, windowed_layers) | Gemma3(window, windowed_layers) => Dimensions {
            tied: true,
            norms: Norms { in_layer: 4, numbers: 1 },
            query_key_norm: by_head.filter(|_| matches!(kind, Gemma3(..))),
            window: Some(window),
            windowed_layers,
            ..plain
        },
        Gpt2 => Dimensions {
            ffn: FeedForward { width: *ffn, gated: false },
            tied: true,
            positions: *context,
            norms: Norms { in_layer: 2, numbers: 2 },
            qkv_bias: true,
            other_bias: true,
            ..plain
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_a_model() {
        for name in names() {
            let found = find(name).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(found.name, name);
        }
        for (alias, name) in ALIASES {
            assert_eq!(find(alias).map(|d| d.name), Ok(name.to_string()));
        }
        assert_eq!(find(" LLaMA-7B ").map(|d| d.layers), Ok(32));
    }

    #[test]
    fn the_nearest_names_are_offered() {
        let near = |name: &str| find(name).expect_err(name).to_string();
        assert!(near("lama-7b").contains("llama-7b"), "{}", near("lama-7b"));
        assert!(near("mixtral").contains("mixtral-8x7b"), "{}", near("mixtral"));
        assert!(near("smollm").ends_with("smollm2-1.7b, smollm2-135m, smollm2-360m"), "{}", near("smollm"));
        assert!(near("qwen2.5-0.6b").contains("qwen2.5-0.5b"), "{}", near("qwen2.5-0.6b"));
        assert_eq!(changes("kitten", "sitting"), 3);
        assert_eq!(changes("", "abc"), 3);
    }
}

//! Our cuts against those of the `tokenizers` crate, from the expressions in published files.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::*;
use proptest::prelude::*;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

fn ours(name: &str, text: &str) -> Vec<String> {
    let mut words = Vec::new();
    PreTokenizer::named(name).unwrap().split(text, |w| words.push(w.to_owned()));
    words
}

/// The same cut by the `tokenizers` crate, from the JSON that Hugging Face's files hold.
fn theirs(name: &str, text: &str) -> Vec<String> {
    // Compiling the expressions takes longer than all the cutting.
    static BUILT: LazyLock<BTreeMap<&str, PreTokenizerWrapper>> = LazyLock::new(|| {
        let build = |name: &str| {
            let rule = PreTokenizer::named(name).unwrap().rule;
            serde_json::from_value(crate::hf::pre_tokenizer_json(rule)).unwrap()
        };
        NAMES.iter().map(|&name| (name, build(name))).collect()
    });
    let pre = &BUILT[name];
    let mut string = PreTokenizedString::from(text);
    pre.pre_tokenize(&mut string).unwrap();
    string
        .get_splits(OffsetReferential::Original, OffsetType::Byte)
        .into_iter()
        .map(|(_, (from, to), _)| text[from..to].to_owned())
        .collect()
}

const NAMES: [&str; 12] = [
    "gpt-2",
    "smollm",
    "qwen2",
    "qwen35",
    "llama-bpe",
    "tekken",
    "gpt-4o",
    "falcon",
    "deepseek-coder",
    "deepseek-llm",
    "deepseek-v3",
    "default",
];

#[test]
fn awkward_texts_are_cut_like_the_tokenizers_crate_does() {
    for text in [
        "",
        " ",
        "  ",
        "   a",
        "\n",
        " \n a",
        "a \n \n\n b\t\tc",
        "\r\n\r\n x",
        "I'm you'RE they'LL we'Ve he'd '\u{17f}a 'Tis '",
        "12345 1234567 ³4Ⅷ ٣٣٣٣",
        "a1b2 c3\u{a0}d\u{3000}\u{3000}e\u{85}f",
        "!!!\n\n?? ...\r\n x--y  --z",
        "你好，世界 こんにちは 😀😀 e\u{301}",
        "$100 + 200 <= 300|400^5~6",
        "'s's'' ' s",
        "\u{200b}a\u{200b} \u{200b}",
        "1\u{660}\u{661}234 5678901",
    ] {
        for name in NAMES {
            assert_eq!(ours(name, text), theirs(name, text), "{name} on {text:?}");
        }
    }
}

fn soup() -> impl Strategy<Value = String> {
    // Few characters, so that the interesting neighbours meet often.
    let char = prop::sample::select(
        " \t\n\r'sStTdDmMrReEvVlLſab12Ⅷ٣³.!$<~`/é你。かกǅʰЖ\u{a0}\u{3000}\u{85}\u{200b}\u{301}😀"
            .chars()
            .collect::<Vec<_>>(),
    );
    prop::collection::vec(char, 0..40).prop_map(|v| v.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_texts_are_cut_like_the_tokenizers_crate_does(text in soup()) {
        for name in NAMES {
            prop_assert_eq!(ours(name, &text), theirs(name, &text), "{} on {:?}", name, &text);
        }
    }

    #[test]
    fn the_pieces_cover_the_text(text in any::<String>()) {
        for name in NAMES {
            prop_assert_eq!(ours(name, &text).concat(), &text[..]);
        }
    }
}

#[test]
fn every_name_is_found_and_an_unknown_one_lists_them() {
    for row in &ROWS {
        for name in row.names {
            let found = PreTokenizer::named(name).unwrap();
            assert_eq!((found.name, found.rule), (*name, row.rule));
        }
    }
    assert_eq!(PreTokenizer::named("").unwrap().name, "default");
    let message = PreTokenizer::named("unheard-of").unwrap_err().to_string();
    assert!(message.contains("pre-tokenizer \"unheard-of\"") && message.contains("llama-bpe"), "{message}");
    assert!(PreTokenizer::named(&"x".repeat(10_000)).unwrap_err().to_string().len() < 2000);
}

#[test]
fn a_rule_and_switch_lead_back_to_a_name() {
    let name = |rule, ignore| PreTokenizer::with(rule, ignore).map(|p| p.name);
    assert_eq!(name(Rule::Cl100k { digits: 3 }, true), Some("llama-bpe"));
    assert_eq!(name(Rule::Cl100k { digits: 3 }, false), Some("dbrx"));
    assert_eq!(name(Rule::Gpt2, true), None);
}

//! Trained tokenizers against Hugging Face's `tokenizers`: the same vocabulary, the same merges in the same order, and a
//! file that it loads.

use std::io::Write as _;

use porism_text::Tokenizer;
use porism_text::train::{TrainOptions, Trained, WordCounts, learn};
use proptest::prelude::*;
use serde_json::Value;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Library};

/// An untrained tokenizer of the library and its trainer.
fn untrained(options: &TrainOptions) -> (Library, TrainerWrapper) {
    let mut library = Library::new(BPE::default());
    library.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    let special = options.special.iter().map(|text| AddedToken::from(text.clone(), true)).collect();
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(options.vocab_size)
        .min_frequency(options.min_frequency)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(special)
        .build();
    (library, TrainerWrapper::BpeTrainer(trainer))
}

/// What the library learns from a text, given line by line or whole.
fn peer(text: &str, options: &TrainOptions, across_lines: bool) -> Library {
    let (mut library, mut trainer) = untrained(options);
    let parts: Vec<&str> = if across_lines { vec![text] } else { text.split_inclusive('\n').collect() };
    library.train(&mut trainer, parts.into_iter()).unwrap();
    library
}

fn ours(text: &str, options: &TrainOptions, across_lines: bool) -> Trained {
    let mut words = WordCounts::new(across_lines);
    words.add(text).unwrap();
    learn(&words, options, &mut |_, _| {}).unwrap()
}

/// Tokens by id and merges by rank of a `tokenizer.json`.
fn parts(json: &Value) -> (Vec<String>, Vec<String>) {
    let vocab = json["model"]["vocab"].as_object().unwrap();
    let mut tokens: Vec<(u64, String)> = vocab.iter().map(|(text, id)| (id.as_u64().unwrap(), text.clone())).collect();
    tokens.sort();
    assert!(tokens.iter().enumerate().all(|(at, (id, _))| at as u64 == *id), "ids without gaps");
    let merges = json["model"]["merges"].as_array().unwrap().iter().map(|merge| match merge {
        Value::String(line) => line.clone(),
        halves => format!("{} {}", halves[0].as_str().unwrap(), halves[1].as_str().unwrap()),
    });
    (tokens.into_iter().map(|(_, text)| text).collect(), merges.collect())
}

fn json_of(library: &Library) -> Value {
    serde_json::from_str(&library.to_string(false).unwrap()).unwrap()
}

/// Asserts that both learn the same; gives both.
fn agree(text: &str, options: &TrainOptions, across_lines: bool) -> (Trained, Library) {
    let (trained, library) = (ours(text, options, across_lines), peer(text, options, across_lines));
    let written = parts(&trained.source().to_tokenizer_json().unwrap());
    let learned = parts(&json_of(&library));
    assert_eq!(written.0, learned.0, "tokens of {text:?}");
    assert_eq!(written.1, learned.1, "merges of {text:?}");
    assert_eq!(trained.tokens(), learned.0);
    (trained, library)
}

fn options(vocab_size: usize, min_frequency: u64, special: &[&str]) -> TrainOptions {
    TrainOptions { vocab_size, min_frequency, special: special.iter().map(|s| s.to_string()).collect() }
}

/// Words of several scripts, some of them parts of others, so that pairs compete.
fn texts() -> impl Strategy<Value = String> {
    let pool = [
        "low",
        "lower",
        "lowest",
        "new",
        "newer",
        "wide",
        "abab",
        "aaaa",
        "aaaaaaa",
        "abcabc",
        "bcab",
        "it's",
        "they'll",
        "Größe",
        "Straße",
        "größer",
        "река",
        "реки",
        "рекой",
        "дом",
        "نهر",
        "شجرة",
        "בית",
        "河流",
        "河边",
        "漢字かな",
        "カナ",
        "나무",
        "나무들",
        "हिन्दी",
        "नदी",
        "ไทย",
        "😀😀",
        "👩\u{200d}💻",
        "123",
        "1234",
        "!?",
        "...",
        "\u{a0}",
        "\u{3000}x",
    ];
    let word = prop_oneof![
        8 => prop::sample::select(pool.to_vec()).prop_map(str::to_owned),
        2 => "[a-d]{1,9}",
        1 => "\\PC{1,4}",
    ];
    let gap = prop::sample::select(vec![" ", " ", " ", "\n", "\n\n", "  ", "\n    ", "\t", "\r\n", "", ", "]);
    prop::collection::vec((word, gap).prop_map(|(word, gap)| word + gap), 0..120).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn merges_are_those_of_the_library(
        text in texts(),
        more in 0usize..200,
        min_frequency in 0u64..4,
        across_lines in any::<bool>(),
    ) {
        prop_assume!(!text.is_empty());
        let options = options(258 + more, min_frequency, &["<|endoftext|>", "<pad>"]);
        agree(&text, &options, across_lines);
    }

    /// Runs of few letters: the same token comes about in several ways.
    #[test]
    fn second_ways_to_a_token_are_those_of_the_library(words in prop::collection::vec("[ab]{1,12}", 1..40)) {
        agree(&words.join(" "), &options(600, 0, &[]), false);
    }

    #[test]
    fn both_load_the_file_and_give_the_same_ids(text in texts(), other in texts()) {
        prop_assume!(!text.is_empty());
        let (trained, library) = agree(&text, &options(400, 2, &["<|endoftext|>"]), true);
        let file = trained.source().to_tokenizer_json().unwrap().to_string();
        let loaded: Library = file.parse().unwrap();
        let tokenizer = Tokenizer::from_source(&trained.source()).unwrap();
        let whole = format!("{other}<|endoftext|>{text}");
        let ids = tokenizer.encode(&whole, true, true).unwrap();
        for peer in [&loaded, &library] {
            let encoding = peer.encode(whole.as_str(), true).unwrap();
            prop_assert_eq!(&ids, encoding.get_ids());
        }
        prop_assert_eq!(loaded.decode(&ids, false).unwrap(), whole);
    }
}

/// The textbook's example (Gage 1994): aaabdaaabac becomes XdXac with X = ZY, Y = ab, Z = aa.
#[test]
fn the_textbooks_example() {
    let trained = ours("aaabdaaabac", &options(259, 2, &[]), false);
    assert_eq!(trained.tokens()[256..], ["aa", "ab", "aaab"]);
    let tokenizer = Tokenizer::from_source(&trained.source()).unwrap();
    let text = |id: &u32| tokenizer.token_text(*id).unwrap().to_owned();
    let ids = tokenizer.encode("aaabdaaabac", true, false).unwrap();
    assert_eq!(ids.iter().map(text).collect::<Vec<_>>(), ["aaab", "d", "aaab", "a", "c"]);
    let mut words = WordCounts::new(false);
    words.add("aaabdaaabac aaab").unwrap();
    // And the space with the word behind it: two tokens more.
    assert_eq!((words.bytes(), trained.count_tokens(&words).unwrap()), (16, 7));
}

#[test]
fn files_are_read_as_the_library_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let texts = ["one two\n\n\n  two one\r\n\tone", "zwei  drei\n \n zwei\n", "", "no newline at the end, one"];
    let mut names = Vec::new();
    let mut words = WordCounts::new(false);
    for (number, text) in texts.iter().enumerate() {
        let name = folder.path().join(format!("{number}.txt"));
        std::fs::write(&name, text).unwrap();
        words.read("text", std::fs::File::open(&name).unwrap(), &mut |_| {}).unwrap();
        names.push(name.to_str().unwrap().to_owned());
    }
    let options = options(300, 0, &["</s>"]);
    let trained = learn(&words, &options, &mut |_, _| {}).unwrap();
    let (mut library, mut trainer) = untrained(&options);
    library.train_from_files(&mut trainer, names).unwrap();
    assert_eq!(parts(&trained.source().to_tokenizer_json().unwrap()), parts(&json_of(&library)));
    assert_eq!(words.bytes(), texts.iter().map(|text| text.len() as u64).sum::<u64>());
}

#[test]
fn a_folder_has_what_goes_with_a_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let trained = ours("low lower lowest low", &options(270, 2, &["<pad>", "<s>", "<|im_end|>", "<x>"]), false);
    let (file, out) = (folder.path().join("t.json"), folder.path().join("out"));
    trained.save(&file).unwrap();
    std::fs::create_dir(&out).unwrap();
    trained.save(&out).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(out.join("tokenizer.json")).unwrap());
    let loaded = Tokenizer::from_hf(&out).unwrap();
    assert_eq!((loaded.special_ids().pad, loaded.bos(), loaded.eos()), (Some(0), Some(1), Some(2)));
    assert!(!loaded.adds_bos() && !loaded.adds_eos() && loaded.is_special(3));
    assert_eq!(loaded.source().unwrap().tokens, trained.source().tokens);
    // What is there is not replaced, and nothing is left of what was not finished.
    std::fs::File::create(folder.path().join("other")).unwrap().write_all(b"mine").unwrap();
    for (name, words) in [
        ("t.json", "exists already"),
        ("out", "files in it"),
        ("other", "exists already"),
        ("no/such/t.json", "there is no folder"),
    ] {
        let message = trained.save(&folder.path().join(name)).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(std::fs::read(folder.path().join("other")).unwrap(), b"mine");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn what_cannot_be_trained_is_said() {
    let mut words = WordCounts::new(false);
    words.add("some text").unwrap();
    let refused =
        |words: &WordCounts, options: &TrainOptions| learn(words, options, &mut |_, _| {}).unwrap_err().to_string();
    for (options, want) in [
        (options(256, 2, &["<s>"]), "at least 257 are needed (256 bytes, 1 special tokens)"),
        (options(1 << 22, 2, &[]), "at most 2097152 possible"),
        (options(300, 2, &[""]), "a special token is empty"),
        (options(300, 2, &["###"]), "`###` is a word that texts may hold"),
        (options(300, 2, &["Ġthe"]), "`Ġthe` is a word"),
        (options(300, 2, &["a"]), "`a` is a word"),
    ] {
        let message = refused(&words, &options);
        assert!(message.starts_with("training a tokenizer: ") && message.contains(want), "{message}");
    }
    assert!(refused(&WordCounts::new(false), &options(300, 2, &[])).contains("there is no text"));
    // One given twice counts once, and a text may run out of pairs.
    let trained = learn(&words, &options(300, 2, &["<s>", "<s>"]), &mut |_, _| {}).unwrap();
    assert_eq!((trained.special(), trained.tokens().len(), trained.merges().len()), (1, 257, 0));
}

/// Nearly half of the text is one word of a megabyte.
#[test]
fn long_words_are_no_trouble() {
    let text = "ab".repeat(500_000) + " some other words, some of them twice";
    let trained = ours(&text, &options(280, 2, &[]), false);
    assert_eq!(trained.tokens()[256..259], ["ab", "abab", "abababab"]);
}

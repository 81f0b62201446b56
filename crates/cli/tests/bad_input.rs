//! Bad input: for each what the binary says and how it exits. Never a panic, never a half-written file.

mod support;

use std::path::Path;

use porism_kernels::Isa;
use support::{Ran, Tiny, porism};

/// One kind of bad input.
struct Row {
    name: &'static str,
    environment: Vec<(&'static str, String)>,
    args: Vec<String>,
    code: i32,
    words: &'static [&'static str],
}

fn row(name: &'static str, args: &[&str], code: i32, words: &'static [&'static str]) -> Row {
    Row { name, environment: Vec::new(), args: args.iter().map(|a| a.to_string()).collect(), code, words }
}

/// What is wrong with how the binary took it, if anything.
fn complaint(row: &Row, ran: &Ran) -> Option<String> {
    let missing: Vec<&&str> = row.words.iter().filter(|w| !ran.stderr.contains(**w)).collect();
    let fine = ran.code == Some(row.code) && !ran.stderr.contains("panicked") && missing.is_empty();
    (!fine).then(|| {
        format!("{}: {:?}\n  expected code {}, missing words {missing:?}\n  {ran:?}", row.name, row.args, row.code)
    })
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("a path in UTF-8").to_string()
}

#[test]
fn the_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| path(folder.path(), name);
    let home = folder.path().join("home");
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).expect("a file");
        path(folder.path(), name)
    };
    let tiny = |name: &str, model: Tiny| {
        model.write(&folder.path().join(name));
        path(folder.path(), name)
    };

    let good = tiny("good.gguf", Tiny::default());
    let bytes = std::fs::read(&good).expect("the model");
    let empty = write("empty.gguf", b"");
    let magic = write("magic.gguf", b"GGML\x03\0\0\0 and more of it");
    let mut counted = bytes.clone();
    counted[8..16].copy_from_slice(&(1u64 << 63).to_le_bytes());
    let tensors = write("tensors.gguf", &counted);
    counted.copy_from_slice(&bytes);
    counted[16..24].copy_from_slice(&(1u64 << 63).to_le_bytes());
    let keys = write("keys.gguf", &counted);
    // The type of the first tensor stands behind its name, its dimension count and two dimensions.
    let name = b"token_embd.weight";
    let at = bytes.windows(name.len()).position(|w| w == name).expect("the tensor") + name.len() + 4 + 16;
    let mut typed = bytes.clone();
    typed[at..at + 4].copy_from_slice(&77u32.to_le_bytes());
    let block_type = write("type.gguf", &typed);

    let unknown = tiny("unknown.gguf", Tiny { architecture: "mamba9", ..Tiny::default() });
    let missing = tiny("missing.gguf", Tiny { without: &["blk.0.attn_k.weight"], ..Tiny::default() });
    let shape = tiny("shape.gguf", Tiny { ffn_rows: 63, ..Tiny::default() });
    let mute = tiny("mute.gguf", Tiny { tokenizer: false, ..Tiny::default() });
    let template = tiny("template.gguf", Tiny { template: "{% for m in %}", ..Tiny::default() });
    let refusing =
        tiny("refusing.gguf", Tiny { template: "{{ raise_exception('only whispers') }}", ..Tiny::default() });
    let short = tiny("short.gguf", Tiny { context: 16, ..Tiny::default() });
    let other = tiny("other.gguf", Tiny { end: "<|stop|>", ..Tiny::default() });
    let long = "a word ".repeat(30);
    let latin = write("latin.txt", b"caf\xe9");
    let chat = write("chat.json", b"{\"messages\": [{\"role\": \"user\"");
    let small = write("small.txt", b"too short");
    let no_folder = file("no/such/folder/out.gguf");
    let four_bit = file("four-bit");
    let blocked = write("blocked", b"a file where the cache should be");
    let nowhere = file("nothing.gguf");
    std::fs::create_dir(folder.path().join("bare")).expect("a folder");
    let bare = file("bare");

    let mut table = vec![
        row("empty file", &["inspect", &empty], 1, &["empty.gguf"]),
        row("empty file, run", &["run", "-m", &empty, "hi"], 1, &["empty.gguf"]),
        row("wrong magic", &["inspect", &magic], 1, &["magic.gguf", "GGUF"]),
        row("2^63 tensors", &["inspect", &tensors], 1, &["tensors.gguf", "9223372036854775808"]),
        row("2^63 keys", &["inspect", &keys], 1, &["keys.gguf", "9223372036854775808"]),
        row("unknown block type", &["run", "-m", &block_type, "hi"], 1, &["token_embd.weight", "77"]),
        row("unknown architecture", &["run", "-m", &unknown, "hi"], 1, &["mamba9", "llama"]),
        row("missing tensor", &["run", "-m", &missing, "hi"], 1, &["blk.0.attn_k.weight", "missing"]),
        row("wrong shape", &["run", "-m", &shape, "hi"], 1, &["ffn_gate.weight", "63 x 32", "64 x 32"]),
        row("tokenizer missing", &["run", "-m", &mute, "hi"], 1, &["mute.gguf", "tokenizer"]),
        row("invalid template", &["run", "-m", &template, "hi"], 1, &["template"]),
        row("a template that refuses", &["run", "-m", &refusing, "hi"], 1, &["only whispers"]),
        row(
            "prompt longer than the context",
            &["run", "-m", &short, "--raw", &long],
            1,
            &["210 tokens", "16", "--overflow slide"],
        ),
        row("no such file", &["run", "-m", &nowhere, "hi"], 1, &["nothing.gguf"]),
        row("a folder without a model", &["inspect", &bare], 1, &["bare"]),
        row("no such name", &["run", "-m", "smollm3-135m-instruct", "hi"], 1, &["smollm2-135m-instruct"]),
        row("no prompt", &["run", "-m", &good, "--raw"], 2, &["prompt"]),
        row("empty prompt", &["run", "-m", &good, "--raw", ""], 2, &["empty"]),
        row("temperature out of range", &["run", "--temperature=-1", "hi"], 2, &["--temperature", "0 to 100"]),
        row("temperature no number", &["run", "--temperature", "warm", "hi"], 2, &["--temperature", "warm"]),
        row("top-p out of range", &["run", "--top-p", "1.5", "hi"], 2, &["--top-p", "at most 1"]),
        row("min-p out of range", &["run", "--min-p", "2", "hi"], 2, &["--min-p", "0 to 1"]),
        row("penalty out of range", &["run", "--repeat-penalty", "0", "hi"], 2, &["--repeat-penalty"]),
        row("no threads", &["run", "--threads", "0", "hi"], 2, &["--threads", "1 to 1024"]),
        row("no tokens", &["run", "--max-tokens", "0", "hi"], 2, &["--max-tokens"]),
        row("unknown cache type", &["run", "--kv-type", "q3", "hi"], 2, &["--kv-type", "f16"]),
        row("unknown overflow", &["run", "--overflow", "truncate", "hi"], 2, &["--overflow", "slide"]),
        row("alternatives without JSON", &["run", "--top-logprobs", "3", "hi"], 2, &["--json"]),
        row("unknown flag", &["run", "--fast", "hi"], 2, &["--fast"]),
        row("unknown command", &["fly"], 2, &["fly"]),
        row("text that is no UTF-8", &["tokenize", "-m", &good, "--file", &latin], 1, &["latin.txt", "UTF-8"]),
        row("ids that are none", &["detokenize", "-m", &good, "1 two"], 2, &["two"]),
        row("id out of range", &["detokenize", "-m", &good, "9999"], 1, &["9999"]),
        row("broken chat file", &["template", "-m", &good, &chat], 1, &["chat.json"]),
        row("convert to nowhere", &["convert", &good, "-o", &no_folder], 1, &["no/such/folder"]),
        row("nf4 in a GGUF file", &["convert", &good, "-o", "x.gguf", "--to", "nf4"], 1, &["no type NF4", "folder"]),
        row(
            "nf4 of narrow rows",
            &["convert", &good, "-o", &four_bit, "--to", "nf4"],
            1,
            &["`blk.0.attn_q.weight`", "blocks of 64"],
        ),
        row(
            "scales of no blocks in 8 bits",
            &["convert", &good, "-o", &four_bit, "--to", "f16", "--double-quant"],
            2,
            &["--double-quant", "--to nf4"],
        ),
        row("convert to an unknown type", &["convert", &good, "-o", "x.gguf", "--to", "q9"], 2, &["--to", "bf16"]),
        row(
            "perplexity of too little",
            &["measure", "perplexity", &small, "-m", &good, "--protocol", "llama.cpp"],
            1,
            &["small.txt"],
        ),
        row(
            "divergence of other vocabularies",
            &["measure", "divergence", &good, &other, &small],
            1,
            &["other.gguf", "token 256", "<|end|>", "<|stop|>"],
        ),
        row(
            "divergence on too little",
            &["measure", "divergence", &good, &good, &small],
            1,
            &["small.txt", "9 tokens"],
        ),
        row("divergence from nothing", &["measure", "divergence", &good, &nowhere, &small], 1, &["nothing.gguf"]),
        row("divergence without a text", &["measure", "divergence", &good, &good], 2, &["FILE"]),
        row(
            "unknown protocol",
            &["measure", "perplexity", &small, "--protocol", "guess"],
            2,
            &["--protocol", "sliding"],
        ),
    ];
    table.extend([
        row("no prompt to measure", &["bench", "-m", &good, "--prompt", "0"], 2, &["--prompt", "0 is not"]),
        row("nothing to generate", &["bench", "-m", &good, "--generate", "128,0"], 2, &["--generate", "0 is not"]),
        row("a batch of nothing", &["bench", "-m", &good, "--batch", "0"], 2, &["--batch", "0 is not"]),
        row("a batch beyond bounds", &["bench", "-m", &good, "--batch", "257"], 2, &["--batch", "above 256"]),
        row("a list of nothing", &["bench", "-m", &good, "--depth", ""], 2, &["--depth"]),
        row("no repetitions", &["bench", "-m", &good, "--repeat", "0"], 2, &["--repeat"]),
        row("unknown test", &["bench", "-m", &good, "--test", "warp"], 2, &["--test", "warp", "contention"]),
        row("unknown instructions", &["bench", "-m", &good, "--isa", "mmx"], 2, &["--isa", "mmx", "scalar, avx2"]),
        row("a row that is none", &["bench", "-m", &good, "--row", "{}"], 2, &["--row"]),
        row("a core that is none", &["bench", "--busy", "1000000"], 1, &["core 1000000"]),
        row("a benchmark of no model", &["bench", "-m", &empty], 1, &["empty.gguf"]),
        // Heads of 8 numbers.
        row(
            "a cache type that heads do not fit",
            &["run", "-m", &good, "--raw", "--kv-type", "q8_0", "hi"],
            1,
            &["8 numbers", "q8_0", "blocks of 32", "use f16"],
        ),
        row(
            "a cache type that heads do not fit, measured",
            &["bench", "-m", &good, "--kv-type", "f16,q4_0"],
            1,
            &["good.gguf", "8 numbers", "q4_0", "use f16"],
        ),
        row(
            "more threads than any machine",
            &["bench", "-m", &good, "--threads", "1025"],
            2,
            &["--threads", "1 to 1024"],
        ),
    ]);
    // Heads of 8 features, which attention has no fast path for.
    table.push(row(
        "heads that are widened and padded",
        &["run", "-v", "-m", &good, "--raw", "hi", "--max-tokens", "3"],
        0,
        &["heads of 8 features", "values widened and padded", "instructions"],
    ));
    // Too many threads are no mistake, but worth a word.
    let (crowd, cores) = (porism_kernels::pool::usable_cores() + 13, porism_kernels::pool::usable_cores());
    let (crowd, note) = (crowd.to_string(), format!("{crowd} threads on {cores} usable cores"));
    let crowded: [&[&str]; 2] = [
        &["run", "-m", &good, "--raw", "hi", "--max-tokens", "3", "--threads", &crowd],
        &["bench", "-m", &good, "--test", "generate", "--generate", "3", "--repeat", "1", "--threads", &crowd],
    ];
    let words: &'static [&'static str] = vec![&*note.leak()].leak();
    table.extend(crowded.map(|args| row("more threads than cores", args, 0, words)));
    // What this processor lacks, if there is any such.
    for lacking in Isa::ALL.into_iter().filter(|isa| !Isa::available().contains(isa)) {
        let args = ["bench", "-m", &good, "--isa", lacking.name()];
        table.push(row("instructions that the processor lacks", &args, 2, &["--isa", "lacks it", "scalar"]));
    }
    let in_blocked = |mut row: Row| {
        row.environment.push(("PORISM_HOME", blocked.clone()));
        row
    };
    table.push(in_blocked(row("unreadable cache", &["pull", "smollm2-135m-instruct"], 1, &["blocked"])));
    let mut pipless = row("no pip", &["pull", "smollm2-135m-instruct"], 1, &["pip", "python3-pip"]);
    pipless.environment = vec![("HF_ENDPOINT", "http://127.0.0.1:1".into()), ("PATH", "/nonexistent".into())];
    table.push(pipless);
    let mut broken = row("no network", &["pull", "owner/repo:Q4_K_M"], 1, &["127.0.0.1"]);
    broken.environment.push(("HF_ENDPOINT", "http://127.0.0.1:1".into()));
    table.push(broken);

    let mut complaints = Vec::new();
    for row in &table {
        let environment: Vec<(&str, &str)> = row.environment.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let args: Vec<&str> = row.args.iter().map(String::as_str).collect();
        complaints.extend(complaint(row, &porism(&home, &environment, &args)));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(!folder.path().join("x.gguf").exists());
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = folder.path().join("good.gguf");
    Tiny::default().write(&good);
    let bytes = std::fs::read(&good).expect("the model");
    for tenth in 0..10 {
        let cut = folder.path().join(format!("cut{tenth}.gguf"));
        std::fs::write(&cut, &bytes[..bytes.len() * tenth / 10]).expect("a file");
        let name = format!("cut{tenth}.gguf");
        let args = ["run", "-m", cut.to_str().expect("UTF-8"), "--raw", "hi"];
        let ran = porism(folder.path(), &[], &args);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(&name) && !ran.stderr.contains("panicked"), "{ran:?}");
    }
}

#[test]
fn a_hundred_mutations_of_a_header_do_no_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = folder.path().join("good.gguf");
    Tiny::default().write(&good);
    let bytes = std::fs::read(&good).expect("the model");
    let last = b"blk.0.ffn_down.weight";
    let header = bytes.windows(last.len()).rposition(|w| w == last).expect("the last tensor") + last.len() + 32;
    let file = folder.path().join("mutated.gguf");
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut refused = 0;
    for seed in 0..100 {
        let mut mutated = bytes.clone();
        for _ in 0..1 + random() % 4 {
            let at = (random() % header as u64) as usize;
            mutated[at] = match random() % 3 {
                0 => 0xff,
                1 => mutated[at] ^ (1 << (random() % 8)),
                _ => random() as u8,
            };
        }
        std::fs::write(&file, &mutated).expect("a file");
        let args = ["run", "-m", file.to_str().expect("UTF-8"), "--raw", "hi", "--max-tokens", "2", "--threads", "1"];
        let ran = porism(folder.path(), &[], &args);
        assert!(matches!(ran.code, Some(0 | 1)) && !ran.stderr.contains("panicked"), "mutation {seed}: {ran:?}");
        refused += usize::from(ran.code == Some(1));
    }
    assert!(refused > 30, "only {refused} of 100 were noticed");
}

#[test]
fn a_cached_file_with_other_bytes_is_found() {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("models/smollm2-135m-instruct");
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    std::fs::File::create(&file).expect("a file").set_len(98_362_432).expect("a size");
    let ran = porism(home.path(), &[], &["pull", "smollm2-135m-instruct", "--verify"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for word in ["SHA-256", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"] {
        assert!(ran.stderr.contains(word), "{word} is missing in {}", ran.stderr);
    }
    assert!(!file.exists(), "the bad file is gone");
}

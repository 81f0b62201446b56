//! A Hugging Face tokenizer: `tokenizer.json`, then (after NUL bytes) `tokenizer_config.json`,
//! `generation_config.json` and a text, which is tokenized, given back, and tokenized by a written copy.
#![no_main]

use libfuzzer_sys::fuzz_target;
use porism_text::{HfFiles, Tokenizer};

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(4, |&b| b == 0).map(|part| String::from_utf8_lossy(part).into_owned());
    let files = HfFiles {
        tokenizer: parts.next().unwrap_or_default(),
        tokenizer_config: parts.next().filter(|p| !p.is_empty()),
        generation_config: parts.next().filter(|p| !p.is_empty()),
        ..HfFiles::default()
    };
    let text = parts.next().unwrap_or_default() + " It's 123 <s>\n\n你好";
    let Ok(tokenizer) = Tokenizer::from_hf_files(&files) else { return };
    for parse_special in [false, true] {
        let ids = tokenizer.encode(&text, true, parse_special).expect("a short text");
        tokenizer.decode(&ids).expect("ids of its own");
        for &id in &ids {
            assert!(tokenizer.token_text(id).is_some());
        }
    }
    let (Ok(tokenizer_json), Ok(config)) = (tokenizer.to_tokenizer_json(), tokenizer.to_tokenizer_config()) else {
        return;
    };
    tokenizer.to_gguf_metadata().expect("it has a name");
    let written = HfFiles {
        tokenizer: tokenizer_json.to_string(),
        tokenizer_config: Some(config.to_string()),
        generation_config: files.generation_config,
        ..HfFiles::default()
    };
    let again = Tokenizer::from_hf_files(&written).expect("what we write we read");
    let encode = |t: &Tokenizer| t.encode(&text, true, true).expect("a short text");
    assert_eq!(encode(&tokenizer), encode(&again));
});

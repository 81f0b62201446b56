//! The JSON files of a Hugging Face folder: the index of shards and the configurations.
#![no_main]

use libfuzzer_sys::fuzz_target;
use porism_formats::hf::{JsonFile, parse_index};

fuzz_target!(|data: &[u8]| {
    if let Ok(pairs) = parse_index(data, "fuzz") {
        for (_, shard) in pairs {
            let path = std::path::Path::new(&shard);
            assert_eq!(path.file_name(), Some(path.as_os_str()), "a shard outside the folder");
        }
    }
    let Ok(file) = JsonFile::parse(data, "fuzz") else { return };
    for key in file.root().keys() {
        let _ = (file.get_usize(key), file.get_f64(key), file.find_bool(key), file.get_str(key));
        let _ = (file.token_ids(key), file.find_object(key));
    }
});

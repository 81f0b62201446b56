//! A GGUF file: opened, all metadata read by every getter, the first row of every weight decoded.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use porism_formats::Gguf;
use porism_formats::gguf::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(file) = Gguf::from_bytes(Arc::new(data.to_vec()), "fuzz") else { return };
    for (key, value) in file.metadata() {
        assert_eq!(file.get(key).map(|v| v.kind()), Some(value.kind()));
        let _ = (file.get_u32(key), file.get_u64(key), file.get_f32(key));
        let _ = (file.get_bool(key), file.get_str(key), file.f32s(key), file.integers::<i32>(key));
        let _ = file.strings(key).map(|strings| strings.map(str::len).sum::<usize>());
        let _ = value.to_string();
        walk(&value);
    }
    for tensor in file.tensors() {
        let weight = file.weight(tensor.name()).expect("checked when the file was opened");
        assert_eq!(weight.bytes().len(), tensor.byte_len());
        let row = weight.slice_rows(0..1).expect("every tensor has a row").to_f32();
        assert_eq!(row.len(), weight.cols());
    }
});

/// Visits every element: as many as the array says it has.
fn walk(value: &Value<'_>) {
    if let Value::Array(array) = value {
        assert_eq!(array.iter().inspect(walk).count(), array.len());
    }
}

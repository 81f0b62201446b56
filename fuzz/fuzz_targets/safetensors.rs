//! A safetensors file: opened, and the first row of every weight decoded.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use porism_formats::hf::SafeTensors;

fuzz_target!(|data: &[u8]| {
    let Ok(file) = SafeTensors::from_bytes(Arc::new(data.to_vec()), "fuzz") else { return };
    for tensor in file.tensors() {
        let Ok(weight) = file.weight(tensor.name()) else { continue };
        assert_eq!(weight.bytes().len(), tensor.byte_len());
        let row = weight.slice_rows(0..1).expect("every weight has a row").to_f32();
        assert_eq!(row.len(), weight.cols());
    }
});

//! The tiny models of `scripts/fixtures/tiny_architectures.py`: weights from the same recipe, written as a Hugging
//! Face folder, with what transformers computed of them.
#![allow(dead_code)] // Each test file uses its part.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// What transformers gave.
pub(crate) struct TinyModel {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) config: Value,
    pub(crate) older_config: Option<Value>,
    tensors: Vec<(String, Vec<usize>, f32, f32)>,
    pub(crate) ids: Vec<u32>,
    pub(crate) rows: Vec<usize>,
    /// Logits, or activations of an encoder, of these rows.
    pub(crate) values: Vec<Vec<f64>>,
    pub(crate) std: f64,
    pub(crate) encoder: bool,
}

fn numbers<T>(value: &Value, of: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    value.as_array().expect("a list").iter().map(|v| of(v).expect("a number")).collect()
}

impl TinyModel {
    pub(crate) fn read(name: &str) -> TinyModel {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.json"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let encoder = value.get("hidden").is_some();
        let wanted = &value[if encoder { "hidden" } else { "logits" }];
        let tensor = |t: &Value| {
            let shape = numbers(&t[1], |v| v.as_u64().map(|n| n as usize));
            let float = |v: &Value| v.as_f64().expect("a number") as f32;
            Some((t[0].as_str()?.to_string(), shape, float(&t[2]), float(&t[3])))
        };
        TinyModel {
            name: name.into(),
            source: value["source"].as_str().expect("a source").into(),
            config: value["config"].clone(),
            older_config: value.get("older_config").filter(|v| v.is_object()).cloned(),
            tensors: numbers(&value["tensors"], tensor),
            ids: numbers(&value["ids"], |v| v.as_u64().map(|n| n as u32)),
            rows: numbers(&wanted["rows"], |v| v.as_u64().map(|n| n as usize)),
            values: numbers(&wanted["values"], |row| Some(numbers(row, Value::as_f64))),
            std: value["std"].as_f64().expect("a number"),
            encoder,
        }
    }

    /// Writes the model under a folder; gives the model's own.
    pub(crate) fn write(&self, under: &Path, config: &Value) -> PathBuf {
        let folder = under.join(&self.name);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("config.json"), config.to_string()).expect("config.json");
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, shape, center, amplitude) in &self.tensors {
            let begin = data.len();
            let seed = fnv1a64(name);
            for i in 0..shape.iter().product::<usize>() as u64 {
                let z = splitmix64(seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
                let u = (z >> 40) as f32 / (1u32 << 24) as f32;
                data.extend((center + amplitude * (2.0 * u - 1.0)).to_le_bytes());
            }
            header.insert(name.clone(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()] }));
        }
        let header = Value::Object(header).to_string();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.bytes());
        file.extend(data);
        std::fs::write(folder.join("model.safetensors"), file).expect("weights");
        folder
    }

    /// The largest difference of these rows, in standard deviations.
    pub(crate) fn error(&self, rows: &[Vec<f32>]) -> f64 {
        assert_eq!(rows.len(), self.values.len());
        let pairs = rows.iter().zip(&self.values).flat_map(|(got, want)| {
            assert_eq!(got.len(), want.len());
            got.iter().zip(want)
        });
        // A NaN is an infinite error: f64::max would drop it.
        pairs
            .map(|(g, w)| (f64::from(*g) - w).abs())
            .map(|d| if d.is_nan() { f64::INFINITY } else { d })
            .fold(0.0, f64::max)
            / self.std
    }
}

fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

fn splitmix64(x: u64) -> u64 {
    let mut x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

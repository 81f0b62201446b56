//! Adapters written back, from either kind of base: PEFT's folders and llama.cpp's files.

mod adapter_case;
mod tiny_model;

use std::collections::{BTreeMap, BTreeSet};

use adapter_case::{ADAPTERS, Case, adapted, open, put_on};
use porism_formats::Weight;
use porism_formats::adapter::{GgufLora, LowRankPair, PeftAdapter};
use porism_models::adapter::{Adapter, Base, PeftOptions};
use porism_models::{Decoder, Site, load_decoder};
use serde_json::Value;

/// What is written has the same numbers, and the configuration says what PEFT's own says.
#[test]
fn written_folders_are_peft_s() {
    for (name, _) in ADAPTERS {
        let case = Case::new(name);
        let original = PeftAdapter::open(&case.folder).expect("PEFT's folder");
        for (i, source) in case.bases.iter().enumerate() {
            let decoder = load_decoder(source).expect("a decoder");
            let base = Base::new(source, &decoder).expect("a base");
            let adapter = Adapter::open(&case.folder, &base).expect("an adapter");
            let config = &case.fixture["config"];
            let rslora = config["use_rslora"] == true;
            let options = PeftOptions { rslora, ..PeftOptions::default() };
            let written = case.home.path().join(format!("written{i}"));
            adapter.to_peft(&base, &options).expect("PEFT's words").write(&written).expect("written");

            let again = PeftAdapter::open(&written).expect("our folder");
            assert_eq!(numbers(&again.pairs), numbers(&original.pairs), "{name}");
            assert!(case.error(&adapted(&written, source)) < 1e-3, "{name}");

            let ours: Value =
                serde_json::from_slice(&std::fs::read(written.join("adapter_config.json")).expect("a file"))
                    .expect("JSON");
            let patterns = ["rank_pattern", "alpha_pattern", "r", "lora_alpha", "target_modules"];
            for (key, value) in ours.as_object().expect("an object") {
                if !patterns.contains(&key.as_str()) || !name.starts_with("patterns") && key != "target_modules" {
                    assert_eq!(&config[key], value, "{name}: {key}");
                }
            }
            let names = |v: &Value| -> BTreeSet<String> {
                v.as_array().expect("a list").iter().map(|v| v.as_str().expect("a name").to_owned()).collect()
            };
            // PEFT writes whole paths for what was given by the last part: both mean the same modules.
            let last = |names: BTreeSet<String>| -> BTreeSet<String> {
                names.iter().map(|name| name.rsplit('.').next().unwrap_or_default().to_owned()).collect()
            };
            assert_eq!(last(names(&ours["target_modules"])), last(names(&config["target_modules"])), "{name}");
        }
    }
}

/// Pairs as numbers, by name.
type Numbers = BTreeMap<String, (Vec<f32>, Vec<f32>, f32, Option<Vec<f32>>, bool)>;

fn numbers(pairs: &[LowRankPair]) -> Numbers {
    let of = |p: &LowRankPair| {
        let magnitude = p.magnitude.as_ref().map(Weight::to_f32);
        (p.name.clone(), (p.a.to_f32(), p.b.to_f32(), p.scale, magnitude, p.embedding))
    };
    pairs.iter().map(of).collect()
}

/// `scale * B A`, `[out][in]`, in f64.
fn change(pair: &LowRankPair) -> Vec<Vec<f64>> {
    let (a, b, inputs) = (pair.a.to_f32(), pair.b.to_f32(), pair.a.cols());
    let row = |b: &[f32]| -> Vec<f64> {
        (0..inputs)
            .map(|j| {
                let sum: f64 = b.iter().enumerate().map(|(r, b)| f64::from(*b) * f64::from(a[r * inputs + j])).sum();
                f64::from(pair.scale) * sum
            })
            .collect()
    };
    b.chunks_exact(pair.a.rows()).map(row).collect()
}

/// From either kind of base, and on either kind: PEFT's logits, and the changes that llama.cpp's converter would make.
#[test]
fn gguf_adapters_are_llama_cpp_s() {
    for (name, _) in ADAPTERS.iter().filter(|(_, converts)| *converts) {
        let case = Case::new(name);
        for (i, source) in case.bases.iter().enumerate() {
            let decoder = load_decoder(source).expect("a decoder");
            let base = Base::new(source, &decoder).expect("a base");
            let adapter = Adapter::open(&case.folder, &base).expect("an adapter");
            let made = adapter.to_gguf(&base);
            if name.contains("dora") {
                let message = made.expect_err("magnitudes").to_string();
                assert!(message.contains("DoRA") && message.contains("merge it"), "{message}");
                continue;
            }
            let path = case.home.path().join(format!("adapter{i}.gguf"));
            made.expect("an adapter of llama.cpp").write(&path).expect("written");
            for other in &case.bases {
                let error = case.error(&adapted(&path, other));
                assert!(error < 1e-3, "{name}: from {source:?} on {other:?}: {error:.1e} standard deviations");
            }
            let file = GgufLora::open(&path).expect("our file");
            let Some(wanted) = case.fixture["gguf"].as_object() else { continue };
            for (tensor, columns) in wanted {
                let pair = file.pairs.iter().find(|p| p.name == *tensor).unwrap_or_else(|| panic!("{tensor}"));
                let rows = change(pair);
                let columns: Vec<Vec<f64>> = serde_json::from_value(columns.clone()).expect("numbers");
                for (column, at) in columns.iter().zip([0, pair.a.cols() - 1]) {
                    assert_eq!(rows.len(), column.len());
                    for (i, (row, want)) in rows.iter().zip(column).enumerate() {
                        assert!((row[at] - want).abs() < 1e-5, "{name}: {tensor} [{i}, {at}]: {} for {want}", row[at]);
                    }
                }
            }
        }
    }
}

/// Projections that a folder fuses, each with an A of its own, are one pair of the sum of their ranks.
#[test]
fn parts_of_a_fused_tensor_are_written_as_one() {
    let case = Case::new("phi3");
    let mut decoder = load_decoder(&case.bases[0]).expect("a decoder");
    let mut adapter = open(&case.folder, &case.bases[0], &decoder);
    // Another A, rank and scale for each part, and one part without a pair.
    let sites: Vec<Site> = adapter.low_ranks.keys().copied().collect();
    for (i, site) in sites.into_iter().enumerate() {
        let (out, inputs) = Base::new(&case.bases[0], &decoder).expect("a base").shape(site).expect("a shape");
        let rank = 1 + i % 3;
        let wave = |n: usize, step: f32| (0..n).map(|k| ((k + i) as f32 * step).sin() / 4.0).collect::<Vec<f32>>();
        if i == 1 {
            adapter.low_ranks.remove(&site);
        } else if let Some(pair) = adapter.low_ranks.get_mut(&site) {
            pair.a = Weight::from_f32(&wave(rank * inputs, 0.7), rank, inputs).expect("A");
            pair.b = Weight::from_f32(&wave(out * rank, 0.3), out, rank).expect("B");
            pair.scale = [2.0, 0.5, -1.5, 1.0][i % 4];
        }
    }
    let written = case.home.path().join("fused");
    let base = Base::new(&case.bases[0], &decoder).expect("a base");
    adapter.to_peft(&base, &PeftOptions::default()).expect("PEFT's words").write(&written).expect("written");
    let again = open(&written, &case.bases[0], &decoder);
    let rows = |decoder: &Decoder| case.logits(decoder);
    let mut other = decoder.clone();
    let _ = put_on(&mut decoder, adapter);
    let _ = put_on(&mut other, again);
    let (a, b) = (rows(&decoder).concat(), rows(&other).concat());
    let largest = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest < 1e-4 && case.error(&decoder) > 0.1, "{largest}");
}

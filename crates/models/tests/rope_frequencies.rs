//! Frequencies and attention factors of every kind of RoPE scaling against transformers' (fixture by
//! `scripts/fixtures/rope_frequencies.py`).

use std::path::Path;

use porism_models::rope::{RopeScaling, RopeSpec, Yarn};
use serde_json::Value;

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number") as f32).collect()
}

/// The spec that a case's numbers describe; `None` for a kind that this program does not have.
fn spec(case: &Value) -> Option<RopeSpec> {
    let parameters = &case["parameters"];
    let number = |key: &str| parameters[key].as_f64().map(|v| v as f32);
    let count = |value: &Value| value.as_u64().map(|v| v as usize);
    let context = count(&case["max_position_embeddings"]).expect("a context");
    let original = count(&parameters["original_max_position_embeddings"]).unwrap_or(context);
    let factor = number("factor");
    let scaling = match case["rope_type"].as_str().expect("a kind") {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: factor? },
        "ntk" => RopeScaling::Ntk { factor: factor? },
        "dynamic" => RopeScaling::Dynamic { factor: factor?, original: context },
        "yarn" => {
            let mut yarn = Yarn::new(factor?, original);
            yarn.beta_fast = number("beta_fast").unwrap_or(yarn.beta_fast);
            yarn.beta_slow = number("beta_slow").unwrap_or(yarn.beta_slow);
            yarn.truncate = parameters["truncate"].as_bool().unwrap_or(true);
            if let (Some(m), Some(all)) = (number("mscale"), number("mscale_all_dim")) {
                yarn.attention_factor = Yarn::temperature(yarn.factor, m) / Yarn::temperature(yarn.factor, all);
            }
            yarn.attention_factor = number("attention_factor").unwrap_or(yarn.attention_factor);
            RopeScaling::Yarn(yarn)
        }
        "llama3" => RopeScaling::Llama3 {
            factor: factor?,
            low: number("low_freq_factor")?,
            high: number("high_freq_factor")?,
            original,
        },
        "longrope" => RopeScaling::LongRope {
            short: floats(&parameters["short_factor"]),
            long: floats(&parameters["long_factor"]),
            original,
            // What the file's numbers make of it is the loader's affair and has a model of its own.
            attention_factor: case["attention_factor"].as_f64()? as f32,
        },
        _ => return None,
    };
    let part = number("partial_rotary_factor").unwrap_or(1.0);
    let rotary_dim = (count(&case["head_dim"])? as f32 * part) as usize;
    Some(RopeSpec { theta: case["rope_theta"].as_f64()? as f32, rotary_dim, scaling })
}

#[test]
fn frequencies_are_those_of_transformers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rope_frequencies.json");
    let fixture: Value = serde_json::from_slice(&std::fs::read(path).expect("a fixture")).expect("JSON");
    let every = fixture["every"].as_u64().expect("a number") as usize;
    let mut seen = std::collections::BTreeMap::new();
    for case in fixture["cases"].as_array().expect("cases") {
        let Some(spec) = spec(case) else { continue };
        let (frequencies, factor) = spec.frequencies(case["seq_len"].as_u64().unwrap_or(0) as usize);
        let wanted = floats(&case["frequencies"]);
        let got: Vec<f32> = frequencies.into_iter().step_by(every).collect();
        assert_eq!(got.len(), wanted.len(), "{case}");
        for (got, want) in got.iter().zip(&wanted) {
            assert!((got - want).abs() <= 1e-6 * want.abs(), "{got} and {want} in {case}");
        }
        let want = case["attention_factor"].as_f64().expect("a number");
        assert!((f64::from(factor) - want).abs() < 1e-6 * want, "{factor} and {want} in {case}");
        *seen.entry(spec.scaling.name()).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 7, "kinds seen: {seen:?}");
}

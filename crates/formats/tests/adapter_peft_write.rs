//! PEFT's folders: what is written comes back, appears whole and replaces nothing.

use std::path::Path;

use porism_formats::Weight;
use porism_formats::adapter::{LowRankPair, PeftAdapter};
use serde_json::{Value, json};

fn pair(name: &str, rank: usize, scale: f32) -> LowRankPair {
    let numbers = |n: usize| (0..n).map(|i| (i as f32 * 0.37 + rank as f32).sin()).collect::<Vec<f32>>();
    LowRankPair {
        name: name.to_owned(),
        a: Weight::from_f32(&numbers(rank * 3), rank, 3).unwrap(),
        b: Weight::from_f32(&numbers(5 * rank), 5, rank).unwrap(),
        scale,
        magnitude: None,
        embedding: false,
    }
}

fn config_of(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).unwrap()).unwrap()
}

#[test]
fn ranks_and_alphas_come_back() {
    let home = tempfile::tempdir().unwrap();
    let pairs = vec![
        pair("model.layers.0.q_proj", 4, 2.0),
        pair("model.layers.0.v_proj", 4, 2.0),
        // 16 / 3 has no exact f32, and 3 times it must be 16 again.
        pair("model.layers.1.q_proj", 3, 16.0 / 3.0),
        pair("model.layers.10.q_proj", 4, 0.3),
    ];
    let target = home.path().join("adapter");
    let adapter = PeftAdapter {
        base_model: Some("a/b".into()),
        dropout: 0.05,
        target_modules: vec!["q_proj".into(), "model.layers.0.v_proj".into()],
        pairs: pairs.clone(),
        ..PeftAdapter::default()
    };
    adapter.write(&target).unwrap();
    let config = config_of(&target);
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(4), &json!(8)));
    assert_eq!(config["rank_pattern"], json!({"model.layers.1.q_proj": 3}));
    let alphas = &config["alpha_pattern"];
    assert_eq!(alphas["model.layers.1.q_proj"], json!(16));
    assert!((alphas["model.layers.10.q_proj"].as_f64().unwrap() - 1.2).abs() < 1e-6);
    assert_eq!(config["base_model_name_or_path"], json!("a/b"));
    assert_eq!(config["target_modules"], json!(["q_proj", "model.layers.0.v_proj"]));
    assert_eq!((&config["task_type"], &config["inference_mode"]), (&json!("CAUSAL_LM"), &json!(true)));
    assert_eq!((&config["lora_dropout"], &config["use_dora"]), (&json!(0.05), &json!(false)));
    let keys: Vec<&String> = config.as_object().unwrap().keys().collect();
    assert!(keys.is_sorted(), "{keys:?}");

    let again = PeftAdapter::open(&target).unwrap();
    for (a, b) in pairs.iter().zip(&again.pairs) {
        assert_eq!((&a.name, a.scale), (&b.name, b.scale));
        assert_eq!((a.a.to_f32(), a.b.to_f32()), (b.a.to_f32(), b.b.to_f32()));
    }
    // Another reader, and the metadata that transformers asks for.
    let bytes = std::fs::read(target.join("adapter_model.safetensors")).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("base_model.model.model.layers.1.q_proj.lora_B.weight").unwrap();
    assert_eq!(tensor.shape(), [5, 3]);
    assert_eq!(tensor.data(), pairs[2].b.bytes());
}

#[test]
fn folders_appear_whole_and_replace_nothing() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("adapter");
    let adapter = PeftAdapter { pairs: vec![pair("m.q_proj", 4, 1.0)], ..PeftAdapter::default() };
    std::fs::create_dir(&target).unwrap();
    adapter.write(&target).expect("an empty folder gives way");
    let mut names: Vec<_> = std::fs::read_dir(&target).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors"]);
    let refused = adapter.write(&target).unwrap_err().to_string();
    assert!(refused.contains("the folder is not empty"), "{refused}");
    let file = home.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(adapter.write(&file).unwrap_err().to_string().contains("a file of that name exists"));
    assert!(adapter.write(&home.path().join("none/adapter")).unwrap_err().to_string().contains("none"));

    let refused = |pairs: Vec<LowRankPair>| {
        let adapter = PeftAdapter { pairs, ..PeftAdapter::default() };
        let message = adapter.write(&home.path().join("other")).unwrap_err().to_string();
        assert!(!home.path().join("other").exists());
        message
    };
    assert!(refused(Vec::new()).contains("no low-rank pairs"));
    assert!(refused(vec![pair("q", 4, f32::NAN)]).contains("its scale of NaN"));
    let magnitude = Some(Weight::from_f32(&[1.0; 5], 1, 5).unwrap());
    let mixed = vec![LowRankPair { magnitude, ..pair("q", 4, 1.0) }, pair("k", 4, 1.0)];
    assert!(refused(mixed).contains("`k` has none"));
    // Told apart by no pattern: the first would take the second's rank.
    let alike = vec![pair("a.b.q", 4, 1.0), pair("a.b.k", 4, 1.0), pair("b.q", 2, 1.0)];
    assert!(refused(alike).contains("`b.q` as a pattern does not mean that module alone"));
    let entries: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(entries.len(), 2, "nothing temporary is left: {entries:?}");
}

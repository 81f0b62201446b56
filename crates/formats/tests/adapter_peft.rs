//! PEFT's folders: what is read and what is refused, and patterns as Python's `re` takes them.

use std::sync::Arc;

use porism_formats::adapter::PeftAdapter;
use porism_formats::hf::{JsonFile, SafeTensors};
use serde_json::{Value, json};

/// A tensor of a made-up file: name, type, shape.
type Tensor<'a> = (&'a str, &'a str, &'a [usize]);

/// A safetensors file of zeros: names, types and shapes.
fn tensors(list: &[Tensor<'_>]) -> Vec<u8> {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, dtype, shape) in list {
        let size = shape.iter().product::<usize>() * if *dtype == "F32" { 4 } else { 2 };
        header.insert((*name).into(), json!({"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}));
        end += size;
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.resize(bytes.len() + end, 0);
    bytes
}

fn read(config: &Value, list: &[Tensor<'_>]) -> Result<PeftAdapter, String> {
    let json = JsonFile::parse(config.to_string().as_bytes(), "adapter_config.json").map_err(|e| e.to_string())?;
    let file = SafeTensors::from_bytes(Arc::new(tensors(list)), "a.safetensors").map_err(|e| e.to_string())?;
    PeftAdapter::read(&json, &file, "a.safetensors").map_err(|e| e.to_string())
}

const A: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
const B: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";
const M: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector";
const PAIR: [(&str, &str, &[usize]); 2] = [(A, "F32", &[8, 3]), (B, "F32", &[5, 8])];

#[test]
fn defaults_are_those_of_peft() {
    let adapter = read(&json!({"peft_type": "LORA", "target_modules": "all-linear"}), &PAIR).unwrap();
    let pair = &adapter.pairs[0];
    assert_eq!((pair.name.as_str(), pair.scale, pair.rank()), ("model.layers.0.self_attn.q_proj", 1.0, 8));
    assert_eq!(adapter.target_modules, ["model.layers.0.self_attn.q_proj"]);
    assert_eq!((adapter.base_model, adapter.rslora, adapter.dropout), (None, false, 0.0));
    // Kalajdzievski 2023: alpha / sqrt(r).
    let rs = json!({"peft_type": "LORA", "use_rslora": true, "lora_alpha": 4, "lora_dropout": 0.1});
    let adapter = read(&rs, &PAIR).unwrap();
    assert_eq!(adapter.pairs[0].scale, (4.0 / 8f64.sqrt()) as f32);
    assert_eq!(adapter.dropout, 0.1);
}

#[test]
fn embeddings_and_magnitudes_are_read() {
    let table = "base_model.model.model.embed_tokens";
    let (a, b) = (format!("{table}.lora_embedding_A"), format!("{table}.lora_embedding_B"));
    let (m, copy) = (format!("{table}.lora_magnitude_vector"), format!("{table}.base_layer.weight"));
    let list: [(&str, &str, &[usize]); 4] =
        [(&a, "BF16", &[8, 11]), (&b, "F16", &[6, 8]), (&m, "F32", &[6]), (&copy, "F32", &[11, 6])];
    let adapter = read(&json!({"peft_type": "LORA", "use_dora": true}), &list).unwrap();
    let pair = &adapter.pairs[0];
    assert!(pair.embedding && pair.name == "model.embed_tokens");
    assert_eq!((pair.a.rows(), pair.a.cols(), pair.b.rows()), (8, 11, 6));
    assert_eq!(pair.magnitude.as_ref().unwrap().len(), 6);
    assert_eq!(adapter.ignored, [copy]);
    // PEFT reads magnitudes with the ending of a parameter too.
    let m = format!("{table}.lora_magnitude_vector.weight");
    let list: [(&str, &str, &[usize]); 3] = [(&a, "F32", &[8, 11]), (&b, "F32", &[6, 8]), (&m, "F32", &[6])];
    assert!(read(&json!({"peft_type": "LORA", "use_dora": true}), &list).unwrap().pairs[0].magnitude.is_some());
}

#[test]
fn what_is_not_lora_is_refused_with_words() {
    let with = |key: &str, value: Value| {
        let mut config = json!({"peft_type": "LORA"});
        config[key] = value;
        read(&config, &PAIR).err().unwrap_or_else(|| panic!("{key} is read"))
    };
    let table = [
        ("peft_type", json!("IA3"), "an adapter of type IA3 is not read; LORA is"),
        ("peft_type", json!("X\u{1b}[31m"), "type X\\u{1b}[31m"),
        ("peft_type", json!(3), "`peft_type` should hold a string"),
        ("peft_type", json!(null), "no `peft_type`"),
        ("bias", json!("lora_only"), "`bias` is \"lora_only\""),
        ("lora_bias", json!(true), "`lora_bias` is set"),
        ("modules_to_save", json!(["lm_head"]), "`modules_to_save` is set: the adapter holds whole modules"),
        ("trainable_token_indices", json!([1]), "rows of the embedding table"),
        ("target_parameters", json!(["experts.down"]), "`target_parameters`"),
        ("layer_replication", json!([[0, 4]]), "`layer_replication`"),
        ("alora_invocation_tokens", json!([1, 2]), "aLoRA"),
        ("use_qalora", json!(true), "QALoRA"),
        ("use_bdlora", json!({"nblocks": 2}), "block-diagonal"),
        ("init_lora_weights", json!("pissa_niter_4"), "path_initial_model_for_weight_conversion"),
        ("r", json!(0), "`r` should be a rank of 1 or more, but is 0"),
        ("r", json!(-4), "a rank of 1 or more"),
        ("r", json!(1u64 << 40), "a rank of 1 or more"),
        ("r", json!(16), "has rank 8, and adapter_config.json says 16"),
        ("lora_alpha", json!("16"), "`lora_alpha` should hold a number"),
        ("lora_alpha", json!(1e300), "its scale of inf is no number"),
        ("use_dora", json!(true), "has no lora_magnitude_vector"),
        ("use_dora", json!("yes"), "`use_dora` should hold true or false"),
        ("rank_pattern", json!(["q_proj"]), "`rank_pattern` should hold an object"),
        ("rank_pattern", json!({"q_proj": 0}), "the pattern \"q_proj\" should have a rank of 1 or more, but has 0"),
        ("alpha_pattern", json!({"q_proj": "x"}), "should have a number, but has \"x\""),
        ("alpha_pattern", json!({"(q_proj": 1}), "the pattern \"(q_proj\" is no regular expression"),
        ("alpha_pattern", json!({"q".repeat(2000): 1}), "is longer than 1024 bytes"),
    ];
    for (key, value, part) in table {
        let message = with(key, value.clone());
        assert!(message.contains(part), "{key} {value}: {message}");
    }
    let off = json!({
        "peft_type": "LORA", "bias": "none", "lora_bias": false, "modules_to_save": [], "layer_replication": null,
        "loftq_config": {}, "init_lora_weights": "gaussian", "arrow_config": null, "unheard_of": 1,
    });
    assert!(read(&off, &PAIR).is_ok());
}

#[test]
fn tensors_that_make_no_pairs_are_named() {
    let lora = json!({"peft_type": "LORA"});
    let bias = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias";
    let head = "base_model.model.lm_head.weight";
    let table: [(&[Tensor<'_>], &str); 11] = [
        (&[], "there are no low-rank pairs"),
        (&[PAIR[0]], "`model.layers.0.self_attn.q_proj` has not both of A and B"),
        (&[PAIR[0], PAIR[1], (head, "F32", &[4, 4])], "`base_model.model.lm_head.weight` is no part of a LoRA"),
        (&[PAIR[0], PAIR[1], (bias, "F32", &[5])], "lora_B.bias` is no part of a LoRA"),
        (&[("model.q_proj.lora_A.weight", "F32", &[8, 3])], "`model.q_proj.lora_A.weight` is no part"),
        (&[(A, "F32", &[0, 3]), (B, "F32", &[5, 0])], "[0, 3]: its rank is 0"),
        (&[(A, "F32", &[8, 3]), (B, "F32", &[5, 4])], "A of 8 x 3 and B of 5 x 4 are of different ranks"),
        (&[(A, "F32", &[8, 3, 1, 1]), PAIR[1]], "[8, 3, 1, 1]; 2 dimensions are read"),
        (&[(A, "F32", &[24]), PAIR[1]], "[24]; 2 dimensions"),
        (&[(A, "I16", &[8, 3]), PAIR[1]], "stored as I16"),
        (&[PAIR[0], PAIR[1], (M, "F32", &[5])], "has a magnitude, and adapter_config.json does not say use_dora"),
    ];
    for (list, part) in table {
        let message = read(&lora, list).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
    let dora = json!({"peft_type": "LORA", "use_dora": true});
    let message = read(&dora, &[PAIR[0], PAIR[1], (M, "F32", &[4])]).unwrap_err();
    assert!(message.contains("4 magnitudes for 5 features"), "{message}");
    let embedding = A.replace("lora_A.weight", "lora_embedding_A");
    let message = read(&lora, &[PAIR[0], PAIR[1], (&embedding, "F32", &[8, 3])]).unwrap_err();
    assert!(message.contains("has two tensors of one kind"), "{message}");
}

/// Which alpha counts, worked out with Python's `re.match(rf"(.*\.)?({pattern})$", path)` in the order of the file.
#[test]
fn patterns_are_matched_as_peft_does() {
    let path = "model.layers.1.self_attn.q_proj";
    let (a, b) = (format!("base_model.model.{path}.lora_A.weight"), format!("base_model.model.{path}.lora_B.weight"));
    let list: [(&str, &str, &[usize]); 2] = [(&a, "F32", &[8, 3]), (&b, "F32", &[5, 8])];
    let fits = |pattern: &str| {
        let config = json!({"peft_type": "LORA", "lora_alpha": 8, "alpha_pattern": {pattern: 24}});
        match read(&config, &list).unwrap_or_else(|e| panic!("{pattern}: {e}")).pairs[0].scale {
            3.0 => true,
            1.0 => false,
            other => panic!("{other}"),
        }
    };
    let matching = [
        "q_proj",
        "self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
        "^model.layers.1.self_attn.q_proj",
        r"model\.layers\.\d+\.self_attn\.q_proj",
        "layers.*",
        ".*q_proj",
        "[kq]_proj",
        "k_proj|q_proj",
        "(k|q)_proj",
        "(?!k)._proj",
        // Unbalanced, but no longer so within PEFT's own parentheses: "model" without an end is enough.
        "model)|(x",
        // A dot is any character.
        "self_attn_q_proj".replace('_', ".").as_str(),
    ]
    .map(str::to_owned);
    for pattern in &matching {
        assert!(fits(pattern), "{pattern}");
    }
    for pattern in ["proj", "_proj", "attn.q_proj", "q_pro", "layers.1", "Q_PROJ", "layers.1.q_proj", "^q_proj", "x"] {
        assert!(!fits(pattern), "{pattern}");
    }
    // The first of several, in the file's order.
    let config = json!({"peft_type": "LORA", "alpha_pattern": {"q_proj": 16, "self_attn.q_proj": 80}});
    assert_eq!(read(&config, &list).unwrap().pairs[0].scale, 2.0);
}

/// What a hostile configuration can cost is bounded.
#[test]
fn patterns_cannot_run_away() {
    let config = json!({"peft_type": "LORA", "rank_pattern": {r"(?=(.*)*\1x)((\w+\.?)+)+z": 4}});
    let message = read(&config, &PAIR).err();
    assert!(message.is_none_or(|m| m.contains("cannot be tried")));
    let many: serde_json::Map<String, Value> = (0..1 << 15).map(|i| (format!("m{i}"), json!(4))).collect();
    let names: Vec<String> =
        (0..64).flat_map(|i| ["A", "B"].map(|ab| format!("base_model.model.l.{i}.lora_{ab}.weight"))).collect();
    let list: Vec<(&str, &str, &[usize])> =
        names.iter().map(|n| (n.as_str(), "F32", if n.contains("lora_A") { &[8, 1][..] } else { &[1, 8] })).collect();
    let message = read(&json!({"peft_type": "LORA", "rank_pattern": many}), &list).unwrap_err();
    assert!(message.contains("32768 patterns for 64 modules"), "{message}");
    let some: serde_json::Map<String, Value> = (0..1 << 11).map(|i| (format!("m{i}"), json!(4))).collect();
    assert!(read(&json!({"peft_type": "LORA", "rank_pattern": some}), &PAIR).is_ok());
}

#[test]
fn folders_with_defects() {
    let home = tempfile::tempdir().unwrap();
    let message = || PeftAdapter::open(home.path()).unwrap_err().to_string();
    let write = |name: &str, bytes: &[u8]| std::fs::write(home.path().join(name), bytes).unwrap();
    assert!(message().contains("cannot open") && message().contains("adapter_config.json"));
    write("adapter_config.json", b"{");
    assert!(message().contains("not valid JSON"));
    write("adapter_config.json", &vec![b' '; (8 << 20) + 1]);
    assert!(message().contains("larger than 8 MiB"));
    write("adapter_config.json", br#"{"peft_type": "LORA"}"#);
    assert!(message().contains("cannot open") && message().contains("adapter_model.safetensors"));
    write("adapter_model.bin", b"pickle");
    assert!(message().contains("adapter_model.bin is not read: convert it to safetensors"));
    write("adapter_model.safetensors", b"");
    assert!(message().contains("the file is empty"));
    write("adapter_model.safetensors", &tensors(&PAIR));
    assert_eq!(PeftAdapter::open(home.path()).unwrap().pairs.len(), 1);
}

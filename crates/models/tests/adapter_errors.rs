//! Adapters that do not fit, names that mean nothing, and what targets mean.

mod tiny_model;

use std::path::Path;

use porism_formats::Weight;
use porism_formats::adapter::{GgufLora, LowRankPair, PeftAdapter};
use porism_kernels::{Isa, Pool};
use porism_models::adapter::{Adapter, Base, LowRank, PeftOptions, attach, detach, targets};
use porism_models::{AdapterId, BlockSite, Decoder, DeltaKind, ModelSource, Site, load_decoder};
use tiny_model::TinyModel;

/// What is done to a good pair.
type Change<'a> = &'a dyn Fn(&mut LowRankPair);

fn load(name: &str, under: &Path) -> (ModelSource, Decoder) {
    let model = TinyModel::read(name);
    let source = ModelSource::open(&model.write(under, &model.config)).expect("a model");
    let decoder = load_decoder(&source).expect("a decoder");
    (source, decoder)
}

fn weight(rows: usize, cols: usize) -> Weight {
    Weight::from_f32(&(0..rows * cols).map(|i| (i as f32).sin()).collect::<Vec<f32>>(), rows, cols).expect("a weight")
}

/// A pair of rank 2 of the tiny llama's query, `[64, 32]`, with changes.
fn pair(edit: impl Fn(&mut LowRankPair)) -> LowRankPair {
    let name = "model.layers.0.self_attn.q_proj".into();
    let mut pair =
        LowRankPair { name, a: weight(2, 32), b: weight(64, 2), scale: 1.0, magnitude: None, embedding: false };
    edit(&mut pair);
    pair
}

#[test]
fn adapters_of_other_bases_are_refused() {
    let home = tempfile::tempdir().expect("a folder");
    let (source, decoder) = load("llama", home.path());
    let base = Base::new(&source, &decoder).expect("a base");
    let made = |edit: &dyn Fn(&mut LowRankPair)| {
        let file =
            PeftAdapter { base_model: Some("org/big".into()), pairs: vec![pair(edit)], ..PeftAdapter::default() };
        Adapter::from_peft(&file, "folder", &base).map_err(|e| e.to_string())
    };
    assert!(made(&|_| ()).is_ok());
    let table: [(&str, Change<'_>); 9] = [
        (
            "folder: it adapts `model.layers.0.self_attn.qkv`, which the model has not; it has model.embed_tokens",
            &|p| {
                p.name = "model.layers.0.self_attn.qkv".into();
            },
        ),
        ("model.layers.N.self_attn.q_proj, ", &|p| p.name = "x".into()),
        ("(N below 2) (it was made for org/big)", &|p| p.name = "model.layers.2.self_attn.q_proj".into()),
        ("`model.layers.0.input_layernorm`, which the model has not", &|p| {
            p.name = "model.layers.0.input_layernorm".into()
        }),
        ("A of 2 x 31 and B of 64 x 2 do not fit 64 x 32", &|p| p.a = weight(2, 31)),
        ("A of 2 x 32 and B of 96 x 2 do not fit 64 x 32: it is of another base (it was made for org/big)", &|p| {
            p.b = weight(96, 2)
        }),
        ("numbers that are infinite or NaN", &|p| p.b = Weight::from_f32(&[f32::NAN; 128], 64, 2).expect("B")),
        ("63 magnitudes for 64 features", &|p| p.magnitude = Some(weight(1, 63))),
        ("which the model has not", &|p| p.embedding = true),
    ];
    for (part, edit) in table {
        let message = made(edit).expect_err(part);
        assert!(message.contains(part), "{message}");
    }
    let twice = PeftAdapter {
        pairs: vec![pair(|_| ()), pair(|p| p.name = "layers.0.self_attn.q_proj".into())],
        ..PeftAdapter::default()
    };
    let message = Adapter::from_peft(&twice, "folder", &base).expect_err("twice").to_string();
    assert!(message.contains("mean the same module"), "{message}");
    let gguf = GgufLora { architecture: "qwen2".into(), pairs: Vec::new(), ..GgufLora::default() };
    let message = Adapter::from_gguf(&gguf, "a.gguf", &base).expect_err("another").to_string();
    assert!(message.contains("an adapter for a qwen2, and the model is a llama"), "{message}");
    let gguf = GgufLora {
        architecture: "llama".into(),
        pairs: vec![pair(|p| p.name = "blk.0.attn_qkv.weight".into())],
        ..GgufLora::default()
    };
    let message = Adapter::from_gguf(&gguf, "a.gguf", &base).expect_err("unknown").to_string();
    assert!(message.contains("it has token_embd, ") && message.contains("blk.N.attn_q, "), "{message}");
}

#[test]
fn experts_are_refused_in_words() {
    let home = tempfile::tempdir().expect("a folder");
    let (source, decoder) = load("mixtral", home.path());
    let base = Base::new(&source, &decoder).expect("a base");
    let name = "model.layers.0.block_sparse_moe.experts.1.w1".to_owned();
    let file = PeftAdapter { pairs: vec![pair(|p| p.name.clone_from(&name))], ..PeftAdapter::default() };
    let message = Adapter::from_peft(&file, "folder", &base).expect_err("an expert").to_string();
    assert!(message.contains(&format!("`{name}`, an expert of a mixture")), "{message}");
    // Attention beside them is adapted, and named whole: experts may end alike.
    let sites = targets(&base, &["all-linear"]).expect("targets");
    assert_eq!(sites.len(), 8);
}

fn adapter(site: Site, out: usize, inputs: usize, magnitude: bool) -> Adapter {
    let magnitude = magnitude.then(|| weight(1, out));
    let low_rank = LowRank { a: weight(2, inputs), b: weight(out, 2), scale: 1.0, magnitude };
    Adapter { name: "ours".into(), base_model: None, low_ranks: [(site, low_rank)].into() }
}

#[test]
fn attaching_checks_first_and_changes_nothing_on_an_error() {
    let home = tempfile::tempdir().expect("a folder");
    let (_, mut decoder) = load("llama", home.path());
    let query = Site::Block(0, BlockSite::Query);
    let pool = Pool::new(1);
    let deltas = |decoder: &Decoder| decoder.linears().map(|l| l.deltas.len()).sum::<usize>();
    let mut refused = |adapters: &[(Adapter, f32)]| {
        let message =
            attach(&pool, Isa::detect(), &mut decoder, adapters, AdapterId(1)).expect_err("refused").to_string();
        assert_eq!(deltas(&decoder), 0);
        message
    };
    let fine = || adapter(query, 64, 32, false);
    let message = refused(&[(fine(), 1.0), (adapter(query, 64, 32, true), 1.0)]);
    assert!(message.contains("DoRA") && message.contains("merge it first"), "{message}");
    assert!(refused(&[(fine(), f32::NAN)]).contains("a scale of NaN is no number"));
    assert!(refused(&[(fine(), 1.0), (adapter(query, 64, 31, false), 1.0)]).contains("of another base"));
    let beyond = adapter(Site::Block(9, BlockSite::Query), 64, 32, false);
    assert!(refused(&[(beyond, 1.0)]).contains("block 9 Query, which the model has not"));

    let attached = attach(&pool, Isa::detect(), &mut decoder, &[(fine(), 2.0)], AdapterId(1)).expect("attached");
    let again = attach(&pool, Isa::detect(), &mut decoder, &[(fine(), 1.0)], AdapterId(1)).expect_err("twice");
    assert!(again.to_string().contains("adapter 1 is attached already"), "{again}");
    let other = attach(&pool, Isa::detect(), &mut decoder, &[(fine(), 1.0)], AdapterId(2)).expect("another");
    detach(&mut decoder, attached);
    let left: Vec<_> = decoder.linears().flat_map(|l| &l.deltas).map(|d| d.adapter).collect();
    assert_eq!(left, [Some(AdapterId(2))]);
    detach(&mut decoder, other);
    assert_eq!(deltas(&decoder), 0);
}

/// A bias is added to the adapted result: the deltas of adapters stand before it.
#[test]
fn deltas_stand_before_biases() {
    let home = tempfile::tempdir().expect("a folder");
    let (_, mut decoder) = load("qwen2", home.path());
    let adapters = [(adapter(Site::Block(0, BlockSite::Query), 32, 32, true), 1.0)];
    let _ = attach(&Pool::new(1), Isa::detect(), &mut decoder, &adapters, AdapterId(0)).expect("attached");
    let kinds: Vec<&DeltaKind> = decoder.stack.blocks[0].attention.query.deltas.iter().map(|d| &d.kind).collect();
    assert!(
        matches!(kinds[..], [DeltaKind::LowRank { .. }, DeltaKind::OutputScale(_), DeltaKind::Bias(_)]),
        "{kinds:?}"
    );
}

#[test]
fn what_a_gguf_adapter_cannot_say_is_refused() {
    let home = tempfile::tempdir().expect("a folder");
    let (source, decoder) = load("llama_tied_llama3", home.path());
    let base = Base::new(&source, &decoder).expect("a base");
    let message = adapter(Site::Head, 96, 32, false).to_gguf(&base).expect_err("a tied head").to_string();
    assert!(message.contains("a head that is the embedding table") && message.contains("merge it"), "{message}");
    assert!(adapter(Site::Head, 96, 32, false).to_peft(&base, &PeftOptions::default()).is_ok());
    let message = adapter(Site::Head, 96, 32, true).to_gguf(&base).expect_err("magnitudes").to_string();
    assert!(message.contains("DoRA"), "{message}");

    // Of a fused tensor DoRA needs the lengths of all rows.
    let (source, decoder) = load("phi3", home.path());
    let base = Base::new(&source, &decoder).expect("a base");
    let one = adapter(Site::Block(0, BlockSite::Query), 32, 32, true);
    let message = one.to_peft(&base, &PeftOptions::default()).expect_err("a part").to_string();
    assert!(message.contains("block 0 QueryKeyValue is one tensor") && message.contains("block 0 Value"), "{message}");
}

#[test]
fn targets_are_found_by_name() {
    let home = tempfile::tempdir().expect("a folder");
    let (source, decoder) = load("llama", home.path());
    let base = Base::new(&source, &decoder).expect("a base");
    let site = |block, site| Site::Block(block, site);
    let of = |names: &[&str]| targets(&base, names).map_err(|e| e.to_string());
    assert_eq!(of(&["v_proj"]).unwrap(), [site(0, BlockSite::Value), site(1, BlockSite::Value)]);
    // In the order of a forward pass, each once.
    let both = of(&["mlp.down_proj", "q_proj", "down_proj"]).unwrap();
    let expected = [(0, BlockSite::Query), (0, BlockSite::Down), (1, BlockSite::Query), (1, BlockSite::Down)];
    assert_eq!(both, expected.map(|(i, s)| site(i, s)));
    assert_eq!(of(&["model.layers.1.self_attn.k_proj"]).unwrap(), [site(1, BlockSite::Key)]);
    assert_eq!(of(&["lm_head"]).unwrap(), [Site::Head]);
    let all = of(&["all-linear"]).unwrap();
    assert_eq!(all.len(), 14, "PEFT leaves the head out: {all:?}");
    assert!(!all.contains(&Site::Head));
    assert_eq!(of(&["all-linear", "lm_head"]).unwrap().len(), 15);
    let message = of(&["q_proj", "proj"]).unwrap_err();
    let there = "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, lm_head, and all-linear";
    assert_eq!(message, format!("targets: no projection is called \"proj\"; there are {there}"));
    for wrong in ["", "layers.1", "embed_tokens", "input_layernorm", "Q_PROJ"] {
        assert!(of(&[wrong]).is_err(), "{wrong}");
    }
    assert!(of(&[]).is_err());

    let (source, decoder) = load("phi3", home.path());
    let base = Base::new(&source, &decoder).expect("a base");
    let fused = targets(&base, &["qkv_proj", "gate_up_proj"]).expect("targets");
    let parts = [BlockSite::Query, BlockSite::Key, BlockSite::Value, BlockSite::Gate, BlockSite::Up];
    assert_eq!(fused, [0, 1].iter().flat_map(|&i| parts.map(|s| site(i, s))).collect::<Vec<_>>());
}

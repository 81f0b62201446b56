//! BERTScore against bert_score on the same weights: `scripts/fixtures/bert_score_minilm.py` wrote what it gives.

use std::io::Write as _;
use std::sync::Arc;

use porism_hub::{CacheDir, Network, Resolved, Silent};
use porism_kernels::{Isa, Pool};
use porism_measure::metric::{BertScorer, Corpus, cut_encoder, read_baseline};
use porism_models::cpu::{Activations, CpuExecutor};
use porism_models::{ModelSource, load_encoder};
use serde_json::Value;

/// The largest difference.
const TOLERANCE: f64 = 1e-4;

#[test]
fn bert_score_is_bert_scores() {
    let var = std::env::var_os;
    let cache = CacheDir::resolve(var("PORISM_HOME"), var("XDG_CACHE_HOME"), var("HOME")).expect("a cache");
    let path = match porism_hub::resolve("all-minilm-l6-v2", &cache, &Network::default()).expect("a name") {
        Resolved::Present(path) => path,
        Resolved::Fetch(plan) => match porism_hub::pull(&plan, &Network::default(), &mut Silent) {
            Ok(path) => path,
            Err(error) => {
                let line = format!("skipped: the embedding model cannot be fetched: {error}\n");
                let _ = std::io::stderr().write_all(line.as_bytes());
                return;
            }
        },
    };
    let source = ModelSource::open(&path).expect("a model");
    let tokenizer = source.tokenizer().expect("a tokenizer");
    let fixture: Value = serde_json::from_str(include_str!("fixtures/bert_score.json")).expect("the fixture");
    let segments = fixture["segments"].as_array().expect("segments");
    let column = |c: usize| segments.iter().map(|row| row[c].as_str().expect("a text")).collect::<Vec<_>>();
    let pool = Arc::new(Pool::new(2));
    let mut largest = 0.0f64;
    for case in fixture["cases"].as_array().expect("cases") {
        let layer = case["layer"].as_u64().expect("a layer") as usize;
        let references = case["references"].as_u64().expect("a number") as usize;
        let corpus = Corpus::new(column(0), (1..=references).map(column).collect()).expect("a corpus");
        let encoder = cut_encoder(load_encoder(&source).expect("an encoder"), layer).expect("a layer");
        let steps = CpuExecutor::new(pool.clone(), Isa::detect(), Activations::F32);
        let mut scorer = BertScorer::new(&encoder, &tokenizer, steps).expect("a scorer");
        if case["idf"] == true {
            scorer.weigh(&corpus).expect("weights");
        }
        if let Some(baseline) = case["baseline"].as_array() {
            let numbers: Vec<f64> = baseline.iter().filter_map(Value::as_f64).collect();
            scorer.rescale([numbers[0], numbers[1], numbers[2]]);
        }
        let ours = scorer.score(&corpus, &mut |_| ()).expect("scores");
        for ((ours, theirs), text) in ours.chunks_exact(3).zip(case["scores"].as_array().expect("scores")).zip(segments)
        {
            for (ours, theirs) in ours.iter().zip(theirs.as_array().expect("three")) {
                // A segment whose words all stand in all references has no weight, and bert_score gives NaN.
                let Some(theirs) = theirs.as_f64() else { continue };
                largest = largest.max((ours - theirs).abs());
                let what = format!("layer {layer}, idf {}, {references} references", case["idf"]);
                assert!((ours - theirs).abs() < TOLERANCE, "{what}, {text}: {ours}, not {theirs}");
            }
        }
    }
    let line = format!("the largest difference from bert_score is {largest:.1e}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

#[test]
fn a_baseline_is_read_by_its_layer() {
    let text = "LAYER,P,R,F\n0,0.3,0.31,0.32\n1,0.4,0.41,0.42\n";
    assert_eq!(read_baseline(text, 1).expect("a baseline"), [0.4, 0.41, 0.42]);
    let bad =
        [("LAYER,P,R,F\n", 0, "no line for layer 0"), ("h\n1,0.3,0.3,0.3\n", 0, "line 2"), ("h\n0,a,b,c", 0, "line 2")];
    for (text, layer, words) in bad {
        assert!(read_baseline(text, layer).expect_err(words).to_string().contains(words), "{text}");
    }
}

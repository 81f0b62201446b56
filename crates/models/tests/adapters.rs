//! Adapters against PEFT: the fixtures of `scripts/fixtures/adapters.py` on tiny models from folders and, where they convert,
//! from GGUF files, on both executors; taken off again, run together, merged.

mod adapter_case;
mod tiny_model;

use std::path::Path;

use adapter_case::{ADAPTERS, Case, ID, adapted, open, pool, put_on, write_adapter};
use porism_formats::Weight;
use porism_kernels::Isa;
use porism_models::adapter::{Adapter, LowRank, attach, detach, merged};
use porism_models::cpu::{Activations, CpuExecutor, CpuState, KvType};
use porism_models::tape::{Parameters, TapeExecutor, TapeState};
use porism_models::{Batch, BlockSite, Decoder, HeadRequest, Site, load_decoder};
use porism_ops::OpContext;
use serde_json::Value;
use tiny_model::TinyModel;

#[test]
fn logits_are_those_of_peft() {
    for (name, _) in ADAPTERS {
        let case = Case::new(name);
        for source in &case.bases {
            let decoder = adapted(&case.folder, source);
            let cpu = case.error(&decoder);
            let mut tape = TapeExecutor::new(OpContext::new(1), Parameters::none());
            let tape = case.values.error(&case.rows(&decoder, &mut tape, TapeState::new));
            assert!(
                cpu < 1e-3 && tape < 1e-3,
                "{name} on {source:?}: CPU {cpu:.1e}, tape {tape:.1e} standard deviations"
            );
        }
    }
}

#[test]
fn rows_without_the_adapter_and_a_detached_decoder_are_the_base() {
    for name in ["dora", "ends"] {
        let case = Case::new(name);
        for source in &case.bases {
            let mut decoder = load_decoder(source).expect("a decoder");
            let rows = |decoder: &Decoder| case.logits(decoder);
            let before = rows(&decoder);
            let adapter = open(&case.folder, source, &decoder);
            let attached = put_on(&mut decoder, adapter);
            assert_eq!(attached.replaced_table(), name == "ends");
            assert!(case.values.error(&before) > 0.1 && rows(&decoder) != before);
            if name == "dora" {
                let mut batch = Batch::single(&case.values.ids, 0);
                batch.wanted = case.values.rows.clone();
                let mut cpu = CpuExecutor::new(pool(), Isa::detect(), Activations::F32);
                let mut states = [CpuState::new(&decoder.stack.config, KvType::F32)];
                let other = decoder.forward(&mut cpu, &batch, &mut states, HeadRequest::Logits).expect("a pass");
                assert_eq!(other.into_rows().expect("logits").data(), before.concat(), "rows of no adapter");
            }
            detach(&mut decoder, attached);
            assert_eq!(rows(&decoder), before);
        }
    }
}

#[test]
fn several_adapters_and_factors_are_those_of_peft() {
    for name in ["sum", "half_dora"] {
        let values = TinyModel::read(&format!("../adapter_fixtures/{name}"));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/adapter_fixtures/{name}.json"));
        let fixture: Value = serde_json::from_slice(&std::fs::read(path).expect("a fixture")).expect("JSON");
        let parts: Vec<(String, f32)> = serde_json::from_value(fixture["together"].clone()).expect("names and factors");
        let case = Case { values, ..Case::new(&parts[0].0) };
        for source in &case.bases {
            let mut decoder = load_decoder(source).expect("a decoder");
            let adapters: Vec<(Adapter, f32)> = parts
                .iter()
                .map(|(part, factor)| (open(&write_adapter(part, case.home.path()), source, &decoder), *factor))
                .collect();
            let _ = attach(&pool(), Isa::detect(), &mut decoder, &adapters, ID).expect("attached");
            let error = case.error(&decoder);
            assert!(error < 1e-3, "{name} on {source:?}: {error:.1e} standard deviations");
        }
    }
}

/// The merged weights without deltas give what the deltas give.
#[test]
fn merged_weights_stand_for_the_adapter() {
    for (name, _) in ADAPTERS {
        let case = Case::new(name);
        for source in &case.bases {
            let mut decoder = adapted(&case.folder, source);
            for linear in decoder.linears_mut().filter(|l| l.deltas.iter().any(|d| d.adapter == Some(ID))) {
                linear.weight = merged(&pool(), Isa::detect(), linear, ID).expect("a merged weight");
                linear.deltas.retain(|d| d.adapter != Some(ID));
            }
            let error = case.error(&decoder);
            assert!(error < 1e-3, "{name} on {source:?}: {error:.1e} standard deviations");
        }
    }
}

/// The book's example: rank 16 on 4096 x 4096, and on four projections of 32 layers.
#[test]
fn the_books_arithmetic() {
    let of = |rows: usize, cols: usize| Weight::from_f32(&vec![0.0; rows * cols], rows, cols).expect("a weight");
    let pair = LowRank { a: of(16, 4096), b: of(4096, 16), scale: 2.0, magnitude: None };
    let adapter = |layers: u32, sites: &[BlockSite]| {
        let site = |layer: u32| sites.iter().map(move |&site| Site::Block(layer, site));
        let low_ranks = (0..layers).flat_map(site).map(|site| (site, pair.clone())).collect();
        Adapter { name: "the book's".into(), base_model: None, low_ranks }
    };
    let one = adapter(1, &[BlockSite::Query]).parameters();
    assert_eq!(one, 131_072);
    assert_eq!(format!("{:.2} %", 100.0 * one as f64 / (4096.0 * 4096.0)), "0.78 %");
    let all = [BlockSite::Query, BlockSite::Key, BlockSite::Value, BlockSite::AttentionOutput];
    assert_eq!(adapter(32, &all).parameters(), 16_777_216);
}

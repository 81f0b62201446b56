//! Bench rows on a toy decoder: every test runs, the work is what counting by hand gives, and the JSON has
//! the documented fields.

mod toy;

use porism_kernels::Isa;
use porism_kernels::attention::Mask;
use porism_measure::bench::{Memory, Report, Row, RowSpec, Test, Work, run_row, work};
use porism_measure::limits::Limits;
use porism_models::Decoder;
use porism_models::cpu::{Activations, KvType};
use toy::toy_decoder;

fn spec(test: Test, n: usize, depth: usize) -> RowSpec {
    RowSpec { test, n, depth, threads: 2, kv_type: KvType::F16, activations: Activations::Int8 }
}

/// The toy with a window in its first layer.
fn windowed_decoder(window: usize) -> Decoder {
    let mut decoder = toy_decoder();
    decoder.stack.config.layer_specs[0].window = Some(window);
    decoder.stack.blocks[0].attention.spec.mask = Mask::Window(window);
    decoder
}

/// Of the toy's dense weights, in bytes: two blocks of (32 + 16 + 16) x 32 for q, k, v, 32 x 32 behind
/// attention, three of 64 x 32, and two norms of 32; a head of 50 x 32 with its norm.
const BLOCK_WEIGHTS: u64 = 2 * (64 * 32 + 32 * 32 + 3 * 64 * 32);
const BLOCKS: u64 = 4 * (BLOCK_WEIGHTS + 2 * 64);
const HEAD: u64 = 4 * (50 * 32 + 32);
const EMBEDDING_ROW: u64 = 4 * 32;
/// k and v of one head of 16 in f16, in two layers.
const ENTRY: u64 = 2 * 16 * 2 * 2;

#[test]
fn work_is_counted_by_passes() {
    let decoder = toy_decoder();
    let generate = work(&decoder, &spec(Test::Generate, 3, 10));
    assert_eq!(generate.bytes, 3 * (BLOCKS + HEAD + EMBEDDING_ROW) + (11 + 12 + 13) * ENTRY);
    assert_eq!(generate.projection_operations, 2 * 3 * (BLOCK_WEIGHTS + 50 * 32));
    // 300 tokens behind 100: chunks 100..256 and 256..400, logits of the last token.
    let prefill = work(&decoder, &spec(Test::Prefill, 300, 100));
    assert_eq!(prefill.bytes, 2 * BLOCKS + HEAD + 300 * EMBEDDING_ROW + (256 + 400) * ENTRY);
    assert_eq!(prefill.projection_operations, 2 * (300 * BLOCK_WEIGHTS + 50 * 32));
    let first = work(&decoder, &spec(Test::FirstToken, 9, 0));
    assert_eq!(first.bytes, BLOCKS + HEAD + 9 * EMBEDDING_ROW + 9 * ENTRY);
    let attention = work(&decoder, &spec(Test::Attention, 1, 99));
    assert_eq!(attention, Work { bytes: 100 * ENTRY, projection_operations: 0 });
    let wide = RowSpec { kv_type: KvType::F32, ..spec(Test::Attention, 1, 99) };
    assert_eq!(work(&decoder, &wide).bytes, 200 * ENTRY);
    // A draft of 5 behind 10: one pass, logits of all; 5 sequences read 5 caches of 11 entries.
    let batch = work(&decoder, &spec(Test::Batch, 5, 10));
    assert_eq!(batch.bytes, BLOCKS + HEAD + 5 * EMBEDDING_ROW + 15 * ENTRY);
    assert_eq!(batch.projection_operations, 2 * 5 * (BLOCK_WEIGHTS + 50 * 32));
    let sequences = work(&decoder, &spec(Test::Sequences, 5, 10));
    assert_eq!(sequences.bytes, BLOCKS + HEAD + 5 * EMBEDDING_ROW + 5 * 11 * ENTRY);
    assert_eq!(sequences.projection_operations, batch.projection_operations);
    assert_eq!(work(&decoder, &spec(Test::Contention, 3, 10)), generate);
}

#[test]
fn of_a_window_only_what_it_shows_is_counted() {
    let decoder = windowed_decoder(8);
    // Half an entry is one layer's. A token sees 8 entries in the first layer, itself among them.
    let weights = 3 * (BLOCKS + HEAD + EMBEDDING_ROW);
    let generate = work(&decoder, &spec(Test::Generate, 3, 10));
    assert_eq!(generate.bytes, weights + (3 * 8 + 11 + 12 + 13) * ENTRY / 2);
    // Before it is full, all of them.
    assert_eq!(work(&decoder, &spec(Test::Generate, 3, 0)).bytes, weights + (1 + 2 + 3) * ENTRY);
    // The chunk's first row sees 7 entries before it.
    let attention = work(&decoder, &spec(Test::Attention, 20, 100));
    assert_eq!(attention.bytes, (27 + 120) * ENTRY / 2);
    let sequences = work(&decoder, &spec(Test::Sequences, 2, 10));
    assert_eq!(sequences.bytes, BLOCKS + HEAD + 2 * EMBEDDING_ROW + 2 * (8 + 11) * ENTRY / 2);
}

#[test]
fn rows_run_behind_windows_that_have_moved_on() {
    let decoder = windowed_decoder(8);
    // Longer than what a layer with a window keeps for a rollback.
    for test in Test::ALL.into_iter().filter(|&t| t != Test::FirstToken) {
        for depth in [0, 400] {
            let n = if test == Test::Sequences { 3 } else { 600 };
            run_row(&decoder, Isa::detect(), &spec(test, n, depth), 2).expect("a row");
        }
    }
}

#[test]
fn the_cache_is_that_of_all_sequences() {
    let decoder = toy_decoder();
    // 301 entries are two pages of 256.
    let row = |test, n, depth| run_row(&decoder, Isa::detect(), &spec(test, n, depth), 1).expect("a row").cache_bytes;
    assert_eq!(row(Test::Batch, 1, 300), 512 * ENTRY);
    assert_eq!(row(Test::Sequences, 3, 300), 3 * 512 * ENTRY);
    assert_eq!(row(Test::Batch, 2, 0), 256 * ENTRY);
    assert_eq!(row(Test::Generate, 2, 0), 256 * ENTRY);
}

#[test]
fn every_test_runs_at_every_depth() {
    let decoder = toy_decoder();
    let tests = [
        (Test::Prefill, 300),
        (Test::Generate, 5),
        (Test::Attention, 1),
        (Test::Attention, 300),
        (Test::Batch, 16),
        (Test::Sequences, 3),
        (Test::Contention, 5),
    ];
    for (test, n) in tests {
        for depth in [0, 1, 300] {
            for activations in [Activations::Int8, Activations::F32] {
                let spec = RowSpec { activations, ..spec(test, n, depth) };
                let row = run_row(&decoder, Isa::detect(), &spec, 2).unwrap();
                assert_eq!(row.spec, spec);
                assert!(row.tokens_per_second.is_finite() && row.tokens_per_second > 0.0, "{row:?}");
                let seconds = n as f64 / row.tokens_per_second;
                let Work { bytes, projection_operations } = work(&decoder, &spec);
                assert!((row.gb_per_second * seconds * 1e9 / bytes as f64 - 1.0).abs() < 1e-9, "{row:?}");
                let operations = projection_operations as f64;
                assert!((row.gops_per_second * seconds * 1e9 - operations).abs() <= 1e-9 * operations, "{row:?}");
                if cfg!(target_os = "linux") {
                    assert!(row.memory.peak_rss_bytes > 1 << 20, "{row:?}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_run_says_why() {
    let decoder = toy_decoder();
    let message = |spec: RowSpec, repeat| run_row(&decoder, Isa::detect(), &spec, repeat).unwrap_err().to_string();
    assert!(message(spec(Test::Prefill, 0, 0), 1).contains("0 tokens"));
    assert!(message(spec(Test::Generate, 1, 0), 0).contains("0 repetitions"));
    assert!(message(spec(Test::FirstToken, 1, 0), 1).contains("from outside"));
}

#[test]
fn reports_have_the_documented_fields_and_come_back() {
    let row = Row {
        spec: spec(Test::FirstToken, 31, 0),
        tokens_per_second: 2.5,
        gb_per_second: 0.25,
        memory: Memory { peak_rss_bytes: 150_000_000, peak_anonymous_bytes: 50_000_000 },
        cache_bytes: 7,
        gops_per_second: 1.5,
    };
    let report = Report {
        machine: Limits { read_gb_per_second: 23.5, f32_gflops: 195.5, int8_gops: 300.5 },
        isa: "avx2".into(),
        model: "model.gguf".into(),
        rows: vec![row],
    };
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"machine":{"read_gb_per_second":23.5,"f32_gflops":195.5,"int8_gops":300.5},"isa":"avx2","model":"model.gguf","rows":["#,
            r#"{"test":"first_token","n":31,"depth":0,"threads":2,"kv_type":"f16","activations":"int8","#,
            r#""tokens_per_second":2.5,"gb_per_second":0.25,"peak_rss_bytes":150000000,"peak_anonymous_bytes":50000000,"cache_bytes":7,"gops_per_second":1.5}]}"#
        )
    );
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    let wrong = text.replace("\"f16\"", "\"f8\"");
    let error = serde_json::from_str::<Report>(&wrong).unwrap_err().to_string();
    assert!(error.contains("\"f8\" is none of f32, f16"), "{error}");
}

//! The state as bytes: written and read again, and refused where it does not fit.

use porism_formats::hf::SafeTensors;
use porism_tune::optimizer::{OptimizerKind, StateStorage};

use super::Run;

const LENGTHS: [usize; 3] = [5001, 300, 1];
const KINDS: [OptimizerKind; 4] =
    [OptimizerKind::ADAMW, OptimizerKind::SGD, OptimizerKind::Sgd { momentum: 0.0 }, OptimizerKind::ADAMW_8BIT];

fn run(kind: OptimizerKind, threads: usize, storage: &StateStorage, steps: std::ops::Range<u32>) -> Run {
    let mut run = Run::new(kind, &LENGTHS, threads, storage);
    advance(&mut run, steps);
    run
}

fn advance(run: &mut Run, steps: std::ops::Range<u32>) {
    for step in steps {
        run.step(step, 1e-2, 0.1);
    }
}

#[test]
fn a_run_that_goes_on_from_its_state_is_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let paged = StateStorage::Paged(folder.path().to_owned());
    for kind in KINDS {
        let whole = run(kind, 1, &StateStorage::Memory, 0..7);
        let half = run(kind, 3, &paged, 0..4);
        let mut other = run(kind, 2, &StateStorage::Memory, 0..0);
        other.optimizer.read_from(&mut half.state().as_slice()).unwrap();
        assert!(other.state() == half.state(), "{kind:?}");
        other.values = half.values.clone();
        advance(&mut other, 4..7);
        assert!(other.values == whole.values && other.state() == whole.state(), "{kind:?}");
    }
}

#[test]
fn threads_and_storage_do_not_change_a_bit() {
    let folder = tempfile::tempdir().unwrap();
    let paged = StateStorage::Paged(folder.path().to_owned());
    for kind in KINDS {
        let want = run(kind, 1, &StateStorage::Memory, 0..5);
        for (threads, storage) in [(3, &StateStorage::Memory), (1, &paged), (3, &paged)] {
            let got = run(kind, threads, storage, 0..5);
            assert!(got.values == want.values && got.state() == want.state(), "{kind:?}, {threads}, {storage:?}");
        }
    }
}

#[test]
fn a_state_is_a_safetensors_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("optimizer.safetensors");
    std::fs::write(&path, run(OptimizerKind::ADAMW, 1, &StateStorage::Memory, 0..2).state()).unwrap();
    let file = SafeTensors::open(&path).unwrap();
    let names: Vec<&str> = file.tensors().iter().map(|t| t.name()).collect();
    assert_eq!(names.len(), 8, "{names:?}");
    let first = file.weight("layer.1.exp_avg").unwrap().to_f32();
    let gradients = [super::gradient(1, 0, 300), super::gradient(1, 1, 300)];
    for (i, m) in first.iter().enumerate() {
        let want = 0.9 * 0.1 * f64::from(gradients[0][i]) + 0.1 * f64::from(gradients[1][i]);
        assert!((f64::from(*m) - want).abs() < 1e-7, "{m} and {want}");
    }
}

/// Reads bytes into an optimizer that has taken steps; it has to refuse them and to be new.
#[track_caller]
fn refused(kind: OptimizerKind, bytes: &[u8]) -> String {
    let mut reader = run(kind, 1, &StateStorage::Memory, 0..2);
    let error = reader.optimizer.read_from(&mut &*bytes).unwrap_err().to_string();
    assert!(reader.state() == run(kind, 1, &StateStorage::Memory, 0..0).state(), "not new after: {error}");
    assert!(error.starts_with("the optimizer's state: "), "{error}");
    error
}

#[test]
fn a_state_that_is_cut_off_is_refused() {
    for kind in [OptimizerKind::SGD, OptimizerKind::ADAMW_8BIT] {
        let bytes = run(kind, 1, &StateStorage::Memory, 0..2).state();
        for length in (0..600).chain((600..bytes.len()).step_by(997)).chain([bytes.len() - 1]) {
            assert!(refused(kind, &bytes[..length]).contains("ends early"), "{length}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(refused(kind, &longer).contains("behind its end"));
    }
}

#[test]
fn every_flipped_bit_is_seen() {
    let kind = OptimizerKind::ADAMW_8BIT;
    let bytes = run(kind, 1, &StateStorage::Memory, 0..2).state();
    for at in (0..700).chain((700..bytes.len()).step_by(211)).chain(bytes.len() - 4..bytes.len()) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        refused(kind, &damaged);
    }
    // A length of the header that no file has.
    let mut endless = bytes.clone();
    endless[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(refused(kind, &endless).contains("damaged"));
}

#[test]
fn a_state_of_another_run_is_refused_by_what_differs() {
    let state = |kind, lengths: &[usize]| Run::new(kind, lengths, 1, &StateStorage::Memory).state();
    let beta = OptimizerKind::AdamW { beta1: 0.8, beta2: 0.999, eps: 1e-8 };
    for (bytes, what) in [
        (state(OptimizerKind::SGD, &LENGTHS), r#"it has optimizer "sgd", this run has "adamw""#),
        (state(beta, &LENGTHS), r#"it has beta1 "0.8", this run has "0.9""#),
        (state(OptimizerKind::ADAMW, &LENGTHS[..2]), r#"`steps` is "U64" [2], this run has "U64" [3]"#),
        (state(OptimizerKind::ADAMW, &[5001, 301, 1]), r#"`layer.1.exp_avg` is "F32" [301], this run has "F32" [300]"#),
    ] {
        let error = refused(OptimizerKind::ADAMW, &bytes);
        assert!(error.contains(what) && error.contains("or begin anew"), "{error}");
    }
    let names = state(OptimizerKind::ADAMW, &LENGTHS);
    let at = names.windows(7).position(|w| w == b"layer.2").unwrap();
    let mut renamed = names.clone();
    renamed[at + 6] = b'9';
    let error = refused(OptimizerKind::ADAMW, &renamed);
    assert!(error.contains("`layer.2.exp_avg` is missing"), "{error}");
}

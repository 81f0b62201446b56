//! Rows that branch: in one pass each gets the logits that its branch alone would give it.

mod tiny_model;

use std::sync::Arc;

use porism_kernels::attention::Tree;
use porism_kernels::{Isa, Pool};
use porism_models::cpu::{Activations, CpuExecutor, CpuState, KvType};
use porism_models::{Batch, Decoder, HeadRequest, Mark, ModelSource, SequenceState, load_decoder};
use tiny_model::TinyModel;

fn decoder(name: &str) -> (tempfile::TempDir, Decoder) {
    let folder = tempfile::tempdir().expect("a folder");
    let model = TinyModel::read(name);
    let path = model.write(folder.path(), &model.config);
    let decoder = load_decoder(&ModelSource::open(&path).expect("a model")).expect("a decoder");
    (folder, decoder)
}

/// The logits of every row.
fn logits(decoder: &Decoder, states: &mut [CpuState; 1], mut batch: Batch) -> Vec<Vec<f32>> {
    let mut steps = CpuExecutor::new(Arc::new(Pool::new(2)), Isa::detect(), Activations::F32);
    batch.wanted = (0..batch.len()).collect();
    let rows = decoder.forward(&mut steps, &batch, states, HeadRequest::Logits).expect("a pass").into_rows();
    let rows = rows.expect("logits");
    (0..rows.tokens()).map(|i| rows.row(i).to_vec()).collect()
}

fn drafts(tree: &Tree, ids: &[u32], start: u32) -> Batch {
    let mut batch = Batch::single(ids, start);
    batch.positions = (0..tree.len()).map(|row| start + tree.depth(row) as u32).collect();
    batch.spans[0].tree = Some(Arc::new(tree.clone()));
    batch
}

#[test]
fn each_row_gets_the_logits_of_its_branch() {
    // One that sees everything and one with a window shorter than the prompt.
    for name in ["llama", "mistral"] {
        let (_folder, decoder) = decoder(name);
        let prompt: Vec<u32> = (0..23).map(|i| i * 31 % 96).collect();
        let start = prompt.len() as u32;
        let mut state = [CpuState::new(&decoder.stack.config, KvType::F32)];
        logits(&decoder, &mut state, Batch::single(&prompt, 0));
        let ids = [5, 17, 40, 3, 77, 60, 8, 91];
        let tree = Tree::new(vec![None, Some(0), Some(0), Some(1), Some(2), None, Some(5), Some(4)]).expect("a tree");
        let mut drafted = [state[0].fork()];
        let got = logits(&decoder, &mut drafted, drafts(&tree, &ids, start));
        for (row, got) in got.iter().enumerate() {
            let branch: Vec<u32> = tree.path(row).iter().map(|&i| ids[i]).collect();
            let want = logits(&decoder, &mut [state[0].fork()], Batch::single(&branch, start)).pop().expect("a row");
            // The entries lie elsewhere in the cache, so the sums are cut elsewhere.
            let far = got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max);
            assert!(far < 1e-4, "{name}: row {row} is {far} off");
        }
        // A tree of one branch is the rows themselves, to the bit; and what follows a rollback to it is, too.
        let chain = Tree::new((0..ids.len()).map(|i| i.checked_sub(1)).collect()).expect("a tree");
        let want = logits(&decoder, &mut [state[0].fork()], Batch::single(&ids, start));
        assert!(logits(&decoder, &mut [state[0].fork()], drafts(&chain, &ids, start)) == want, "{name}: a chain");
        drafted[0].rollback(Mark(prompt.len() + 2)).expect("rows 0 and 1 are one branch");
        let next = Batch::single(&ids[2..], start + 2);
        assert!(logits(&decoder, &mut drafted, next)[..] == want[2..], "{name}: after the rollback");
    }
}

#[test]
fn a_tree_fits_its_rows() {
    let (_folder, decoder) = decoder("llama");
    let mut batch = Batch::single(&[1, 2, 3], 0);
    batch.spans[0].tree = Some(Arc::new(Tree::new(vec![None, Some(0)]).expect("a tree")));
    let mut steps = CpuExecutor::new(Arc::new(Pool::new(1)), Isa::detect(), Activations::F32);
    let mut states = [CpuState::new(&decoder.stack.config, KvType::F32)];
    let error = decoder.forward(&mut steps, &batch, &mut states, HeadRequest::Logits).expect_err("a refusal");
    assert!(error.to_string().contains("a tree of 2 rows for rows 0..3"), "{error}");
}

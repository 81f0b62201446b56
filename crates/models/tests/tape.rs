//! The tape executor: gradients of a toy decoder against its f64 twin, and parity with the CPU executor.

#[path = "../../ops/tests/twin/mod.rs"]
mod twin;

mod toy;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use porism_kernels::attention::Mask;
use porism_kernels::{Isa, Pool};
use porism_models::cpu::{Activations, CpuExecutor, CpuState, KvType};
use porism_models::observe::{InputCovariance, Probe};
use porism_models::tape::{BlockMemory, Parameter, Parameters, TapeExecutor, TapeSlot, TapeState, loss_gradients};
use porism_models::{Batch, Decoder, HeadRequest, ProbeGroup, Result, SequenceState, Site, SlotSite, Span, Steps};
use porism_ops::OpContext;
use toy::{IA3, KV_WIDTH, LORA, TARGETS, Twin, VOCAB, WEIGHTS, WIDTH};
use twin::{Matrix, Random, assert_close, matrix};

const REQUEST: HeadRequest<'static> = HeadRequest::CrossEntropy { targets: &TARGETS, weights: &WEIGHTS };

fn tape(parameters: Parameters) -> TapeExecutor {
    TapeExecutor::new(OpContext::new(2), parameters)
}

fn states(decoder: &Decoder) -> Vec<TapeState> {
    vec![TapeState::new(&decoder.stack.config); 2]
}

fn named(steps: &TapeExecutor) -> Vec<(Parameter, Var)> {
    steps.parameters().iter().map(|(name, var)| (name, var.clone())).collect()
}

fn keep(_: usize) -> BlockMemory {
    BlockMemory::Keep
}

/// Checks `d loss / d direction` for some random directions in all parameters and one in each alone.
fn check_directions(
    names: &[(Parameter, Var)],
    gradients: &GradStore,
    seed: u64,
    loss: impl Fn(&BTreeMap<Parameter, Matrix>) -> f64,
) {
    let mut random = Random(seed);
    for direction in 0..3 + names.len() {
        let along: Vec<Vec<f64>> = names
            .iter()
            .enumerate()
            .map(|(i, (_, var))| {
                let moves = direction < 3 || direction - 3 == i;
                let numbers = random.numbers(var.elem_count());
                numbers.iter().map(|&v| if moves { f64::from(v) } else { 0.0 }).collect()
            })
            .collect();
        let at = |t: f64| {
            let moved = names.iter().zip(&along).map(|((name, var), d)| {
                let here = matrix(var);
                let v = here.v.iter().zip(d).map(|(v, d)| v + t * d).collect();
                (*name, Matrix::new(here.rows, here.cols, v))
            });
            loss(&moved.collect())
        };
        let want = (at(1e-5) - at(-1e-5)) / 2e-5;
        let mut got = 0.0;
        for ((name, var), d) in names.iter().zip(&along) {
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("{name:?} has no gradient"));
            got += matrix(gradient).v.iter().zip(d).map(|(g, d)| g * d).sum::<f64>();
        }
        let what = direction.checked_sub(3).map(|i| names[i].0);
        assert!((got - want).abs() < 3e-5 * (1.0 + want.abs()), "along {what:?}: {got} where {want} was expected");
    }
}

#[test]
fn every_parameter_of_the_full_model_has_the_right_gradient() {
    for (mask, tied) in [(Mask::Causal, false), (Mask::Window(3), true)] {
        let decoder = toy::decoder(1, mask, tied);
        let mut steps = tape(Parameters::full(&decoder).unwrap());
        let (loss, gradients) =
            loss_gradients(&decoder, &mut steps, &toy::batch(), &states(&decoder), REQUEST, keep).unwrap();
        let names = named(&steps);
        // Table, head if it is its own, output norm; nine weights and a bias in each of two blocks.
        assert_eq!(names.len(), if tied { 2 } else { 3 } + 2 * 10);
        let twin = |replaced: &BTreeMap<Parameter, Matrix>| {
            let twin = Twin { replaced: replaced.clone(), ..Twin::new(&decoder, mask) };
            twin.logits(&toy::batch()).cross_entropy(&TARGETS, &WEIGHTS)
        };
        let want = twin(&BTreeMap::new());
        assert!((f64::from(loss) - want).abs() < 1e-5 * want, "loss {loss} where {want} was expected");
        check_directions(&names, &gradients, 2, twin);
    }
}

#[test]
fn every_delta_of_an_adapter_has_the_right_gradient() {
    let decoder = toy::decoder(3, Mask::Causal, true);
    for (adapter, tensors) in [(LORA, 8), (IA3, 4)] {
        let mut steps = tape(Parameters::adapter(&decoder, adapter).unwrap());
        let names = named(&steps);
        assert_eq!(names.len(), tensors);
        let (_, gradients) =
            loss_gradients(&decoder, &mut steps, &toy::batch(), &states(&decoder), REQUEST, keep).unwrap();
        check_directions(&names, &gradients, 4, |replaced| {
            let twin = Twin { replaced: replaced.clone(), ..Twin::new(&decoder, Mask::Causal) };
            twin.logits(&toy::batch()).cross_entropy(&TARGETS, &WEIGHTS)
        });
    }
    assert!(Parameters::adapter(&decoder, porism_models::AdapterId(9)).is_err());
}

#[test]
fn a_trained_prefix_has_the_right_gradient() {
    let decoder = toy::decoder(5, Mask::Window(3), true);
    let mut random = Random(6);
    // Two prefixes of two entries in the first sequence, one for each layer; k and v.
    let seeds: Vec<Var> = (0..4).map(|_| random.var(2, KV_WIDTH)).collect();
    let mut states = states(&decoder);
    for layer in 0..2 {
        states[0].seed_tensors(layer, &seeds[2 * layer], &seeds[2 * layer + 1]).unwrap();
    }
    let mut steps = tape(Parameters::none());
    let (_, gradients) = loss_gradients(&decoder, &mut steps, &toy::batch(), &states, REQUEST, keep).unwrap();
    // Any names do: they only keep the tensors apart.
    let names: Vec<(Parameter, Var)> = seeds
        .iter()
        .enumerate()
        .map(|(i, v)| (Parameter::Weight(Site::Block(i as u32, porism_models::BlockSite::Key)), v.clone()))
        .collect();
    check_directions(&names, &gradients, 7, |replaced| {
        let values: Vec<Matrix> =
            names.iter().map(|(name, var)| replaced.get(name).cloned().unwrap_or(matrix(var))).collect();
        let mut twin = Twin::new(&decoder, Mask::Window(3));
        for layer in 0..2 {
            twin.seeds.insert((0, layer), (values[2 * layer].clone(), values[2 * layer + 1].clone()));
        }
        twin.logits(&toy::batch()).cross_entropy(&TARGETS, &WEIGHTS)
    });
}

#[test]
fn recomputing_blocks_changes_no_bit_and_one_tape_agrees() {
    let decoder = toy::decoder(8, Mask::Causal, true);
    let mut steps = tape(Parameters::full(&decoder).unwrap());
    let mut run = |memory: fn(usize) -> BlockMemory| {
        let (loss, gradients) =
            loss_gradients(&decoder, &mut steps, &toy::batch(), &states(&decoder), REQUEST, memory).unwrap();
        let all: Vec<Matrix> = named(&steps).iter().map(|(_, v)| matrix(gradients.get(v).unwrap())).collect();
        (loss, all)
    };
    let kept = run(keep);
    let recomputed = run(|_| BlockMemory::Recompute);
    let mixed = run(|i| if i == 0 { BlockMemory::Keep } else { BlockMemory::Recompute });
    for other in [&recomputed, &mixed] {
        assert_eq!(kept.0, other.0);
        assert!(kept.1.iter().zip(&other.1).all(|(a, b)| a.v == b.v));
    }
    // The whole model on one tape, through the coarse steps' default bodies.
    let loss = decoder.forward(&mut steps, &toy::batch(), &mut states(&decoder), REQUEST).unwrap().into_rows().unwrap();
    assert!((matrix(&loss).v[0] - f64::from(kept.0)).abs() < 1e-6);
    let gradients = loss.backward().unwrap();
    for ((name, var), want) in named(&steps).iter().zip(&kept.1) {
        assert_close(&matrix(gradients.get(var).unwrap()), want, 1e-6, &format!("{name:?}"));
    }
}

#[test]
fn the_kl_loss_has_the_right_gradient() {
    let decoder = toy::decoder(9, Mask::Causal, true);
    let teacher = matrix(&Random(10).constant(5, VOCAB)).log_softmax();
    let teacher: Vec<f32> = teacher.v.iter().map(|&v| v as f32).collect();
    let request = HeadRequest::KlTo { log_probs: &teacher };
    let mut steps = tape(Parameters::full(&decoder).unwrap());
    let (loss, gradients) =
        loss_gradients(&decoder, &mut steps, &toy::batch(), &states(&decoder), request, keep).unwrap();
    let twin = |replaced: &BTreeMap<Parameter, Matrix>| {
        Twin { replaced: replaced.clone(), ..Twin::new(&decoder, Mask::Causal) }.logits(&toy::batch()).kl(&teacher)
    };
    let want = twin(&BTreeMap::new());
    assert!((f64::from(loss) - want).abs() < 1e-5 * want, "loss {loss} where {want} was expected");
    check_directions(&named(&steps), &gradients, 11, twin);
}

#[test]
fn rows_of_a_long_batch_go_through_the_head_in_parts() {
    let decoder = toy::decoder(12, Mask::Causal, true);
    let ids: Vec<u32> = (0..300).map(|i| (i * 7 + i / 5) % VOCAB as u32).collect();
    let batch = Batch::packed(&[&ids[..170], &ids[170..]]);
    let targets: Vec<u32> = ids.iter().map(|id| (id + 3) % VOCAB as u32).collect();
    let weights: Vec<f32> = (0..300).map(|i| (i % 4) as f32).collect();
    let request = HeadRequest::CrossEntropy { targets: &targets, weights: &weights };
    let mut steps = tape(Parameters::full(&decoder).unwrap());
    let (loss, gradients) = loss_gradients(&decoder, &mut steps, &batch, &states(&decoder), request, keep).unwrap();
    let whole = decoder.forward(&mut steps, &batch, &mut states(&decoder), request).unwrap().into_rows().unwrap();
    assert!((matrix(&whole).v[0] - f64::from(loss)).abs() < 1e-5);
    let want = whole.backward().unwrap();
    for (name, var) in named(&steps) {
        let (got, want) = (matrix(gradients.get(&var).unwrap()), matrix(want.get(&var).unwrap()));
        assert_close(&got, &want, 3e-6, &format!("{name:?}"));
    }
}

#[test]
fn training_learns_a_sequence_by_heart() {
    let decoder = toy::decoder(13, Mask::Causal, true);
    let ids = [1u32, 5, 2, 9, 9, 3, 0, 7, 5, 1, 4, 4, 8];
    let batch = Batch { wanted: (0..12).collect(), ..Batch::packed(&[&ids[..12]]) };
    let request = HeadRequest::CrossEntropy { targets: &ids[1..], weights: &[1.0; 12] };
    let mut steps = tape(Parameters::full(&decoder).unwrap());
    let mut losses = Vec::new();
    for _ in 0..150 {
        let memory = |_| BlockMemory::Recompute;
        let (loss, gradients) =
            loss_gradients(&decoder, &mut steps, &batch, &states(&decoder)[..1], request, memory).unwrap();
        losses.push(loss);
        for (_, var) in steps.parameters().iter() {
            let step = gradients.get(var).unwrap().affine(-0.1, 0.0).unwrap();
            var.set(&(var.as_tensor() + step).unwrap()).unwrap();
        }
    }
    assert!(losses[0] > 1.5 && losses[149] < 0.05, "from {} to {}", losses[0], losses[149]);
    // What was trained is what runs: the greedy continuation of the first token is the sequence.
    let mut states = [TapeState::new(&decoder.stack.config)];
    let mut id = ids[0];
    for (position, &want) in ids[1..].iter().enumerate() {
        let batch = Batch::single(&[id], position as u32);
        let logits =
            decoder.forward(&mut steps, &batch, &mut states, HeadRequest::Logits).unwrap().into_rows().unwrap();
        let row = matrix(&logits).v;
        id = (0..VOCAB as u32).max_by(|&a, &b| row[a as usize].total_cmp(&row[b as usize])).unwrap();
        assert_eq!(id, want, "token {position}");
    }
}

/// Logits of each row of two sequences that come in two batches, with seeds in the first.
fn in_two_batches<S: Steps>(decoder: &Decoder, steps: &mut S, mut states: Vec<S::State>, seeds: &[Vec<f32>]) -> Vec<f32>
where
    S::State: SequenceState,
{
    for layer in 0..2 {
        states[0].seed(layer, &seeds[2 * layer], &seeds[2 * layer + 1]).unwrap();
    }
    let mut all = Vec::new();
    for (rows, ids) in [(3, [1u32, 4, 4, 10, 0]), (2, [7, 3, 4, 9, 2])] {
        let start = states.iter().map(SequenceState::len).collect::<Vec<_>>();
        let batch = Batch {
            positions: (0..rows)
                .map(|i| (start[0] + i) as u32)
                .chain((0..5 - rows).map(|i| (start[1] + i) as u32))
                .collect(),
            spans: vec![
                Span { sequence: 0, rows: 0..rows, adapter: Some(LORA), tree: None },
                Span { sequence: 1, rows: rows..5, adapter: Some(IA3), tree: None },
            ],
            wanted: (0..5).collect(),
            input: porism_models::Input::Ids(ids.to_vec()),
        };
        // A detour that is rolled back leaves no trace.
        let mark = states[1].mark();
        let mut fork: Vec<S::State> = states.iter().map(SequenceState::fork).collect();
        decoder.forward(steps, &batch, &mut fork, HeadRequest::Logits).unwrap();
        fork[1].rollback(mark).unwrap();
        states[1] = fork.remove(1);
        let rows = decoder.forward(steps, &batch, &mut states, HeadRequest::Logits).unwrap().into_rows().unwrap();
        all.extend(steps.to_vec(&rows).unwrap());
    }
    all
}

#[test]
fn both_executors_agree_on_deltas_seeds_and_states() {
    for (seed, mask) in [(14, Mask::Causal), (15, Mask::Window(2))] {
        let decoder = toy::decoder(seed, mask, false);
        let mut random = Random(16);
        let seeds: Vec<Vec<f32>> = (0..4).map(|_| random.numbers(2 * KV_WIDTH)).collect();
        let mut cpu = CpuExecutor::new(Arc::new(Pool::new(2)), Isa::detect(), Activations::F32);
        let cpu_states =
            vec![CpuState::new(&decoder.stack.config, KvType::F32), CpuState::new(&decoder.stack.config, KvType::F32)];
        let want = in_two_batches(&decoder, &mut cpu, cpu_states, &seeds);
        let got = in_two_batches(&decoder, &mut tape(Parameters::none()), states(&decoder), &seeds);
        let wide = |v: &[f32]| Matrix::new(10, VOCAB, v.iter().map(|&v| f64::from(v)).collect());
        assert_close(&wide(&got), &wide(&want), 1e-5, "logits");
    }
}

/// `x + 0.5 * x W^T`, with a trained W.
struct Module(Var);

impl TapeSlot for Module {
    fn apply(&mut self, context: &OpContext, x: &Tensor, _: &Batch) -> Result<Tensor> {
        Ok(x.add(&porism_ops::linear(context, x, &self.0)?.affine(0.5, 0.0)?)?)
    }
}

#[test]
fn a_module_in_a_slot_is_trained() {
    let decoder = toy::decoder(17, Mask::Causal, true);
    let var = Random(18).var(WIDTH, WIDTH);
    let mut steps = tape(Parameters::none());
    steps.set_slot(SlotSite::AfterFfn(0), Some(Box::new(Module(var.clone()))));
    let mut loss_at = |w: &Matrix| {
        let values: Vec<f32> = w.v.iter().map(|&v| v as f32).collect();
        var.set(&Tensor::from_vec(values, (WIDTH, WIDTH), &candle_core::Device::Cpu).unwrap()).unwrap();
        loss_gradients(&decoder, &mut steps, &toy::batch(), &states(&decoder), REQUEST, |_| BlockMemory::Recompute)
            .unwrap()
    };
    let here = matrix(&Random(18).constant(WIDTH, WIDTH));
    let along = matrix(&Random(19).constant(WIDTH, WIDTH));
    let (_, gradients) = loss_at(&here);
    let got: f64 = matrix(gradients.get(&var).unwrap()).v.iter().zip(&along.v).map(|(g, d)| g * d).sum();
    // In f32, so a long step and a loose bound.
    let h = 1e-2;
    let (above, _) = loss_at(&here.add(&along.scaled(h)));
    let (below, _) = loss_at(&here.add(&along.scaled(-h)));
    let want = f64::from(above - below) / (2.0 * h);
    assert!((got - want).abs() < 2e-3 * (1.0 + want.abs()), "{got} where {want} was expected");
}

/// Hands what it sees to a collection that outlives the executor.
struct Shared(Arc<Mutex<InputCovariance>>);

impl Probe for Shared {
    fn see(&mut self, group: ProbeGroup, x: &[f32], width: usize) -> Result<()> {
        self.0.lock().unwrap().see(group, x, width)
    }
}

#[test]
fn a_probe_sees_each_input_once_and_the_same_on_both_executors() {
    let decoder = toy::decoder(20, Mask::Causal, true);
    let collect = |run: &dyn Fn(Box<dyn Probe>)| {
        let seen = Arc::new(Mutex::new(InputCovariance::new(Arc::new(Pool::new(1)), Isa::detect())));
        run(Box::new(Shared(seen.clone())));
        std::mem::take(&mut seen.lock().unwrap().groups)
    };
    let on_the_tape = collect(&|probe| {
        let mut steps = tape(Parameters::full(&decoder).unwrap());
        steps.set_probe(Some(probe));
        let memory = |_| BlockMemory::Recompute;
        loss_gradients(&decoder, &mut steps, &toy::batch(), &states(&decoder), REQUEST, memory).unwrap();
    });
    let on_the_cpu = collect(&|probe| {
        let mut steps = CpuExecutor::new(Arc::new(Pool::new(2)), Isa::detect(), Activations::F32);
        steps.set_probe(Some(probe));
        let mut states =
            vec![CpuState::new(&decoder.stack.config, KvType::F32), CpuState::new(&decoder.stack.config, KvType::F32)];
        decoder.forward(&mut steps, &toy::batch(), &mut states, REQUEST).unwrap();
    });
    assert_eq!(on_the_tape.keys().collect::<Vec<_>>(), on_the_cpu.keys().collect::<Vec<_>>());
    assert_eq!(on_the_tape.len(), 2 * 4 + 1);
    for (group, (got, rows)) in &on_the_tape {
        let (want, want_rows) = &on_the_cpu[group];
        if *group == ProbeGroup::HeadInput {
            // The tape's head leaves out the row of weight zero.
            assert_eq!((*rows, *want_rows), (4, 5));
            continue;
        }
        assert_eq!(rows, want_rows);
        let width = want.len().isqrt();
        let square = |v: &[f64]| Matrix::new(width, width, v.to_vec());
        assert_close(&square(got), &square(want), 1e-5, &format!("{group:?}"));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let decoder = toy::decoder(21, Mask::Causal, true);
    let mut steps = tape(Parameters::none());
    let mut refused = |batch: Batch, states: Vec<TapeState>, request: HeadRequest<'_>, words: &str| {
        let error = loss_gradients(&decoder, &mut steps, &batch, &states, request, keep).expect_err(words).to_string();
        assert!(error.contains(words), "{error:?} does not say {words:?}");
    };
    let two = || states(&decoder);
    refused(toy::batch(), vec![], REQUEST, "there are 0 states");
    refused(toy::batch(), two(), HeadRequest::Logits, "only cross-entropy and KL are losses");
    let targets = |targets| HeadRequest::CrossEntropy { targets, weights: &WEIGHTS };
    refused(toy::batch(), two(), targets(&[0; 4]), "the targets do not fit the 5 wanted rows");
    refused(toy::batch(), two(), targets(&[99; 5]), "token id 99 is outside the model's vocabulary of 11");
    let zero = HeadRequest::CrossEntropy { targets: &TARGETS, weights: &[0.0; 5] };
    refused(toy::batch(), two(), zero, "there is nothing to learn");
    let mut batch = toy::batch();
    batch.spans[1].sequence = 0;
    refused(batch, two(), REQUEST, "sequence 0 has two spans");
    let mut batch = toy::batch();
    batch.input = porism_models::Input::Ids(vec![11; 9]);
    refused(batch, two(), REQUEST, "token id 11 is outside the model's vocabulary of 11");
    let mut batch = toy::batch();
    batch.input = porism_models::Input::Rows { values: vec![0.0; 9 * 3], width: 3 };
    refused(batch, two(), REQUEST, "rows of 3 numbers for a model of width 16");
    let mut state = TapeState::new(&decoder.stack.config);
    assert!(state.seed(0, &[0.0; 3], &[0.0; 3]).is_err());
    assert!(state.seed(7, &[0.0; 8], &[0.0; 8]).is_err());
    assert!(state.rollback(porism_models::Mark(1)).is_err());
}

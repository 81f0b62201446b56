//! Training the default model's adapters: gradients however a batch is cut, runs that go on bit for bit, what is trained is what
//! is run.

use std::path::Path;
use std::sync::Arc;

use porism_formats::rows::Row;
use porism_hub::{CacheDir, Network, Silent, ensure_default_model};
use porism_kernels::{Isa, Pool};
use porism_models::adapter::{Adapter, Base, attach, targets};
use porism_models::cpu::{Activations, CpuExecutor, CpuState, KvType};
use porism_models::tape::{BlockMemory, Dropout, Parameters, TapeExecutor};
use porism_models::{Batch, Decoder, HeadRequest, ModelSource, load_decoder};
use porism_ops::OpContext;
use porism_text::Tokenizer;
use porism_text::examples::{Composer, Example};
use porism_tune::adapter::{Magnitudes, TRAINED, fresh, hold_back, less_start, trained};
use porism_tune::memory::{Tape, kept_bytes, plan};
use porism_tune::optimizer::{Optimizer, OptimizerKind, StateStorage, TrainedTensor};
use porism_tune::passes::{gradients, mean_loss, micros};
use porism_tune::recipe::{Recompute, Switch, Variant};
use porism_tune::{Data, Error, Goal, Outcome, Recipe, Split, Teacher, Trainer, read_log};

struct Model {
    source: ModelSource,
    decoder: Decoder,
    tokenizer: Tokenizer,
}

fn model() -> Model {
    let var = std::env::var_os;
    let cache = CacheDir::resolve(var("PORISM_HOME"), var("XDG_CACHE_HOME"), var("HOME")).expect("a cache folder");
    let path = ensure_default_model(&cache, &Network::default(), &mut Silent).expect("the default model");
    let source = ModelSource::open(&path).expect("a model");
    Model {
        decoder: load_decoder(&source).expect("a decoder"),
        tokenizer: source.tokenizer().expect("a tokenizer"),
        source,
    }
}

fn context() -> OpContext {
    OpContext { pool: Arc::new(Pool::new(2)), isa: Isa::detect() }
}

/// Short texts of our own, of different lengths.
fn examples(tokenizer: &Tokenizer) -> Vec<Example> {
    let texts = [
        ("The keeper of the lamp wrote: ", "wind from the west, three ships, oil for nine days."),
        ("", "Stones are counted twice at the northern wall."),
        ("Question: who rings the bell?\nAnswer:", " the second son, when the tide turns"),
        ("A rule of the house: ", "whoever leaves last puts out the lamp and feeds the cat"),
        ("", "Blue ink for arrivals."),
    ];
    let composer = Composer::new(tokenizer, None);
    let row = |(prompt, completion): &(&str, &str)| {
        let value = serde_json::json!({"prompt": prompt, "completion": completion});
        composer.compose(&Row { at: "here".into(), value: value.as_object().expect("an object").clone() })
    };
    texts.iter().map(|text| row(text).expect("an example")).collect()
}

fn recipe() -> Recipe {
    Recipe {
        steps: 6,
        batch: 2,
        length: 64,
        lr: 2e-3,
        rank: 4,
        alpha: 8.0,
        targets: vec!["q_proj".into(), "v_proj".into(), "down_proj".into()],
        packing: Switch::Off,
        validate_every: 3,
        checkpoint_every: 3,
        ..Recipe::default()
    }
}

/// The model with a fresh adapter on it, and what trains it.
struct Bench {
    decoder: Decoder,
    adapter: Adapter,
    executor: TapeExecutor,
    magnitudes: Magnitudes,
}

fn bench(model: &Model, recipe: &Recipe, start: Option<&Adapter>) -> Bench {
    let mut decoder = model.decoder.clone();
    let base = Base::new(&model.source, &model.decoder).expect("a base");
    let sites = targets(&base, &recipe.targets).expect("targets");
    let adapter =
        start.cloned().unwrap_or_else(|| fresh(&context(), &base, &model.decoder, &sites, recipe).expect("an adapter"));
    let context = context();
    let attached = attach(&context.pool, context.isa, &mut decoder, &[(adapter.clone(), 1.0)], TRAINED);
    let _ = attached.expect("an attached adapter");
    if recipe.variant == Variant::Pissa && start.is_none() {
        hold_back(&mut decoder, &adapter);
    }
    let parameters = Parameters::adapter(&decoder, TRAINED).expect("parameters");
    let magnitudes = Magnitudes::of(&adapter, &decoder, &parameters);
    Bench { decoder, adapter, executor: TapeExecutor::new(context, parameters), magnitudes }
}

fn train(model: &Model, recipe: &Recipe, folder: &Path, resume: bool) -> (Outcome, Adapter) {
    let Bench { decoder, adapter, executor, magnitudes } = bench(model, recipe, None);
    let all = examples(&model.tokenizer);
    let data = Data {
        train: Split { examples: all[..4].to_vec(), ..Split::default() },
        valid: Some(Split { examples: all[4..].to_vec(), ..Split::default() }),
        test: Some(Split { examples: all[4..].to_vec(), ..Split::default() }),
    };
    let tensors = executor.parameters().iter().map(|(name, var)| TrainedTensor {
        name: format!("{name:?}"),
        len: var.elem_count(),
        decays: true,
    });
    let (context, tensors) = (executor.context().clone(), tensors.collect());
    let optimizer =
        Optimizer::new(&context, OptimizerKind::ADAMW, tensors, &StateStorage::Memory).expect("an optimizer");
    let mut trainer = Trainer {
        decoder: &decoder,
        executor,
        magnitudes,
        optimizer,
        goal: Goal::CrossEntropy,
        recipe,
        data: &data,
        folder: folder.to_owned(),
        run: "a run".into(),
        resume,
        budget: u64::MAX,
    };
    let outcome = trainer.train(&mut |_| {}).expect("a run");
    let now = trained(&adapter, &decoder, &trainer.executor, &trainer.magnitudes).expect("an adapter");
    let now = if recipe.variant == Variant::Pissa { less_start(&now, &adapter).expect("a difference") } else { now };
    (outcome, now)
}

/// All numbers of an adapter.
fn numbers(adapter: &Adapter) -> Vec<f32> {
    let parts = adapter.low_ranks.values().flat_map(|l| [Some(&l.a), Some(&l.b), l.magnitude.as_ref()]);
    parts.flatten().flat_map(|weight| weight.to_f32()).collect()
}

#[test]
fn gradients_are_those_of_the_whole_batch_however_it_is_cut() {
    let model = model();
    let Bench { decoder, mut executor, .. } = bench(&model, &recipe(), None);
    let all = examples(&model.tokenizer);
    let all: Vec<&Example> = all.iter().collect();
    let one = micros(&all, 1);
    let whole = micros(&all, 10_000);
    assert_eq!((one.len(), whole.len()), (5, 1));
    let whole =
        gradients(&decoder, &mut executor, &whole, Goal::CrossEntropy, None, |_| BlockMemory::Keep).expect("gradients");
    for memory in [BlockMemory::Keep, BlockMemory::Recompute] {
        let cut = gradients(&decoder, &mut executor, &one, Goal::CrossEntropy, None, |_| memory).expect("gradients");
        assert_eq!(cut.targets, whole.targets);
        assert!((cut.loss - whole.loss).abs() < 1e-5, "{} {}", cut.loss, whole.loss);
        let length = |parts: &[Vec<f32>]| parts.iter().flatten().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let differences: Vec<Vec<f32>> =
            cut.parts.iter().zip(&whole.parts).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a - b).collect()).collect();
        assert!(
            length(&differences) < 1e-5 * length(&whole.parts),
            "{} of {}",
            length(&differences),
            length(&whole.parts)
        );
    }
    let loss = mean_loss(&decoder, &mut executor, &one).expect("a loss");
    assert!((loss - whole.loss).abs() < 1e-5);
}

#[test]
fn a_run_that_goes_on_is_the_same_to_the_last_bit() {
    let model = model();
    for (variant, dropout) in [(Variant::Lora, 0.2), (Variant::Dora, 0.0), (Variant::Pissa, 0.0)] {
        let recipe = Recipe { variant, dropout, ..recipe() };
        let [whole, parts] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let (outcome, adapter) = train(&model, &recipe, whole.path(), false);
        assert_eq!((outcome.steps, outcome.alarm), (6, None));
        let (first, last) = outcome.val_loss.expect("a validation loss");
        // The same examples: what is tested is what the last update left.
        assert_eq!(outcome.test_loss, Some(last));
        let (begun, ended) = outcome.loss.expect("losses");
        assert!(ended < begun, "{variant:?}: from {begun} to {ended}, validation from {first} to {last}");
        let half = Recipe { steps: 3, ..recipe.clone() };
        train(&model, &half, parts.path(), false);
        let (outcome, again) = train(&model, &recipe, parts.path(), true);
        assert_eq!(outcome.steps, 6);
        assert!(numbers(&again) == numbers(&adapter), "{variant:?}");
        let log = |folder: &Path| read_log(&folder.join("log.jsonl")).expect("a log");
        let shown = |r: porism_tune::Record| (r.step, r.loss, r.val_loss, r.learning_rate, r.grad_norm);
        let (a, b): (Vec<_>, Vec<_>) =
            (log(whole.path()).into_iter().map(shown).collect(), log(parts.path()).into_iter().map(shown).collect());
        assert_eq!((a.len(), &a), (6, &b));
        assert!(a[2].2.is_some() && a[1].2.is_none());
    }
}

#[test]
fn what_was_trained_is_what_is_run() {
    let model = model();
    for variant in [Variant::Lora, Variant::Rslora, Variant::Dora, Variant::Pissa] {
        let recipe = Recipe { variant, steps: 2, ..recipe() };
        let folder = tempfile::tempdir().expect("a folder");
        let (_, adapter) = train(&model, &recipe, folder.path(), false);
        let Bench { decoder, mut executor, .. } = bench(&model, &recipe, Some(&adapter));
        let all = examples(&model.tokenizer);
        let tape = mean_loss(&decoder, &mut executor, &micros(&[&all[3]], 64)).expect("a loss");
        let mut batch = Batch::single(&all[3].ids, 0);
        batch.spans[0].adapter = Some(TRAINED);
        batch.wanted = (1..all[3].ids.len()).filter(|&i| all[3].scored[i]).map(|i| i - 1).collect();
        let targets: Vec<u32> = batch.wanted.iter().map(|&i| all[3].ids[i + 1]).collect();
        let mut steps = CpuExecutor::new(Arc::new(Pool::new(2)), Isa::detect(), Activations::F32);
        let mut states = [CpuState::new(&decoder.stack.config, KvType::F32)];
        let out = decoder.forward(&mut steps, &batch, &mut states, HeadRequest::Score(&targets));
        let scores = out.and_then(|out| out.into_scores()).expect("scores");
        let run = -scores.iter().map(|s| f64::from(s.log_prob)).sum::<f64>() / scores.len() as f64;
        assert!((run - tape).abs() < 1e-4, "{variant:?}: trained {tape}, run {run}");
    }
}

/// What PiSSA begins with is the weights' own, so that the model is what it was.
#[test]
fn a_pissa_adapter_changes_nothing_at_first() {
    let model = model();
    let all = examples(&model.tokenizer);
    let micros = micros(&all.iter().collect::<Vec<_>>(), 64);
    let [plain, pissa] = [Variant::Lora, Variant::Pissa].map(|variant| {
        let mut bench = bench(&model, &Recipe { variant, ..recipe() }, None);
        mean_loss(&bench.decoder, &mut bench.executor, &micros).expect("a loss")
    });
    assert!((plain - pissa).abs() < 1e-4, "{plain} and {pissa}");
}

/// Along a direction the loss rises as the gradients say: of all A and B together, for each variant, with dropout and without.
#[test]
fn an_adapters_gradients_are_the_slope_of_the_loss() {
    let model = model();
    let all = examples(&model.tokenizer);
    let micros = micros(&all.iter().collect::<Vec<_>>(), 64);
    for (variant, share) in [
        (Variant::Lora, 0.0),
        (Variant::Lora, 0.3),
        (Variant::Rslora, 0.0),
        (Variant::Dora, 0.0),
        (Variant::Pissa, 0.0),
    ] {
        let mut bench = bench(&model, &Recipe { variant, ..recipe() }, None);
        let dropout = (share > 0.0).then_some(Dropout { share, key: 3 });
        // B begins with zeros, where A has no gradient: move everything a little first.
        let vars: Vec<candle_core::Var> = bench.executor.parameters().iter().map(|(_, var)| var.clone()).collect();
        let free: Vec<bool> = (0..vars.len()).map(|index| bench.magnitudes.values(index).is_none()).collect();
        let moved = |by: &[Vec<f32>], step: f32| {
            for (index, (var, by)) in vars.iter().zip(by).enumerate() {
                if free[index] {
                    let mut values: Vec<f32> = var.flatten_all().and_then(|v| v.to_vec1()).expect("values");
                    values.iter_mut().zip(by).for_each(|(v, d)| *v += step * d);
                    let tensor = candle_core::Tensor::from_vec(values, var.shape(), var.device());
                    var.set(&tensor.expect("a tensor")).expect("a change");
                }
            }
        };
        let wave: Vec<Vec<f32>> =
            vars.iter().map(|var| (0..var.elem_count()).map(|i| (i as f32 * 0.731).sin()).collect()).collect();
        moved(&wave, 0.01);
        let executor = &mut bench.executor;
        // A magnitude's length is taken as constant (section 4.3 of the paper): so it is here, too.
        bench.magnitudes.renew(executor).expect("lengths");
        let found = gradients(&bench.decoder, executor, &micros, Goal::CrossEntropy, dropout, |_| BlockMemory::Keep)
            .expect("gradients");
        let again =
            gradients(&bench.decoder, executor, &micros, Goal::CrossEntropy, dropout, |_| BlockMemory::Recompute)
                .expect("again");
        assert!(found.parts == again.parts, "{variant:?}: recomputed, the gradients are others");
        let length = |parts: &[Vec<f32>]| parts.iter().flatten().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let (own, other) = (length(&found.parts), length(&wave));
        let direction: Vec<Vec<f32>> = found
            .parts
            .iter()
            .zip(&wave)
            .enumerate()
            .map(|(index, (g, w))| {
                let free = f32::from(u8::from(free[index]));
                g.iter().zip(w).map(|(g, w)| free * (g / own as f32 + w / other as f32)).collect()
            })
            .collect();
        let slope: f64 =
            found.parts.iter().flatten().zip(direction.iter().flatten()).map(|(g, d)| f64::from(g * d)).sum();
        let step = 0.02;
        moved(&direction, step);
        let above = gradients(&bench.decoder, executor, &micros, Goal::CrossEntropy, dropout, |_| BlockMemory::Keep)
            .expect("above")
            .loss;
        moved(&direction, -2.0 * step);
        let below = gradients(&bench.decoder, executor, &micros, Goal::CrossEntropy, dropout, |_| BlockMemory::Keep)
            .expect("below")
            .loss;
        let measured = (above - below) / f64::from(2.0 * step);
        assert!((measured - slope).abs() < 0.02 * slope.abs(), "{variant:?} {share}: {measured}, not {slope}");
    }
}

/// A model that is its own teacher has nothing to learn; another one is learned from along the slope of the loss.
#[test]
fn a_teacher_is_learned_from() {
    let model = model();
    let all = examples(&model.tokenizer);
    let micros = micros(&all.iter().collect::<Vec<_>>(), 64);
    let mut bench = bench(&model, &recipe(), None);
    let steps = || TapeExecutor::new(context(), Parameters::none());
    let own = Teacher::new(&model.decoder, steps());
    let pass = |teacher: &Teacher<'_>, bench: &mut Bench| {
        let goal = Goal::Distillation(teacher);
        gradients(&bench.decoder, &mut bench.executor, &micros, goal, None, |_| BlockMemory::Keep).expect("gradients")
    };
    let length = |parts: &[Vec<f32>]| parts.iter().flatten().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let plain =
        gradients(&bench.decoder, &mut bench.executor, &micros, Goal::CrossEntropy, None, |_| BlockMemory::Keep);
    let plain = plain.expect("gradients");
    let same = pass(&own, &mut bench);
    assert!(same.loss.abs() < 1e-5 && length(&same.parts) < 1e-3 * length(&plain.parts), "{}", same.loss);
    // Without a share the teacher is not heard.
    let mut silent = Teacher::new(&model.decoder, steps());
    silent.share = 0.0;
    let silent = pass(&silent, &mut bench);
    assert!((silent.loss - plain.loss).abs() < 1e-5, "{} and {}", silent.loss, plain.loss);
    // A student that was moved comes back.
    for top in [None, Some(50)] {
        let mut teacher = Teacher::new(&model.decoder, steps());
        (teacher.share, teacher.temperature, teacher.top) = (0.5, 2.0, top);
        let vars: Vec<candle_core::Var> = bench.executor.parameters().iter().map(|(_, var)| var.clone()).collect();
        let moved = |by: &[Vec<f32>], step: f32| {
            for (var, by) in vars.iter().zip(by) {
                let mut values: Vec<f32> = var.flatten_all().and_then(|v| v.to_vec1()).expect("values");
                values.iter_mut().zip(by).for_each(|(v, d)| *v += step * d);
                let tensor = candle_core::Tensor::from_vec(values, var.shape(), var.device()).expect("a tensor");
                var.set(&tensor).expect("a change");
            }
        };
        let wave: Vec<Vec<f32>> =
            vars.iter().map(|var| (0..var.elem_count()).map(|i| (i as f32 * 0.731).sin()).collect()).collect();
        moved(&wave, 0.02);
        let found = pass(&teacher, &mut bench);
        let slope = length(&found.parts);
        let direction: Vec<Vec<f32>> =
            found.parts.iter().map(|part| part.iter().map(|v| v / slope as f32).collect()).collect();
        let step = 0.02;
        moved(&direction, step);
        let above = pass(&teacher, &mut bench).loss;
        moved(&direction, -2.0 * step);
        let below = pass(&teacher, &mut bench).loss;
        let measured = (above - below) / f64::from(2.0 * step);
        assert!((measured - slope).abs() < 0.03 * slope, "{top:?}: {measured}, not {slope}");
    }
}

#[test]
fn a_magnitudes_gradient_is_the_slope_of_the_loss() {
    let model = model();
    let recipe = Recipe { variant: Variant::Dora, ..recipe() };
    let all = examples(&model.tokenizer);
    let all: Vec<&Example> = all.iter().collect();
    let micros = micros(&all, 64);
    let mut bench = bench(&model, &recipe, None);
    let index =
        (0..bench.executor.parameters().len()).find(|&i| bench.magnitudes.values(i).is_some()).expect("a magnitude");
    let direction: Vec<f32> =
        (0..bench.magnitudes.values(index).expect("it").len()).map(|i| (i as f32 * 0.7).sin()).collect();
    bench.magnitudes.renew(&bench.executor).expect("lengths");
    let mut found =
        gradients(&bench.decoder, &mut bench.executor, &micros, Goal::CrossEntropy, None, |_| BlockMemory::Keep)
            .expect("gradients");
    bench.magnitudes.gradients(&mut found.parts);
    let slope: f64 = found.parts[index].iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
    let mut at = |step: f32| {
        let values = bench.magnitudes.values_mut(index).expect("it");
        values.iter_mut().zip(&direction).for_each(|(v, d)| *v += step * d);
        bench.magnitudes.renew(&bench.executor).expect("lengths");
        let loss = mean_loss(&bench.decoder, &mut bench.executor, &micros).expect("a loss");
        let values = bench.magnitudes.values_mut(index).expect("it");
        values.iter_mut().zip(&direction).for_each(|(v, d)| *v -= step * d);
        loss
    };
    let step = 0.02;
    let measured = (at(step) - at(-step)) / f64::from(2.0 * step);
    assert!((measured - slope).abs() < 0.02 * slope.abs(), "{measured}, by the gradient {slope}");
}

/// As many blocks keep their activations as there is room for; what they keep changes no number.
#[test]
fn blocks_keep_what_fits() {
    let model = model();
    let blocks = model.decoder.stack.blocks.len();
    // 10 widths of 576, 4 times 192 numbers of keys, 3 times 1536 of the feed-forward network; of a frozen one a width and
    // its product less.
    assert_eq!(
        kept_bytes(&model.decoder, 0, 512, Tape { full: true, ..Tape::default() }),
        4 * 512 * (5760 + 768 + 4608)
    );
    let one = kept_bytes(&model.decoder, 0, 512, Tape::default());
    assert_eq!(one, 4 * 512 * (5184 + 768 + 3072));
    // With dropout each of three pairs has its input once more, and its projection's result and its own beside their sum.
    let pairs = bench(&model, &recipe(), None).decoder;
    let dropped = kept_bytes(&pairs, 0, 512, Tape { dropout: true, ..Tape::default() });
    let outputs = 576 + 192 + 576;
    let inputs = 576 + 576 + 1536;
    assert_eq!(dropped - kept_bytes(&pairs, 0, 512, Tape::default()), 4 * 512 * (2 * outputs + inputs));
    let kept = |recompute, budget| {
        let plan = plan(&model.decoder, recompute, 512, budget, Tape::default());
        plan.iter().filter(|memory| **memory == BlockMemory::Keep).count()
    };
    assert_eq!(kept(Recompute::Auto, u64::MAX), blocks);
    assert_eq!(kept(Recompute::Auto, 7 * one + one / 2), 7);
    assert_eq!((kept(Recompute::Auto, 0), kept(Recompute::None, 0), kept(Recompute::All, u64::MAX)), (0, blocks, 0));
}

#[test]
fn a_rank_beyond_the_matrix_is_refused() {
    let model = model();
    let base = Base::new(&model.source, &model.decoder).expect("a base");
    let sites = targets(&base, &["k_proj"]).expect("targets");
    let recipe = Recipe { rank: 193, ..recipe() };
    let error = fresh(&context(), &base, &model.decoder, &sites, &recipe).expect_err("a refusal");
    assert!(matches!(error, Error::Recipe(_)));
    assert!(error.to_string().contains("192 x 576") && error.to_string().contains("rank 193"), "{error}");
}

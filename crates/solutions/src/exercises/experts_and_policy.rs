//! I.7.4 and I.7.5: routing among experts, and how tightly a policy is held to its reference.

use porism_models::steps::top_k;
use porism_ops::linear;
use porism_plan::units::count;
use porism_plan::{Experts, parameters, presets};
use porism_report::plot::{Axis, Plot, Series};

use crate::number::{percent, show};
use crate::policy::{best, divergence, expected};
use crate::random::Random;
use crate::solution::Step;
use crate::tape::{constant, context, numbers};
use crate::{Error, Exercise, Result, Setting, Settings, Solution};

pub(crate) static EXERCISE: Exercise = Exercise {
    section: "I.7.4",
    chapter: "Part I, Modern LLMs",
    title: "Mixtures of experts and RLHF: what is active, what beta does (7.4-7.5)",
    settings: &[
        Setting::whole("experts", "experts of a layer", 64.0, 1.0, 1024.0),
        Setting::whole("top", "experts that work on a token", 2.0, 1.0, 64.0),
        Setting::whole("tokens", "tokens that are routed together", 64.0, 1.0, 4096.0),
        Setting::real("beta", "the price of a nat of divergence", 1.0, 0.0, 1e6),
        Setting::whole("seed", "of the tokens and the router", 1.0, 0.0, 1e6),
    ],
    solve,
};

/// An answer that a policy may give: how often the reference does, what the reward model says, what it is worth.
struct Answer {
    name: &'static str,
    reference: f64,
    reward: f64,
    worth: f64,
}

/// A reward model with a flaw: it likes flattery and loves its own favourite phrase.
const ANSWERS: [Answer; 5] = [
    Answer { name: "clear and right", reference: 0.25, reward: 1.0, worth: 1.0 },
    Answer { name: "rambling", reference: 0.50, reward: 0.2, worth: 0.2 },
    Answer { name: "a refusal", reference: 0.23, reward: 0.0, worth: 0.0 },
    Answer { name: "flattery", reference: 0.015, reward: 1.3, worth: -0.5 },
    Answer { name: "a favourite phrase", reference: 0.005, reward: 2.0, worth: -1.0 },
];

fn column(of: impl Fn(&Answer) -> f64) -> Vec<f64> {
    ANSWERS.iter().map(of).collect()
}

fn solve(settings: &Settings) -> Result<Solution> {
    let (experts, top, tokens) = (settings.count("experts"), settings.count("top"), settings.count("tokens"));
    let (beta, seed) = (settings.get("beta"), settings.count("seed") as u64);
    if top > experts {
        return Err(Error::Together(format!("top={top} of {experts} experts: set top to at most {experts}")));
    }
    let (reference, reward, worth) = (column(|a| a.reference), column(|a| a.reward), column(|a| a.worth));
    let mut solution = Solution::new(figure(&reference, &reward, beta));

    let part = solution
        .part(format!("What share of the parameters works on a token, with the best {top} of {experts} experts?"));
    let active = top as f64 / experts as f64;
    part.add(
        Step::number("active", "of the experts' parameters", format!("{top} / {experts}"), 100.0 * active)
            .shown(percent(active)),
    );
    let routed = route(experts, top, tokens, seed)?;
    let shown: Vec<String> = routed.first.iter().map(|(e, w)| format!("expert {e} x {w:.3}")).collect();
    let weights: Vec<f64> = routed.first.iter().map(|(_, w)| *w).collect();
    part.add(
        Step::numbers("first", "the first token goes to", "softmax over its best scores", &weights)
            .shown(shown.join(" + ")),
    );
    let least = routed.loads.iter().min().copied().unwrap_or(0);
    let most = routed.loads.iter().max().copied().unwrap_or(0);
    let loads = format!("{least} to {most}");
    let mean = (tokens * top) as f64 / experts as f64;
    part.add(
        Step::numbers(
            "loads",
            format!("tokens of an expert, of {tokens}"),
            format!("{tokens} x {top} / {experts} = {} on average", show(mean)),
            &[least as f64, most as f64],
        )
        .shown(loads),
    );
    part.remark("Capacity grows with all experts, the operations of a token with those that it is sent to.");

    let part = solution.part(
        "What does the policy become as beta, the price of straying from the reference, goes from 0 to infinity?",
    );
    let shown = |policy: &[f64]| policy.iter().map(|p| format!("{p:.3}")).collect::<Vec<_>>().join(" ");
    let names: Vec<&str> = ANSWERS.iter().map(|a| a.name).collect();
    part.numbers("reward", "reward, by the reward model", names.join(", "), &reward);
    part.numbers("worth", "what the answers are worth", "the reward model does not know it", &worth);
    let betas = [("0", 0.0), ("0.1", 0.1), ("0.3", 0.3), ("1", 1.0), ("10", 10.0), ("inf", f64::INFINITY)];
    let mut push = |key: &str, name: String, beta: f64| {
        let policy = best(&reference, &reward, beta);
        let (earned, real) = (expected(&policy, &reward), expected(&policy, &worth));
        let work = format!("reward {earned:.2}, worth {real:.2}, KL {:.2}", divergence(&policy, &reference));
        part.add(Step::numbers(&format!("policy_{key}"), name, work, &policy).shown(shown(&policy)));
    };
    for (key, value) in betas {
        push(key, format!("beta = {key}"), value);
    }
    push("set", format!("beta as set, {}", show(beta)), beta);
    let grid: Vec<f64> = (-200..=300).map(|i| 10f64.powf(f64::from(i) / 100.0)).collect();
    let at = |beta: f64| expected(&best(&reference, &reward, beta), &worth);
    let good = grid.iter().copied().max_by(|a, b| at(*a).total_cmp(&at(*b))).unwrap_or(1.0);
    part.number("best_beta", "the beta whose answers are worth most", "searched from 0.01 to 1000", good);
    part.number("best_worth", "what they are worth", "", at(good));
    part.remark(
        "pi = reference x e^(reward / beta) / Z. At 0 the policy says what the reward model likes best, flaw and all; \
         at infinity it is the reference and nothing was learnt.",
    );

    let part = solution.part("Why does a model that predicts the next token need RLHF?");
    part.number(
        "reference_worth",
        "worth of the reference's answers",
        "beta = inf: what the text says",
        at(f64::INFINITY),
    );
    part.number("aligned_worth", "worth at the best beta", "what is preferred", at(good));
    part.remark(
        "Pretraining makes likely text, good and bad alike; a preference shifts weight among answers that the model \
         already has. It adds none: an answer that the reference never gives stays at 0 for every beta.",
    );

    experts_errata(&mut solution, experts, top, &routed)?;
    Ok(solution)
}

/// Where tokens go.
struct Routed {
    /// The first token's experts and their weights.
    first: Vec<(u32, f64)>,
    /// How many tokens each expert gets.
    loads: Vec<usize>,
}

/// Routes random tokens through a random router: scores by our own product, the best of them, softmax over these.
fn route(experts: usize, top: usize, tokens: usize, seed: u64) -> Result<Routed> {
    const WIDTH: usize = 32;
    let mut random = Random::new(seed);
    let mut matrix = |rows: usize| {
        let values: Vec<f64> = (0..rows * WIDTH).map(|_| random.normal()).collect();
        constant(rows, &values)
    };
    let (router, x) = (matrix(experts)?, matrix(tokens)?);
    let scores: Vec<f32> =
        numbers(&linear(&context(), &x, &router)?)?.into_iter().map(|s| (s / (WIDTH as f64).sqrt()) as f32).collect();
    let mut routed = Routed { first: Vec::new(), loads: vec![0; experts] };
    for (token, row) in scores.chunks(experts).enumerate() {
        let chosen = top_k(row, top);
        chosen.iter().for_each(|(expert, _)| routed.loads[*expert as usize] += 1);
        if token == 0 {
            let sum: f64 = chosen.iter().map(|(_, s)| f64::from(s - chosen[0].1).exp()).sum();
            routed.first = chosen.iter().map(|(e, s)| (*e, f64::from(s - chosen[0].1).exp() / sum)).collect();
        }
    }
    Ok(routed)
}

fn experts_errata(solution: &mut Solution, experts: usize, top: usize, routed: &Routed) -> Result<()> {
    // Mixtral's layers with as many experts, each as much smaller, so that all of them together stay as large.
    let mixtral = presets::find("mixtral-8x7b")?;
    let mut steps = Vec::new();
    if let Some(own) = mixtral.experts {
        let width = (own.width * own.count / experts as u64).max(1);
        let changed = Experts { count: experts as u64, used: top as u64, width, ..own };
        for (key, model) in [
            ("mixtral", mixtral.clone()),
            ("changed", porism_plan::Dimensions { experts: Some(changed), ..mixtral.clone() }),
        ] {
            let (all, active) = (parameters::total(&model)?, parameters::active(&model)?);
            let share = active.real() / all.real();
            let (of, used) = model.experts.map_or((0, 0), |e| (e.count, e.used));
            let what = format!("Mixtral 8x7B with {used} of {of} experts");
            let work = format!("{} / {} of all parameters", count(active), count(all));
            steps.push(Step::number(&format!("active_{key}"), what, work, 100.0 * share).shown(percent(share)));
        }
    }
    let right = "top / experts is the share of the experts' parameters. Attention, embeddings, the head and the \
                 router work on every token.";
    solution.erratum(
        format!("{} \"of parameters\" are active a token", percent(top as f64 / experts as f64)),
        right,
        steps,
    );
    let touched = routed.loads.iter().filter(|load| **load > 0).count() as f64 / experts as f64;
    let tokens: usize = routed.loads.iter().sum::<usize>() / top.max(1);
    let steps = vec![
        Step::number("touched", format!("experts used by {tokens} tokens together"), "counted", 100.0 * touched)
            .shown(percent(touched)),
    ];
    let right = "One token alone reads so few. The tokens of a batch or a prompt choose different experts, so that \
                 nearly all are read; and all have to be in memory, since nobody knows the next token's.";
    solution.erratum("a forward pass \"only needs to load\" the chosen experts", right, steps);
    Ok(())
}

fn figure(reference: &[f64], reward: &[f64], beta: f64) -> Plot {
    let grid: Vec<f64> = (-60..=60).map(|i| 10f64.powf(f64::from(i) / 30.0)).collect();
    let policies: Vec<Vec<f64>> = grid.iter().map(|&b| best(reference, reward, b)).collect();
    let mut plot =
        Plot::new("What the best policy answers", Axis::log("beta"), Axis::linear("probability of the answer"));
    for (i, answer) in ANSWERS.iter().enumerate() {
        let points = grid.iter().zip(&policies).map(|(&b, p)| [b, p[i]]).collect();
        plot.series.push(Series::line(answer.name, points));
    }
    if (0.01..=100.0).contains(&beta) {
        let policy = best(reference, reward, beta);
        plot.series.push(Series::points("beta as set", policy.iter().map(|&p| [beta, p]).collect()).coloured(6));
    }
    plot
}

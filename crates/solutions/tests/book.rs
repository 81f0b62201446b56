//! The numbers that the book prints in its solutions, each held to the value that is computed, to the digits printed.

use porism_solutions::{Solution, Value, find};

fn solved(section: &str, set: &[&str]) -> Solution {
    let exercise = find(section).expect("an exercise");
    let mut settings = exercise.defaults();
    set.iter().for_each(|text| settings.set(text).expect("a setting"));
    exercise.solve(&settings).expect("a solution")
}

fn value(solution: &Solution, key: &str) -> f64 {
    match &solution.find(key).unwrap_or_else(|| panic!("no step {key}")).value {
        Value::Number(x) => *x,
        Value::Numbers(xs) => panic!("{key} is {xs:?}"),
    }
}

fn values(solution: &Solution, key: &str) -> Vec<f64> {
    match &solution.find(key).unwrap_or_else(|| panic!("no step {key}")).value {
        Value::Numbers(xs) => xs.clone(),
        Value::Number(x) => vec![*x],
    }
}

/// Whether a value is what the book prints: within half a unit of the last digit printed (and the rounding of f64).
fn printed(value: f64, text: &str) {
    let number: f64 = text.parse().expect("a number");
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let decimals = digits.split_once('.').map_or(0, |(_, d)| d.len());
    let unit = 10f64.powi(exponent.parse::<i32>().expect("an exponent") - decimals as i32);
    assert!((value - number).abs() <= 0.5 * unit + 1e-12 * number.abs(), "{value} is not printed as {text}");
}

fn holds(solution: &Solution, table: &[(&str, &str)]) {
    table.iter().for_each(|(key, text)| printed(value(solution, key), text));
}

#[test]
fn linear_algebra() {
    let solution = solved("I.1.1", &[]);
    holds(
        &solution,
        &[
            ("score1", "0.0"),
            ("score2", "-4.5"),
            ("product", "14"),
            ("length1", "4.47"),
            ("length2", "5.10"),
            ("cosine", "0.614"),
            ("degrees", "52"),
        ],
    );
    // sqrt(20) and sqrt(26).
    assert!((value(&solution, "length1").powi(2) - 20.0).abs() < 1e-12);
    assert!((value(&solution, "length2").powi(2) - 26.0).abs() < 1e-12);
    // A score of 0 is a right angle, not an alignment.
    printed(value(&solution, "w_angle1"), "90");
}

#[test]
fn optimization() {
    holds(
        &solved("I.1.3", &[]),
        &[
            ("gradient0", "-6"),
            ("theta1", "0.6"),
            ("gradient1", "-4.8"),
            ("theta2", "1.08"),
            ("gradient2", "-3.84"),
            ("theta3", "1.464"),
        ],
    );
    // y (1 - y) x, by differences and by the tape.
    for set in [&[][..], &["w=-2", "x=0.5", "b=0.3"], &["x=-3"]] {
        let solution = solved("I.1.3", set);
        let (y, slope) = (value(&solution, "y"), value(&solution, "dy_dw"));
        assert!(y > 0.0 && y < 1.0);
        assert!((slope - value(&solution, "dy_dw_ratio")).abs() < 1e-7);
        assert!((slope - value(&solution, "dy_dw_tape")).abs() < 1e-6);
    }
}

#[test]
fn logistic_regression() {
    let solution = solved("I.2.2", &[]);
    holds(
        &solution,
        &[("z", "0.0"), ("p", "0.5"), ("loss", "0.693"), ("gradient_free", "-0.5"), ("new_w_free", "2.05")],
    );
    assert!((value(&solution, "loss") - std::f64::consts::LN_2).abs() < 1e-15);
    assert!(value(&solution, "new_p") > 0.5, "it is more inclined to say spam");
    // ln 2 is not the largest loss.
    printed(value(&solution, "loss_0.01"), "4.6");
    let wrong = solved("I.2.2", &["spam=0", "w_free=20"]);
    assert!(value(&wrong, "loss") > 10.0);
}

/// All eleven, which come from an output rounded to two decimals.
#[test]
fn backpropagation() {
    let solution = solved("I.3.3", &[]);
    holds(&solution, &[("a1_1", "0.25"), ("a1_2", "0.40"), ("a2", "0.59")]);
    holds(
        &solution,
        &[
            ("delta2", "-0.41"),
            ("dw2_1", "-0.1025"),
            ("dw2_2", "-0.164"),
            ("delta1_1", "-0.205"),
            ("delta1_2", "-0.246"),
            ("w2_1", "0.5103"),
            ("w2_2", "0.6164"),
            ("w1_11", "0.1205"),
            ("w1_12", "0.3103"),
            ("w1_21", "0.2246"),
            ("w1_22", "0.4123"),
        ],
    );
    assert!(value(&solution, "a2_after") > value(&solution, "a2_exact"), "the output is pushed towards 1");
    assert!(value(&solution, "tape_difference") < 1e-7);
    assert!(value(&solution, "trained_difference") < 1e-5);
    // Without rounding the fourth decimal is another.
    let exact = solved("I.3.3", &["decimals=15"]);
    printed(value(&exact, "dw2_1"), "-0.1024");
    assert!(
        value(&exact, "delta2") != -0.41 && exact.find("rounding").is_none_or(|_| value(&exact, "rounding") < 1e-14)
    );
}

#[test]
fn lstm_gates() {
    let solution = solved("I.4.2", &[]);
    // The memory passes through to the bit, or is replaced to the bit.
    assert_eq!(value(&solution, "kept_from_before"), 0.0);
    assert_eq!(values(&solution, "kept_after"), values(&solution, "kept_before"));
    assert_eq!(value(&solution, "swapped_from_candidate"), 0.0);
    assert!(value(&solution, "swapped_from_before") > 0.1);
    // The derivative is the forget gate.
    assert!(values(&solution, "slopes_added").iter().all(|slope| *slope == 1.0));
    assert_eq!(value(&solution, "left_added"), 1.0);
    assert!((value(&solution, "left_leaking") / 0.9f64.powi(50) - 1.0).abs() < 1e-5);
    assert!(value(&solution, "left_multiplied") < 1e-4);
    let half = solved("I.4.2", &["forget=0.5", "input=1"]);
    assert!(values(&half, "slopes_added").iter().all(|slope| *slope == 0.5));
    // But not the whole of it.
    assert!(value(&solution, "free_difference") > 0.01);
}

#[test]
fn embeddings() {
    let solution = solved("I.5.1", &[]);
    assert!(solution.find("analogy").expect("a step").shown.starts_with("queen "), "{:?}", solution.find("analogy"));
    assert!(value(&solution, "direction") > 0.8, "queen - king is woman - man");
    assert!(value(&solution, "crossed").abs() < 0.4, "and not king - man");
    assert!(value(&solution, "loss_last") < value(&solution, "loss_first"));
    // No word is near itself in the text, which two matrices can learn and one cannot.
    assert_eq!(value(&solution, "pairs_king"), 0.0);
    assert!(value(&solution, "self_king") < 0.0 && value(&solution, "probable_king") < 0.1);
    assert!(value(&solution, "self_king_tied") >= 0.0 && value(&solution, "probable_king_tied") >= 0.5);
    assert!(value(&solution, "negative") > 0.0);
    assert_eq!(value(&solution, "negative_tied"), 0.0);
    assert!(value(&solution, "lowest_tied") >= 0.0);
    assert!(value(&solution, "loss_tied") > value(&solution, "loss_last"));
    // Nor by luck of one seed.
    for seed in ["seed=2", "seed=3"] {
        let again = solved("I.5.1", &[seed]);
        assert!(value(&again, "analogies") > 0.9 && value(&again, "self_king") < 0.0, "{seed}");
    }
}

#[test]
fn transformers() {
    let solution = solved("I.6.4", &[]);
    holds(&solution, &[("d_k", "64")]);
    assert_eq!(values(&solution, "shape"), [256.0, 64.0]);
    for row in 0..4 {
        let weights = values(&solution, &format!("row{row}"));
        assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        assert!(weights.iter().enumerate().all(|(j, w)| if j <= row { *w > 0.0 } else { *w == 0.0 }), "{weights:?}");
    }
    assert_eq!(values(&solution, "row0"), [1.0, 0.0, 0.0, 0.0]);
    assert!(value(&solution, "attention_difference") < 1e-6);
    // 96 layers.
    assert!(value(&solution, "without_identity") < 1e-20 && value(&solution, "with_identity") > 1.0);
    // The identity alone guarantees nothing.
    assert!((value(&solution, "halved") / 0.5f64.powi(96) - 1.0).abs() < 1e-4);
    // Heads of fewer features than there are tokens.
    let narrow = solved("I.6.4", &["width=6", "heads=2", "tokens=8"]);
    assert!(value(&narrow, "attention_difference") < 1e-6);
}

#[test]
fn experts_and_policy() {
    let solution = solved("I.7.4", &[]);
    holds(&solution, &[("active", "3.125")]);
    // Of all parameters it is more.
    assert!(value(&solution, "active_changed") > 2.0 * 3.125);
    printed(value(&solution, "active_mixtral"), "27.6");
    assert_eq!(values(&solution, "first").len(), 2);
    assert!((values(&solution, "first").iter().sum::<f64>() - 1.0).abs() < 1e-6);
    assert!(value(&solution, "touched") > 50.0, "64 tokens read far more than 2 of 64 experts");
    // beta = 0: the answer that the reward model likes best, and nothing else; infinity: the reference.
    assert_eq!(values(&solution, "policy_0"), [0.0, 0.0, 0.0, 0.0, 1.0]);
    assert!((values(&solution, "policy_inf").iter().sum::<f64>() - 1.0).abs() < 1e-12);
    let worth = |key: &str| {
        let worth = values(&solution, "worth");
        values(&solution, key).iter().zip(worth).map(|(p, w)| p * w).sum::<f64>()
    };
    assert!(worth("policy_0") < worth("policy_inf") && worth("policy_inf") < value(&solution, "best_worth"));
}

#[test]
fn efficient_attention() {
    let solution = solved("III.I", &[]);
    printed(value(&solution, "qk_flops"), "2.75e11");
    printed(value(&solution, "matrix_f16"), "2.15e9");
    printed(value(&solution, "layer_matrix_f16"), "69e9");
    printed(value(&solution, "window_share"), "12.5");
    assert!(value(&solution, "tile_difference") < 1e-5);
    assert!(value(&solution, "causal_share_of_window") > 12.5);
}

#[test]
fn training_pipeline() {
    let solution = solved("III.IV", &[]);
    printed(value(&solution, "estimate"), "6.44e9");
    printed(value(&solution, "llama"), "6.7e9");
    printed(value(&solution, "steps"), "500000");
    printed(value(&solution, "fp16_largest"), "65504");
    printed(value(&solution, "fp16_subnormal"), "6e-8");
    printed(value(&solution, "bf16_largest"), "3.4e38");
    // 2^-10 and 2^-7: 10 and 7 mantissa bits; the smallest of full precision have 5 and 8 exponent bits.
    assert_eq!(value(&solution, "fp16_step"), 2f64.powi(-10));
    assert_eq!(value(&solution, "bf16_step"), 2f64.powi(-7));
    assert_eq!(value(&solution, "fp16_normal"), 2f64.powi(-14));
    assert_eq!(value(&solution, "bf16_normal"), f64::from(f32::MIN_POSITIVE));
    printed(value(&solution, "bf16_normal"), "1e-38");
    // Underflow, overflow, and what survives in bf16.
    assert_eq!(value(&solution, "fp16_gradient"), 0.0);
    printed(value(&solution, "bf16_gradient"), "1.0e-8");
    assert_eq!(value(&solution, "fp16_70000"), f64::INFINITY);
    assert!(value(&solution, "bf16_70000").is_finite());
    // Errata: subnormals, infinity before NaN, sums in bf16, days.
    assert_eq!(value(&solution, "fp16_of_4e-8"), 2f64.powi(-24));
    assert_eq!(value(&solution, "fp16_of_2e-8"), 0.0);
    assert_eq!(value(&solution, "overflow"), f64::INFINITY);
    assert!(value(&solution, "overflow_difference").is_nan());
    assert_eq!(value(&solution, "sum_bf16"), 0.5);
    assert!((value(&solution, "sum_fp16") - 1.0).abs() < 0.05);
    assert!(value(&solution, "days") < 10.0 && value(&solution, "published_days") < 10.0);
}

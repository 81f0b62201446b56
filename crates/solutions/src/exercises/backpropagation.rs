//! I.3.3: backpropagation through two layers, on paper and by the tape.

use porism_report::plot::{Axis, Plot, Series};

use crate::mlp::{Mlp, train, train_by_tape};
use crate::number::{list, operand, show};
use crate::solution::Step;
use crate::tape::largest_difference;
use crate::{Exercise, Result, Setting, Settings, Solution};

pub(crate) static EXERCISE: Exercise = Exercise {
    section: "I.3.3",
    chapter: "Part I, Neural Networks",
    title: "Backpropagation: eleven numbers by hand, the same by the tape",
    settings: &[
        Setting::real("lr", "the step size", 0.1, 0.0, 100.0),
        Setting::whole("y", "the right answer", 1.0, 0.0, 1.0),
        Setting::real("x1", "the first input", 1.0, -100.0, 100.0),
        Setting::real("x2", "the second input", 0.5, -100.0, 100.0),
        Setting::whole("decimals", "decimals that activations are rounded to on paper", 2.0, 0.0, 15.0),
        Setting::whole("updates", "updates in the figure", 100.0, 1.0, 1000.0),
    ],
    solve,
};

/// The network of the book's forward pass.
fn network() -> Mlp {
    Mlp { first: vec![vec![0.1, 0.3], vec![0.2, 0.4]], second: vec![0.5, 0.6] }
}

fn solve(settings: &Settings) -> Result<Solution> {
    let (lr, yes, x) = (settings.get("lr"), settings.get("y") == 1.0, [settings.get("x1"), settings.get("x2")]);
    let (decimals, updates, y) = (settings.count("decimals") as i32, settings.count("updates"), settings.get("y"));
    let mlp = network();
    let (losses, trained) = train(&mlp, &x, yes, lr, updates);
    let points: Vec<[f64; 2]> = losses.iter().enumerate().map(|(i, &l)| [i as f64, l]).collect();
    let figure =
        Plot::new("Loss of the network, update by update", Axis::linear("updates"), Axis::linear("loss, nats"))
            .with(Series::line("loss", points));
    let mut solution = Solution::new(figure);

    let forward = mlp.forward(&x, Some(decimals));
    let back = mlp.backward(&x, &forward, yes);
    let exact = mlp.forward(&x, None);
    let exact_back = mlp.backward(&x, &exact, yes);
    let (a1, a2, d2, d1) = (&forward.a1, forward.a2, back.delta2, &back.delta1);

    let part = solution.part("What is the error of the output, its logit's gradient?");
    for (i, row) in mlp.first.iter().enumerate() {
        let work = format!("relu({} x {} + {} x {})", show(row[0]), operand(x[0]), show(row[1]), operand(x[1]));
        part.number(&format!("a1_{}", i + 1), format!("a1[{}], forward", i + 1), work, a1[i]);
    }
    let w = &mlp.second;
    let work = format!(
        "sigmoid({} x {} + {} x {}) = {}",
        show(w[0]),
        operand(a1[0]),
        show(w[1]),
        operand(a1[1]),
        show(exact.a2)
    );
    part.number("a2", "a2, forward, rounded", work, a2);
    part.number("delta2", "delta2 = a2 - y", format!("{} - {}", show(a2), show(y)), d2);

    let part = solution.part("What are the gradients of the second layer's weights?");
    for (i, gradient) in back.weights.second.iter().enumerate() {
        let work = format!("{} x {}", operand(d2), operand(a1[i]));
        part.number(&format!("dw2_{}", i + 1), format!("dL/dw2[{}] = delta2 a1[{}]", i + 1, i + 1), work, *gradient);
    }

    let part = solution.part("What is the error of the hidden layer?");
    for (i, delta) in d1.iter().enumerate() {
        let open = if forward.z1[i] > 0.0 { "1" } else { "0" };
        let work = format!("{} x {} x {open}", show(w[i]), operand(d2));
        part.number(
            &format!("delta1_{}", i + 1),
            format!("delta1[{}] = w2[{}] delta2 relu'(z1)", i + 1, i + 1),
            work,
            *delta,
        );
    }

    let part = solution.part(format!("What are the weights after a step of size {}?", show(lr)));
    let next = mlp.step(&back.weights, lr);
    for (i, weight) in w.iter().enumerate() {
        let work = format!("{} - {} x {}", show(*weight), show(lr), operand(back.weights.second[i]));
        part.number(&format!("w2_{}", i + 1), format!("w2[{}]", i + 1), work, next.second[i]);
    }
    for (i, row) in mlp.first.iter().enumerate() {
        for (j, weight) in row.iter().enumerate() {
            let work = format!("{} - {} x {} x {}", show(*weight), show(lr), operand(d1[i]), operand(x[j]));
            part.number(&format!("w1_{}{}", i + 1, j + 1), format!("W1[{}{}]", i + 1, j + 1), work, next.first[i][j]);
        }
    }
    let after = next.forward(&x, None).a2;
    part.number("a2_after", "a2 with the new weights", "forward again, not rounded", after);

    let part = solution.part("Does the tape say the same? (ours)");
    let taped = mlp.gradient_by_tape(&x, yes)?;
    part.numbers("tape_second", "dL/dw2 by the tape", "linear, relu, linear, cross-entropy", &taped.second);
    part.numbers(
        "exact_second",
        "by hand, not rounded",
        format!("{} x {}", operand(exact_back.delta2), list(&exact.a1)),
        &exact_back.weights.second,
    );
    part.numbers("tape_first", "dL/dW1 by the tape", "", &taped.first.concat());
    part.numbers("exact_first", "by hand, not rounded", "", &exact_back.weights.first.concat());
    let off = largest_difference(&taped.flat(), &exact_back.weights.flat());
    part.number("tape_difference", "largest difference", "the tape has 24 bits", off);
    let off = largest_difference(&train_by_tape(&mlp, &x, yes, lr, updates)?.flat(), &trained.flat());
    part.number("trained_difference", format!("of the weights after {updates} updates"), "", off);
    part.number(
        "loss_before",
        "loss at first",
        format!("-ln {}", show(if yes { exact.a2 } else { 1.0 - exact.a2 })),
        losses[0],
    );
    part.number("loss_after", format!("loss after {updates} updates"), "", losses[updates]);

    let rounding = largest_difference(&back.weights.flat(), &exact_back.weights.flat());
    if rounding > 0.0 {
        let right = format!(
            "They are computed from an output rounded to {decimals} decimals, so gradients are off in the {}. In code \
             nothing is rounded; set decimals=15 to see these numbers.",
            if decimals == 2 { "fourth decimal" } else { "digits behind" }
        );
        let steps = vec![
            Step::number("a2_exact", "a2, not rounded", format!("sigmoid({})", show(exact.z2)), exact.a2),
            Step::number(
                "dw2_1_exact",
                "dL/dw2[1], not rounded",
                format!("{} x {}", operand(exact_back.delta2), show(exact.a1[0])),
                exact_back.weights.second[0],
            ),
            Step::number("rounding", "largest error of a gradient", "", rounding),
        ];
        solution.erratum("the gradients are given to four decimals", right, steps);
    }
    Ok(solution)
}

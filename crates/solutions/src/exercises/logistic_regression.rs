//! I.2.2: a spam filter of two words.

use porism_report::plot::{Axis, Plot, Series};

use crate::logistic::{Logistic, loss, sigmoid};
use crate::number::{operand, show};
use crate::solution::Step;
use crate::tape::largest_difference;
use crate::{Exercise, Result, Setting, Settings, Solution};

pub(crate) static EXERCISE: Exercise = Exercise {
    section: "I.2.2",
    chapter: "Part I, Core Machine Learning",
    title: "Logistic regression: a spam filter and its update",
    settings: &[
        Setting::real("w_free", "the weight of `free`", 2.0, -50.0, 50.0),
        Setting::real("w_meeting", "the weight of `meeting`", -1.5, -50.0, 50.0),
        Setting::real("b", "the bias", -0.5, -50.0, 50.0),
        Setting::real("free", "how often `free` occurs", 1.0, 0.0, 100.0),
        Setting::real("meeting", "how often `meeting` occurs", 1.0, 0.0, 100.0),
        Setting::whole("spam", "whether the message is spam", 1.0, 0.0, 1.0),
        Setting::real("lr", "the step size", 0.1, 0.0, 100.0),
    ],
    solve,
};

fn solve(settings: &Settings) -> Result<Solution> {
    let get = |name| settings.get(name);
    let model = Logistic { weights: vec![get("w_free"), get("w_meeting")], bias: get("b") };
    let (x, spam, lr) = ([get("free"), get("meeting")], get("spam") == 1.0, get("lr"));
    let (z, answer) = (model.logit(&x), if spam { 1.0 } else { 0.0 });
    let p = sigmoid(z);
    let mut solution = Solution::new(figure(p, spam));

    let part = solution.part("How likely does the filter take a message with these words for spam?");
    let w = &model.weights;
    let work =
        format!("{} x {} + {} x {} + {}", show(w[0]), show(x[0]), operand(w[1]), show(x[1]), operand(model.bias));
    part.number("z", "z = w_free x_free + w_meeting x_meeting + b", work, z);
    part.number("p", "P(spam) = sigmoid(z)", format!("1 / (1 + e^{})", operand(-z)), p);
    if z == 0.0 {
        part.remark("`free` speaks for spam exactly as strongly as `meeting` and the bias speak against it.");
    }

    let class = if spam { "spam" } else { "no spam" };
    let part = solution.part(format!("What is the loss, the message being {class}?"));
    let right = if spam { p } else { 1.0 - p };
    part.number("loss", "-ln P(the right answer)", format!("-ln {}", show(right)), loss(z, spam));

    let part =
        solution.part(format!("What does one step of gradient descent with a step size of {} change?", show(lr)));
    let gradient = model.gradient(&x, spam);
    let next = model.step(&gradient, lr);
    part.number("error", "error, p - y", format!("{} - {}", show(p), show(answer)), gradient.bias);
    let rows = [("free", 0), ("meeting", 1)];
    for (name, i) in rows {
        let work = format!("{} x {}", operand(gradient.bias), show(x[i]));
        part.number(&format!("gradient_{name}"), format!("dL/dw_{name} = (p - y) x_{name}"), work, gradient.weights[i]);
    }
    let by_tape = model.gradient_by_tape(&x, spam)?;
    let off = largest_difference(
        &[&gradient.weights[..], &[gradient.bias]].concat(),
        &[&by_tape.weights[..], &[by_tape.bias]].concat(),
    );
    part.number(
        "tape_difference",
        "the tape's gradients differ by at most",
        "linear, add, cross-entropy, backward",
        off,
    );
    for (name, i) in rows {
        let work = format!("{} - {} x {}", show(w[i]), show(lr), operand(gradient.weights[i]));
        part.number(&format!("new_w_{name}"), format!("w_{name} afterwards"), work, next.weights[i]);
    }
    let work = format!("{} - {} x {}", show(model.bias), show(lr), operand(gradient.bias));
    part.number("new_b", "b afterwards", work, next.bias);
    part.number("new_p", "P(spam) afterwards", "the same message again", sigmoid(next.logit(&x)));
    part.number("new_loss", "loss afterwards", "", loss(next.logit(&x), spam));
    part.remark(
        "The step moves every weight whose word occurs, towards the right answer; the book follows w_free alone.",
    );

    let logit = |p: f64| (p / (1.0 - p)).ln();
    let worse = [0.25, 0.1, 0.01].map(|p| loss(logit(p), true));
    let mut steps = vec![Step::number("loss_half", "loss at p = 0.5", "-ln 0.5", loss(0.0, true))];
    for (p, loss) in [0.25, 0.1, 0.01].into_iter().zip(worse) {
        steps.push(Step::number(&format!("loss_{p}"), format!("loss at p = {p}"), format!("-ln {p}"), loss));
    }
    let right = "ln 2 is the loss of a model that is undecided between two answers. One that is sure of the wrong \
                 answer loses more, without bound: -ln p grows beyond everything as p goes to 0. It is the entropy of \
                 a yes-or-no answer that ln 2 is the maximum of.";
    solution.erratum("ln 2 is \"the maximum possible loss for a single example\"", right, steps);
    Ok(solution)
}

fn figure(p: f64, spam: bool) -> Plot {
    let ps = (1..200).map(|i| f64::from(i) / 200.0);
    let at = |p: f64| -(if spam { p } else { 1.0 - p }).ln();
    let class = if spam { "spam" } else { "no spam" };
    let mut plot =
        Plot::new(format!("Loss of a message that is {class}"), Axis::linear("P(spam)"), Axis::linear("loss, nats"))
            .with(Series::line("-ln P(the right answer)", ps.map(|p| [p, at(p)]).collect()).coloured(0))
            .with(Series::line("ln 2", [0.0, 1.0].map(|x| [x, std::f64::consts::LN_2]).to_vec()).dashed().coloured(6));
    if (0.005..=0.995).contains(&p) {
        let label = format!("p = {}", show((p * 1000.0).round() / 1000.0));
        plot.series.push(Series::points("the model", vec![[p, at(p)]]).labelled(vec![label]).coloured(1));
    }
    plot
}

//! I.1.3: gradient descent on a parabola, and the chain rule through a sigmoid.

use porism_kernels::activation::Activation;
use porism_ops::{act, add_columns, linear};
use porism_report::plot::{Axis, Plot, Series};

use crate::logistic::sigmoid;
use crate::number::{operand, show};
use crate::tape::{constant, context, gradient, variable};
use crate::{Exercise, Result, Setting, Settings, Solution};

pub(crate) static EXERCISE: Exercise = Exercise {
    section: "I.1.3",
    chapter: "Part I, Mathematical Foundations",
    title: "Optimization: gradient descent, the chain rule",
    settings: &[
        Setting::real("lr", "the step size", 0.1, 0.0, 1.5),
        Setting::real("start", "where theta begins", 0.0, -1000.0, 1000.0),
        Setting::whole("steps", "updates", 3.0, 1.0, 50.0),
        Setting::real("w", "the weight in (b)", 1.0, -20.0, 20.0),
        Setting::real("x", "the input in (b)", 2.0, -20.0, 20.0),
        Setting::real("b", "the bias in (b)", -1.0, -20.0, 20.0),
    ],
    solve,
};

/// Where the parabola (theta - 3)^2 is lowest.
const MINIMUM: f64 = 3.0;
/// Updates in the figure at least.
const DRAWN: usize = 25;

/// theta after each update.
fn descend(start: f64, lr: f64, steps: usize) -> Vec<f64> {
    let update = |theta: &f64| Some(theta - lr * 2.0 * (theta - MINIMUM));
    std::iter::successors(Some(start), update).take(steps + 1).collect()
}

fn solve(settings: &Settings) -> Result<Solution> {
    let (lr, start, steps) = (settings.get("lr"), settings.get("start"), settings.count("steps"));
    let path = descend(start, lr, steps.max(DRAWN));
    let points: Vec<[f64; 2]> = path.iter().enumerate().map(|(i, &theta)| [i as f64, theta]).collect();
    let last = (path.len() - 1) as f64;
    let figure = Plot::new("Gradient descent on (theta - 3)^2", Axis::linear("updates"), Axis::linear("theta"))
        .with(Series::trace("theta", points))
        .with(Series::line("the minimum", vec![[0.0, MINIMUM], [last, MINIMUM]]).dashed().coloured(6));
    let mut solution = Solution::new(figure);

    let part = solution.part(format!(
        "Take {steps} steps of gradient descent on f(theta) = (theta - 3)^2 from theta = {} with a step size of {}.",
        show(start),
        show(lr)
    ));
    for (i, pair) in path.windows(2).take(steps).enumerate() {
        let (now, next) = (pair[0], pair[1]);
        let slope = 2.0 * (now - MINIMUM);
        part.number(
            &format!("gradient{i}"),
            format!("gradient at theta {i}"),
            format!("2 x ({} - 3)", show(now)),
            slope,
        );
        let work = format!("{} - {} x {}", show(now), show(lr), operand(slope));
        part.number(&format!("theta{}", i + 1), format!("theta {}", i + 1), work, next);
    }
    let factor = 1.0 - 2.0 * lr;
    part.number("factor", "distance to 3, after : before", format!("1 - 2 x {}", show(lr)), factor);
    part.remark(match factor.abs() {
        0.0 => "Each step lands on the minimum: 0.5 is one over the second derivative.".to_string(),
        f if f < 1.0 && factor > 0.0 => {
            format!("Each step leaves {} of the distance: it comes closer and never passes 3.", show(f))
        }
        f if f < 1.0 => format!("Each step passes 3 and ends at {} of the distance, on the other side.", show(f)),
        1.0 => "The distance stays the same: theta never arrives.".to_string(),
        f => format!(
            "Each step makes the distance {} times as large: it diverges. A step size has to be below 1.",
            show(f)
        ),
    });

    let (w, x, b) = (settings.get("w"), settings.get("x"), settings.get("b"));
    let part = solution.part("How does y = sigmoid(w x + b) change with w?");
    let z = w * x + b;
    let y = sigmoid(z);
    part.number("z", "z = w x + b", format!("{} x {} + {}", show(w), operand(x), operand(b)), z);
    part.number("y", "y = sigmoid(z)", format!("1 / (1 + e^{})", operand(-z)), y);
    let slope = y * (1.0 - y) * x;
    let work = format!("{} x (1 - {}) x {}", show(y), show(y), operand(x));
    part.number("dy_dw", "dy/dw = y (1 - y) x", work, slope);
    let h = 1e-4;
    let ratio = (sigmoid((w + h) * x + b) - sigmoid((w - h) * x + b)) / (2.0 * h);
    part.number("dy_dw_ratio", "by differences", format!("(y(w + {h}) - y(w - {h})) / {}", 2.0 * h), ratio);
    part.number("dy_dw_tape", "by the tape", "linear, add, sigmoid, backward", slope_by_tape(w, x, b)?);
    part.remark(
        "The chain rule: the sigmoid's slope y (1 - y), times the slope x of z. Its size is never above |x| / 4.",
    );
    Ok(solution)
}

/// dy/dw as our operations and the tape have it.
fn slope_by_tape(w: f64, x: f64, b: f64) -> Result<f64> {
    let context = context();
    let w = variable(1, &[w])?;
    let z = add_columns(&linear(&context, &constant(1, &[x])?, &w)?, &constant(1, &[b])?)?;
    let gradients = act(&context, Activation::Sigmoid, &z)?.backward()?;
    Ok(gradient(&gradients, &w)?[0])
}

//! I.4.2: what the gates of an LSTM do, and why its memory's gradient lives.

use porism_report::plot::{Axis, Plot, Series};

use crate::lstm::{Lstm, Update, memory_gradients};
use crate::number::show;
use crate::solution::Step;
use crate::tape::largest_difference;
use crate::{Exercise, Result, Setting, Settings, Solution};

pub(crate) static EXERCISE: Exercise = Exercise {
    section: "I.4.2",
    chapter: "Part I, Deep Learning Architectures",
    title: "LSTMs: forced gates, and the gradient of the memory",
    settings: &[
        Setting::real("forget", "the forget gate", 1.0, 0.0, 1.0),
        Setting::real("input", "the input gate", 0.0, 0.0, 1.0),
        Setting::real("leaky", "a forget gate to compare with, in the figure", 0.9, 0.01, 1.0),
        Setting::whole("steps", "steps through time", 50.0, 1.0, 200.0),
        Setting::whole("seed", "of the cell's random weights", 1.0, 0.0, 1e6),
    ],
    solve,
};

fn solve(settings: &Settings) -> Result<Solution> {
    let (forget, input, leaky) = (settings.get("forget"), settings.get("input"), settings.get("leaky"));
    let (steps, seed) = (settings.count("steps"), settings.count("seed") as u64);
    let gradients = |forget: f64, update: Update| memory_gradients(seed, forget, input, update, steps);
    let added = gradients(forget, Update::Added)?;
    let (leaking, multiplied) = (gradients(leaky, Update::Added)?, gradients(1.0, Update::Multiplied)?);
    // A logarithmic axis has no zero, which is where the gradient ends that a closed gate cuts off.
    let series = |name: String, values: &[f64]| {
        let above = values.iter().enumerate().take_while(|(_, v)| **v > 1e-300);
        Series::line(name, above.map(|(t, &v)| [t as f64, v]).collect())
    };
    let axis = Axis::log("of a change of the memory, this is left");
    let figure = Plot::new("How long an LSTM's memory remembers", Axis::linear("steps through time"), axis)
        .with(series("the forget gate as set".into(), &added))
        .with(series(format!("a forget gate of {}", show(leaky)), &leaking))
        .with(series("multiplied by the candidate instead".into(), &multiplied));
    let mut solution = Solution::new(figure);

    let mut cell = Lstm::new(seed)?;
    let part = solution.part("What becomes of the memory c when the gates are forced, and when they are swapped?");
    for (key, forget, input) in [("kept", forget, input), ("swapped", input, forget)] {
        let step = cell.forced(forget, input, Update::Added)?;
        let gates = format!("forget {}, input {}", show(forget), show(input));
        part.numbers(&format!("{key}_before"), format!("c before; {gates}"), "", &step.before);
        part.numbers(&format!("{key}_candidate"), "the candidate g", "tanh(W x + U h + b)", &step.candidate);
        let work = format!("{} c + {} g", show(forget), show(input));
        part.numbers(&format!("{key}_after"), "c afterwards", work, &step.after);
        part.number(
            &format!("{key}_from_before"),
            "  differs from c before by",
            "",
            largest_difference(&step.after, &step.before),
        );
        part.number(
            &format!("{key}_from_candidate"),
            "  differs from g by",
            "",
            largest_difference(&step.after, &step.candidate),
        );
    }
    part.remark(
        "With the forget gate at 1 and the input gate at 0 the memory passes through untouched; swapped, it is \
         replaced.",
    );

    let part = solution.part("Why does an added update keep the gradient alive, where a multiplied one would not?");
    let slopes = cell.forced(forget, input, Update::Added)?.slopes;
    part.numbers("slopes_added", "c after by c before, f c + i g", "by the tape: the forget gate", &slopes);
    let step = cell.forced(1.0, input, Update::Multiplied)?;
    part.numbers("slopes_multiplied", "the same of 1 c g", "by the tape: the candidate", &step.slopes);
    let ends = [("added", &added, forget), ("leaking", &leaking, leaky)];
    for (key, values, gate) in ends {
        let what = format!("left after {steps} steps, forget gate {}", show(gate));
        part.number(&format!("left_{key}"), what, format!("{}^{steps}", show(gate)), values[steps]);
    }
    part.number(
        "left_multiplied",
        format!("left after {steps} steps, multiplied"),
        "product of candidates",
        multiplied[steps],
    );

    let step = Lstm::new(seed)?.free()?;
    let steps = vec![
        Step::numbers("free_forget", "the forget gate f", "sigmoid(W x + U h + b), h = tanh(c)", &step.forget),
        Step::numbers("free_slopes", "c after by c before, in all", "by the tape", &step.slopes),
        Step::number("free_difference", "largest difference", "", largest_difference(&step.forget, &step.slopes)),
    ];
    let right = "That is the path along the memory itself. In a cell that runs, h = o tanh(c) carries the memory into \
                 all gates of the next step, and the whole derivative has these terms too.";
    solution.erratum("the derivative of c by the c before is \"just the forget gate\"", right, steps);
    Ok(solution)
}

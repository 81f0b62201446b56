//! I.1.1: scores, lengths and an angle.

use porism_report::plot::{Axis, Plot, Series};

use crate::number::{list, operand, show};
use crate::solution::Step;
use crate::vector::{cosine, dot, norm};
use crate::{Exercise, Result, Setting, Settings, Solution};

pub(crate) static EXERCISE: Exercise = Exercise {
    section: "I.1.1",
    chapter: "Part I, Mathematical Foundations",
    title: "Linear algebra: scores, lengths, an angle",
    settings: &[
        Setting::real("w1", "first weight", 0.5, -100.0, 100.0),
        Setting::real("w2", "second weight", -1.0, -100.0, 100.0),
        Setting::real("x11", "first feature of the first point", 4.0, -100.0, 100.0),
        Setting::real("x12", "second feature of the first point", 2.0, -100.0, 100.0),
        Setting::real("x21", "first feature of the second point", 1.0, -100.0, 100.0),
        Setting::real("x22", "second feature of the second point", 5.0, -100.0, 100.0),
    ],
    solve,
};

fn solve(settings: &Settings) -> Result<Solution> {
    let of = |names: [&str; 2]| names.map(|name| settings.get(name));
    let (w, x1, x2) = (of(["w1", "w2"]), of(["x11", "x12"]), of(["x21", "x22"]));
    let mut solution = Solution::new(figure(w, x1, x2));

    let part = solution
        .part(format!("A classifier has the weights w = {}. Which of two points does it score higher?", list(&w)));
    let product = |a: [f64; 2], b: [f64; 2]| {
        format!("{} x {} + {} x {}", show(a[0]), operand(b[0]), operand(a[1]), operand(b[1]))
    };
    for (name, x) in [("1", x1), ("2", x2)] {
        part.number(
            &format!("score{name}"),
            format!("w . x{name}, x{name} = {}", list(&x)),
            product(w, x),
            dot(&w, &x),
        );
    }
    let (first, second) = (dot(&w, &x1), dot(&w, &x2));
    part.remark(match first.total_cmp(&second) {
        std::cmp::Ordering::Greater => "x1 has the higher score: of the two it lies further on the positive side.",
        std::cmp::Ordering::Less => "x2 has the higher score: of the two it lies further on the positive side.",
        std::cmp::Ordering::Equal => "Both have the same score: they are equally far from the boundary.",
    });

    let part = solution.part("How alike are the two points, by the cosine of their angle?");
    part.number("product", "x1 . x2", product(x1, x2), dot(&x1, &x2));
    for (name, x) in [("1", x1), ("2", x2)] {
        part.number(&format!("length{name}"), format!("|x{name}|"), format!("sqrt({})", show(dot(&x, &x))), norm(&x));
    }
    let angle = cosine(&x1, &x2);
    if norm(&x1) * norm(&x2) > 0.0 {
        let work = format!("{} / ({} x {})", show(dot(&x1, &x2)), show(norm(&x1)), show(norm(&x2)));
        part.number("cosine", "cos of the angle", work, angle);
        let degrees = angle.acos().to_degrees();
        part.number("degrees", "the angle, degrees", format!("acos({})", show(angle)), degrees);
    } else {
        part.remark("A point without length has no angle.");
    }

    if first == 0.0 && norm(&x1) * norm(&w) > 0.0 {
        let right = "A score of 0 is not aligned with w at all, neither way: x1 is at a right angle to w and lies on \
                     the boundary itself. It is undecided, where x2 is clearly on the negative side.";
        let steps = vec![
            Step::number("w_angle1", "angle of w and x1, degrees", "acos(0)", cosine(&w, &x1).acos().to_degrees()),
            Step::number("distance2", "x2 from the boundary", "(w . x2) / |w|", second / norm(&w)),
        ];
        solution.erratum("x1, with its score of 0.0, is \"less negatively aligned\" with w", right, steps);
    }
    Ok(solution)
}

fn figure(w: [f64; 2], x1: [f64; 2], x2: [f64; 2]) -> Plot {
    let arrow = |name: &str, to: [f64; 2]| {
        Series::trace(name, vec![[0.0, 0.0], to])
            .labelled(vec![String::new(), format!("{name} ({}, {})", show(to[0]), show(to[1]))])
    };
    let mut plot = Plot::new(
        "Two points, the weights and their boundary",
        Axis::linear("first feature"),
        Axis::linear("second feature"),
    );
    plot.true_angles = true;
    let far = [w, x1, x2].iter().map(|v| norm(v)).fold(0.0, f64::max);
    if norm(&w) > 0.0 {
        // Along the boundary, at a right angle to w.
        let along = [-w[1] / norm(&w), w[0] / norm(&w)];
        let (from, to) = (-0.4 * far, 1.05 * far);
        let points = vec![[along[0] * from, along[1] * from], [along[0] * to, along[1] * to]];
        plot.series.push(Series::line("w . x = 0", points).dashed().coloured(6));
    }
    plot.with(arrow("x1", x1).coloured(0)).with(arrow("x2", x2).coloured(1)).with(arrow("w", w).coloured(2))
}

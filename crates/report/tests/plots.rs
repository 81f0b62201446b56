//! What is refused, and that whatever is drawn is well-formed and lies on the paper.

use porism_report::plot::{Axis, Plot, Series};
use proptest::prelude::*;

fn plot(series: Series) -> Plot {
    Plot::new("loss", Axis::linear("step"), Axis::log("nats")).with(series)
}

fn refused(plot: Plot) -> String {
    plot.svg().expect_err("refused").to_string()
}

#[test]
fn what_has_no_place_is_refused() {
    let none = Plot::new("loss", Axis::default(), Axis::default());
    assert_eq!(refused(none), "the plot `loss` has no series: there is nothing to draw");
    assert_eq!(
        refused(plot(Series::line("a", vec![]))),
        "the series `a` of the plot `loss` has no points: leave it out"
    );
    for (y, rule) in [
        (f64::NAN, "NaN, and only finite"),
        (f64::INFINITY, "inf, and only finite"),
        (0.0, "0, and a logarithmic axis has only numbers above zero"),
        (-1.0, "-1, and a logarithmic axis"),
        (2e300, "within 1e300"),
    ] {
        let words = refused(plot(Series::line("a", vec![[0.0, 1.0], [1.0, y]])));
        assert!(words.starts_with("point 1 of the series `a` of the plot `loss`: y is "), "{words}");
        assert!(words.contains(rule), "{words}");
    }
    let words = refused(plot(Series::points("a", vec![[0.0, 1.0]]).labelled(vec!["x".into(), "y".into()])));
    assert_eq!(words, "the series `a` of the plot `loss` has 2 labels for 1 points");
}

/// The numbers of an attribute, wherever it stands.
fn attribute(svg: &str, name: &str) -> Vec<f64> {
    let begin = format!(" {name}=\"");
    svg.split(&begin).skip(1).map(|rest| rest.split('"').next().unwrap_or("").parse().expect("a number")).collect()
}

/// Every tag that is opened is closed, in order.
fn well_formed(svg: &str) -> bool {
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let Some((tag, _)) = tag.split_once('>') else { return false };
        match tag.strip_prefix('/') {
            Some(name) if open.pop() != Some(name) => return false,
            Some(_) => {}
            None if tag.ends_with('/') => {}
            None => open.push(tag.split([' ', '>']).next().unwrap_or("")),
        }
    }
    open.is_empty()
}

#[test]
fn points_lie_where_their_numbers_are() {
    let three = vec![[0.0, 1.0], [1.0, 10.0], [2.0, 100.0]];
    let svg = plot(Series::points("a < b & \"c\"", three)).svg().expect("a picture");
    let (x, y) = (attribute(&svg, "cx"), attribute(&svg, "cy"));
    // The first is the legend's sample. Equal steps are equally far apart on both axes.
    assert_eq!(x.len(), 4);
    assert!((x[3] - 2.0 * x[2] + x[1]).abs() < 0.02 && x[1] < x[2], "{x:?}");
    assert!((y[3] - 2.0 * y[2] + y[1]).abs() < 0.02 && y[1] > y[2], "{y:?}");
    assert!(svg.contains(">a &lt; b &amp; &quot;c&quot;</text>"));
    assert!(well_formed(&svg));
}

#[test]
fn angles_are_true_where_they_have_to_be() {
    let square = Series::points("", vec![[0.0, 0.0], [5.0, 0.0], [0.0, 1.0]]);
    let plot = Plot { true_angles: true, ..Plot::new("", Axis::default(), Axis::default()).with(square) };
    let svg = plot.svg().expect("a picture");
    let (x, y) = (attribute(&svg, "cx"), attribute(&svg, "cy"));
    assert!(((x[1] - x[0]) / 5.0 - (y[0] - y[2])).abs() < 0.02, "{x:?} {y:?}");
}

proptest! {
    #[test]
    fn whatever_is_drawn_lies_on_the_paper(
        points in prop::collection::vec((-1e9..1e9f64, 1e-30..1e30f64), 1..40),
        name in "\\PC{0,40}",
        angles in any::<bool>(),
    ) {
        let points: Vec<[f64; 2]> = points.into_iter().map(|(x, y)| [x, y]).collect();
        let labels = points.iter().map(|p| format!("{name}{}", p[0])).collect();
        let series = Series::trace(name.clone(), points).labelled(labels);
        for y in [Axis::log(name.clone()), Axis::linear(name.clone())] {
            let plot = Plot::new(name.clone(), Axis::linear(""), y).with(series.clone());
            let plot = Plot { true_angles: angles, ..plot };
            let svg = plot.svg().expect("a picture");
            prop_assert!(well_formed(&svg));
            prop_assert!(attribute(&svg, "cx").into_iter().all(|x| (0.0..=720.0).contains(&x)));
            prop_assert!(attribute(&svg, "cy").into_iter().all(|y| (0.0..=450.0).contains(&y)));
        }
    }
}

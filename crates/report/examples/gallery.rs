//! Draws one plot of each kind into a folder, to be looked at:
//! `cargo run -p porism-report --example gallery -- FOLDER`.

use std::path::Path;

use porism_report::plot::{Axis, Plot, Series};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let steps: Vec<f64> = (0..100).map(f64::from).collect();
    let fall = |rate: f64| steps.iter().map(|&s| [s, 2.5 * (-rate * s).exp() + 0.3]).collect::<Vec<_>>();
    let losses = Plot::new("Loss of three runs", Axis::linear("step"), Axis::linear("loss, nats a token"))
        .with(Series::line("lr = 0.1", fall(0.1)))
        .with(Series::line("lr = 0.03", fall(0.03)))
        .with(Series::line("lr = 0.01, a rather long name for a legend", fall(0.01)).dashed())
        .with(Series::line("lr = 0.003 with warmup and cosine decay", fall(0.003)));
    let powers = |p: f64| (1..=96).map(|l| [f64::from(l), 10f64.powf(-p * f64::from(l))]).collect::<Vec<_>>();
    let gradients = Plot::new("Gradients through 96 layers", Axis::linear("layers"), Axis::log("norm of the gradient"))
        .with(Series::line("with the identity path", powers(0.01)))
        .with(Series::line("without", powers(0.3)));
    let words = ["king", "queen", "man", "woman", "prince", "princess"];
    let places = vec![[1.0, 2.0], [2.0, 2.1], [1.1, 0.4], [2.1, 0.5], [1.05, 1.9], [2.05, 2.0]];
    let labels = words.map(String::from).to_vec();
    let map = Plot::new("Words on a plane", Axis::linear("first component"), Axis::linear("second component"))
        .with(Series::points("", places).labelled(labels));
    let few = vec![[1e3, 3.1e9], [1e4, 2.2e10], [5e4, 9.9e10]];
    let sizes = Plot::new("Bytes", Axis::log("tokens"), Axis::log("bytes"))
        .with(Series::trace("dense", few.clone()))
        .with(Series::trace("window", few.iter().map(|p| [p[0], p[1] / 7.0]).collect()).dashed());
    for (name, plot) in [("losses", losses), ("gradients", gradients), ("map", map), ("sizes", sizes)] {
        std::fs::write(Path::new(&folder).join(format!("{name}.svg")), plot.svg()?)?;
    }
    Ok(())
}

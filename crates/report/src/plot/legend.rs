//! The legend: rows of samples and names under the title.

use super::palette::{INK, PAPER, hue};
use super::svg::{Anchor, Svg, Text, width_of};
use super::{Mark, Plot, Series};

/// The size of names.
const SIZE: f64 = 12.5;
/// From one row to the next.
const ROW: f64 = 20.0;
/// The length of a sample.
const SAMPLE: f64 = 26.0;
/// Between sample and name, and behind a name.
const GAP: f64 = 7.0;
const BEHIND: f64 = 20.0;

/// The colour of a series by its place.
pub(super) fn colour(place: usize, series: &Series) -> &'static str {
    hue(series.colour.unwrap_or(place))
}

/// The names with their places: the row, and how far to the right.
fn places(plot: &Plot, width: f64) -> Vec<(usize, &Series, f64, f64)> {
    let (mut x, mut y) = (0.0, 0.0);
    let mut out = Vec::new();
    for (place, series) in plot.series.iter().enumerate().filter(|(_, s)| !s.name.is_empty()) {
        let needed = SAMPLE + GAP + width_of(&series.name, SIZE);
        if x > 0.0 && x + needed > width {
            (x, y) = (0.0, y + ROW);
        }
        out.push((place, series, x, y));
        x += needed + BEHIND;
    }
    out
}

/// How high the legend is in a picture of this width.
pub(super) fn height(plot: &Plot, width: f64) -> f64 {
    places(plot, width).last().map_or(0.0, |(_, _, _, y)| y + ROW)
}

/// Draws it with its upper left corner at a place.
pub(super) fn draw(svg: &mut Svg, plot: &Plot, at: [f64; 2], width: f64) {
    for (place, series, x, y) in places(plot, width) {
        let (x, y) = (at[0] + x, at[1] + y + ROW / 2.0);
        let colour = colour(place, series);
        if series.mark != Mark::Points {
            svg.path(&[[x, y], [x + SAMPLE, y]], colour, 2.2, series.dashed);
        }
        if series.mark != Mark::Line {
            svg.dot([x + SAMPLE / 2.0, y], 4.0, colour, series.dashed.then_some(PAPER));
        }
        svg.text([x + SAMPLE + GAP, y + 4.2], &series.name, &Text::new(SIZE, INK, Anchor::Start));
    }
}

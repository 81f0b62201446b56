//! Drawing the axes: grid, ticks, numbers, names.

use super::draw::Area;
use super::palette::{AXIS, GRID, INK, SOFT_INK};
use super::range::Range;
use super::svg::{Anchor, Svg, Text, width_of};
use super::ticks::{Tick, linear, logarithmic};
use super::{Plot, Scale};

/// The size of numbers at ticks.
const NUMBERS: f64 = 12.0;
/// The size of the axes' names.
const NAMES: f64 = 13.0;

/// The ticks of an axis that has room for so many numbers.
pub(super) fn ticks(range: Range, room: usize) -> Vec<Tick> {
    let (low, high) = range.ends();
    match range.scale() {
        Scale::Linear => linear(low, high, room),
        Scale::Log => logarithmic(low, high, room),
    }
}

/// How much room the numbers of the axis upwards need.
pub(super) fn room_for(ticks: &[Tick]) -> f64 {
    ticks.iter().map(|tick| width_of(&tick.text, NUMBERS)).fold(0.0, f64::max)
}

/// Draws grid, axes, ticks and names into the margins of the area.
pub(super) fn draw(svg: &mut Svg, plot: &Plot, area: &Area, xs: &[Tick], ys: &[Tick]) {
    let (left, right, top, bottom) = (area.left, area.right, area.top, area.bottom);
    for tick in xs {
        let x = area.place_x(tick.at);
        svg.line([x, top], [x, bottom], GRID, 1.0);
    }
    for tick in ys {
        let y = area.place_y(tick.at);
        svg.line([left, y], [right, y], GRID, 1.0);
    }
    svg.line([left, bottom], [right, bottom], AXIS, 1.0);
    svg.line([left, top], [left, bottom], AXIS, 1.0);
    let middle = Text::new(NUMBERS, SOFT_INK, Anchor::Middle);
    for tick in xs {
        let x = area.place_x(tick.at);
        svg.line([x, bottom], [x, bottom + 4.0], AXIS, 1.0);
        svg.text([x, bottom + 18.0], &tick.text, &middle);
    }
    let end = Text::new(NUMBERS, SOFT_INK, Anchor::End);
    for tick in ys {
        let y = area.place_y(tick.at);
        svg.line([left - 4.0, y], [left, y], AXIS, 1.0);
        svg.text([left - 8.0, y + 4.0], &tick.text, &end);
    }
    let name = Text::new(NAMES, INK, Anchor::Middle);
    svg.text([(left + right) / 2.0, bottom + 40.0], &plot.x.label, &name);
    let turned = Text { upright: false, ..name };
    svg.text([left - 8.0 - room_for(ys) - 14.0, (top + bottom) / 2.0], &plot.y.label, &turned);
}

//! Putting a plot together.

use super::label::{self, Taken};
use super::palette::{INK, PAPER};
use super::range::Range;
use super::svg::{Anchor, Svg, Text};
use super::{Mark, Plot, Scale, axis, legend};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 450.0;
/// Around everything.
const MARGIN: f64 = 20.0;
/// The size of the title.
const TITLE: f64 = 16.0;

/// Where the numbers lie on the paper, and what the axes span.
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
    x: Range,
    y: Range,
}

impl Area {
    pub(super) fn place_x(&self, x: f64) -> f64 {
        self.left + self.x.share(x) * (self.right - self.left)
    }

    pub(super) fn place_y(&self, y: f64) -> f64 {
        self.bottom - self.y.share(y) * (self.bottom - self.top)
    }

    fn place(&self, point: [f64; 2]) -> [f64; 2] {
        [self.place_x(point[0]), self.place_y(point[1])]
    }
}

/// The picture of a plot that was checked.
pub(super) fn draw(plot: &Plot) -> String {
    let points = || plot.series.iter().flat_map(|s| &s.points);
    let x = Range::of(&plot.x, points().map(|p| p[0]));
    let y = Range::of(&plot.y, points().map(|p| p[1]));
    let inner = WIDTH - 2.0 * MARGIN;
    let legend_height = legend::height(plot, inner);
    let top = MARGIN + TITLE + 12.0 + legend_height + if legend_height > 0.0 { 8.0 } else { 4.0 };
    let bottom = HEIGHT - MARGIN - 44.0;
    let right = WIDTH - MARGIN - 4.0;
    // The numbers upwards decide how much room there is to the right.
    let room = |y: Range| MARGIN + 22.0 + axis::room_for(&axis::ticks(y, 6));
    let mut area = Area { left: room(y), right, top, bottom, x, y };
    if plot.true_angles && plot.x.scale == Scale::Linear && plot.y.scale == Scale::Linear {
        make_square(&mut area);
        area.left = room(area.y);
        make_square(&mut area);
    }
    let (xs, ys) = (axis::ticks(area.x, 8), axis::ticks(area.y, 6));

    let mut svg = Svg::new(WIDTH, HEIGHT, &plot.title, PAPER);
    let title = Text { bold: true, ..Text::new(TITLE, INK, Anchor::Start) };
    svg.text([MARGIN, MARGIN + TITLE - 2.0], &plot.title, &title);
    legend::draw(&mut svg, plot, [MARGIN, MARGIN + TITLE + 12.0], inner);
    axis::draw(&mut svg, plot, &area, &xs, &ys);
    svg.clip(area.left - 6.0, area.top - 6.0, area.right - area.left + 12.0, area.bottom - area.top + 12.0);
    for (place, series) in plot.series.iter().enumerate() {
        let colour = legend::colour(place, series);
        let on_paper: Vec<[f64; 2]> = series.points.iter().map(|&p| area.place(p)).collect();
        if series.mark != Mark::Points {
            svg.path(&on_paper, colour, 2.2, series.dashed);
        }
        if series.mark != Mark::Line {
            let radius = if series.points.len() > 60 { 2.6 } else { 4.0 };
            for &at in &on_paper {
                svg.dot(at, radius, colour, series.dashed.then_some(PAPER));
            }
        }
    }
    svg.unclip();
    draw_labels(&mut svg, plot, &area);
    svg.finish()
}

/// Makes one unit as long upwards as to the right by spanning more.
fn make_square(area: &mut Area) {
    let (across, up) = (area.x.size() / (area.right - area.left), area.y.size() / (area.bottom - area.top));
    if across < up {
        area.x = area.x.stretched(up / across);
    } else {
        area.y = area.y.stretched(across / up);
    }
}

fn draw_labels(svg: &mut Svg, plot: &Plot, area: &Area) {
    if plot.series.iter().all(|s| s.labels.is_empty()) {
        return;
    }
    let mut taken = Taken::nothing();
    for series in &plot.series {
        let on_paper: Vec<[f64; 2]> = series.points.iter().map(|&p| area.place(p)).collect();
        match series.mark {
            Mark::Line => taken.line(&on_paper),
            Mark::Points => taken.points(&on_paper),
            Mark::LineAndPoints => {
                taken.line(&on_paper);
                taken.points(&on_paper);
            }
        }
    }
    for series in &plot.series {
        for (&point, text) in series.points.iter().zip(&series.labels).filter(|(_, text)| !text.is_empty()) {
            let (at, anchor) = taken.place(area, area.place(point), text);
            svg.text(at, text, &Text { halo: true, ..Text::new(label::SIZE, INK, anchor) });
        }
    }
}

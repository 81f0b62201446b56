//! Texts at points, placed so that they do not lie on each other.

use super::draw::Area;
use super::svg::{Anchor, width_of};

/// The size of such a text.
pub(super) const SIZE: f64 = 12.0;

/// From one place to the next where a line is looked at.
const SPACING: f64 = 3.0;

/// A rectangle on the paper.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Box {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Box {
    fn around(at: [f64; 2], half: f64) -> Box {
        Box { left: at[0] - half, right: at[0] + half, top: at[1] - half, bottom: at[1] + half }
    }

    fn overlap(self, other: Box) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        if width > 0.0 && height > 0.0 { width * height } else { 0.0 }
    }

    /// How much of it lies outside of the area.
    fn outside(self, area: &Area) -> f64 {
        let over = |x: f64| x.max(0.0);
        over(area.left - self.left)
            + over(self.right - area.right)
            + over(area.top - ABOVE - self.top)
            + over(self.bottom - area.bottom)
    }
}

/// What is taken already: points, and texts that were placed.
pub(super) struct Taken(Vec<(Box, f64)>);

/// How far a text may stand out above the area, where there is only the margin.
const ABOVE: f64 = 8.0;

/// How bad it is to lie on a line, a point, or another text.
const ON_LINE: f64 = 1.0;
const ON_POINT: f64 = 2.0;
const ON_TEXT: f64 = 5.0;

impl Taken {
    /// Nothing yet.
    pub(super) fn nothing() -> Taken {
        Taken(Vec::new())
    }

    /// Points are taken.
    pub(super) fn points(&mut self, points: &[[f64; 2]]) {
        self.0.extend(points.iter().map(|&at| (Box::around(at, 4.0), ON_POINT)));
    }

    /// A line through points is taken.
    pub(super) fn line(&mut self, points: &[[f64; 2]]) {
        for pair in points.windows(2) {
            let [dx, dy] = [pair[1][0] - pair[0][0], pair[1][1] - pair[0][1]];
            let pieces = (dx.hypot(dy) / SPACING).ceil().clamp(1.0, 500.0);
            for i in 0..=pieces as usize {
                let share = i as f64 / pieces;
                self.0.push((Box::around([pair[0][0] + share * dx, pair[0][1] + share * dy], 1.5), ON_LINE));
            }
        }
    }

    /// The best of eight places around a point for a text, which is then taken.
    pub(super) fn place(&mut self, area: &Area, at: [f64; 2], text: &str) -> ([f64; 2], Anchor) {
        let width = width_of(text, SIZE);
        let [x, y] = at;
        let side = |dx: f64, dy: f64, anchor: Anchor| {
            let (x, y) = (x + dx, y + dy);
            let left = match anchor {
                Anchor::Start => x,
                Anchor::Middle => x - width / 2.0,
                Anchor::End => x - width,
            };
            let space = Box { left, right: left + width, top: y - 0.8 * SIZE, bottom: y + 0.2 * SIZE };
            ([x, y], anchor, space)
        };
        let places = [
            side(8.0, 4.0, Anchor::Start),
            side(-8.0, 4.0, Anchor::End),
            side(0.0, -9.0, Anchor::Middle),
            side(0.0, 18.0, Anchor::Middle),
            side(7.0, -6.0, Anchor::Start),
            side(7.0, 14.0, Anchor::Start),
            side(-7.0, -6.0, Anchor::End),
            side(-7.0, 14.0, Anchor::End),
        ];
        let cost = |space: Box| {
            let taken: f64 = self.0.iter().map(|(other, weight)| weight * space.overlap(*other)).sum();
            taken + 50.0 * space.outside(area)
        };
        let mut best = places[0];
        let mut least = cost(best.2);
        for place in &places[1..] {
            let this = cost(place.2);
            if this < least {
                (best, least) = (*place, this);
            }
        }
        self.0.push((best.2, ON_TEXT));
        (best.0, best.1)
    }
}

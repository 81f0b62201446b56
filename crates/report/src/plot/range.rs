//! What an axis spans, and where on it a number lies.

use super::{Axis, Scale};

/// The span of an axis. On a logarithmic one the ends are kept as logarithms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Range {
    /// The span of these numbers and a little more; there has to be one, and each has to have a place on the axis.
    pub(super) fn of(axis: &Axis, numbers: impl Iterator<Item = f64>) -> Range {
        let place = |x: f64| if axis.scale == Scale::Log { x.log10() } else { x };
        let (low, high) = numbers.map(place).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
        let (low, high) = match high - low {
            // One number has room on both sides.
            size if size <= 1e-12 * high.abs().max(1e-290) => {
                let room = if axis.scale == Scale::Log || high == 0.0 { 1.0 } else { 0.5 * high.abs() };
                (low - room, high + room)
            }
            size => (low - 0.04 * size, high + 0.04 * size),
        };
        Range { scale: axis.scale, low, high }
    }

    /// The same span with its middle kept, so many times as large.
    pub(super) fn stretched(self, factor: f64) -> Range {
        let (middle, half) = ((self.low + self.high) / 2.0, (self.high - self.low) / 2.0 * factor);
        Range { low: middle - half, high: middle + half, ..self }
    }

    /// How much it spans.
    pub(super) fn size(self) -> f64 {
        self.high - self.low
    }

    /// From 0 at its low end to 1 at its high end.
    pub(super) fn share(self, number: f64) -> f64 {
        let place = if self.scale == Scale::Log { number.log10() } else { number };
        (place - self.low) / self.size()
    }

    /// The ends, as numbers of the axis.
    pub(super) fn ends(self) -> (f64, f64) {
        match self.scale {
            Scale::Linear => (self.low, self.high),
            Scale::Log => (10f64.powf(self.low), 10f64.powf(self.high)),
        }
    }

    /// How it spaces its numbers.
    pub(super) fn scale(self) -> Scale {
        self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lie_inside() {
        let linear = Range::of(&Axis::linear(""), [1.0, 3.0].into_iter());
        assert_eq!(linear.share(2.0), 0.5);
        assert!(linear.share(1.0) > 0.0 && linear.share(3.0) < 1.0);
        let log = Range::of(&Axis::log(""), [0.01, 100.0].into_iter());
        assert!((log.share(1.0) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn one_number_lies_in_the_middle() {
        for number in [0.0, 7.0, -3e-9, 1e200] {
            assert!((Range::of(&Axis::linear(""), [number].into_iter()).share(number) - 0.5).abs() < 1e-9);
        }
        assert!((Range::of(&Axis::log(""), [7.0].into_iter()).share(7.0) - 0.5).abs() < 1e-9);
    }
}

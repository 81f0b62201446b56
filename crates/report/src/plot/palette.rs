//! Colours.

/// Seven hues that stay apart for all common kinds of colour blindness (Okabe and Ito 2008, "Color universal design"),
/// without the yellow, which is too light on white, and with black last.
const HUES: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];

/// The colour of a number.
pub(super) fn hue(number: usize) -> &'static str {
    HUES[number % HUES.len()]
}

/// The ground.
pub(super) const PAPER: &str = "#ffffff";
/// Titles and names.
pub(super) const INK: &str = "#1f2328";
/// Numbers at ticks.
pub(super) const SOFT_INK: &str = "#57606a";
/// Axes and tick marks.
pub(super) const AXIS: &str = "#8c959f";
/// The grid.
pub(super) const GRID: &str = "#e6e8eb";

//! A curve or two over the last quarter of an hour, as inline SVG.

use std::fmt::Write;

use crate::status::history::STEPS;

/// Height of a chart in its own units; a step is one unit wide.
const HEIGHT: f64 = 100.0;

/// Returns a chart of two curves, `a` and `b`, the newest value at the right. `what` says what it
/// shows, for who cannot see it, and `show` writes a value.
pub(super) fn chart(
    what: &str,
    [a, b]: [&[f64]; 2],
    [name_of_a, name_of_b]: [&str; 2],
    show: impl Fn(f64) -> String,
) -> String {
    let most = a.iter().chain(b).copied().fold(0.0, f64::max);
    let width = STEPS - 1;
    let top = show(most);
    let mut text = format!(
        "<svg viewBox=\"0 0 {width} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{what}, at most {top}\">"
    );
    for (class, values) in [("a", a), ("b", b)] {
        let _ = write!(text, "<polyline class=\"{class}\" points=\"");
        for (place, value) in values.iter().enumerate() {
            let share = if most > 0.0 { value / most } else { 0.0 };
            // Within the line's own width from the edges.
            let y = (HEIGHT - 2.0 - share * (HEIGHT - 4.0)).round();
            let _ = write!(text, "{},{y} ", width + 1 + place - values.len());
        }
        text.push_str("\"/>");
    }
    let _ = write!(
        text,
        "</svg><div class=\"axis\"><span>15 min ago</span><span><span class=\"ka\">— {name_of_a}</span> \
         <span class=\"kb\">- - {name_of_b}</span> at most {top}</span><span>now</span></div>"
    );
    text
}

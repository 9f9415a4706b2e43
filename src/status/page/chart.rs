//! A curve or two over the last minutes, as inline SVG.

use std::fmt::Write;

use crate::status::history::{STEP, STEPS};

/// Height of a chart in its own units; a step is one unit wide.
const HEIGHT: f64 = 100.0;

/// The width of a chart is a multiple of so many steps: three minutes.
const STRETCH: usize = 36;

/// Returns a chart of two curves, `a` and `b`, the newest value at the right. `what` says what it
/// shows, for who cannot see it, and `show` writes a value.
pub(super) fn chart(
    what: &str,
    [a, b]: [&[f64]; 2],
    [name_of_a, name_of_b]: [&str; 2],
    show: impl Fn(f64) -> String,
) -> String {
    let most = a.iter().chain(b).copied().fold(0.0, f64::max);
    let steps = a.len().next_multiple_of(STRETCH).clamp(STRETCH, STEPS);
    let right = steps - 1;
    let top = if most > 0.0 { format!("at most {}", show(most)) } else { "none".into() };
    let mut text = format!(
        "<div class=\"row axis\"><span>{top}</span><span><span class=\"ka\">— {name_of_a}</span> \
         <span class=\"kb\">- - {name_of_b}</span></span></div>\
         <svg viewBox=\"0 0 {right} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{what}, {top}\">"
    );
    for (class, values) in [("a", a), ("b", b)] {
        let left = steps - values.len();
        let _ = write!(text, "<polyline class=\"{class}\" points=\"");
        // The area below the first one is filled.
        let corner = |x| if class == "a" { format!("{x},{HEIGHT} ") } else { String::new() };
        text.push_str(&corner(left.min(right)));
        for (place, value) in values.iter().enumerate() {
            let share = if most > 0.0 { value / most } else { 0.0 };
            // Within the line's own width from the edges.
            let y = (HEIGHT - 2.0 - share * (HEIGHT - 4.0)).round();
            let _ = write!(text, "{},{y} ", left + place);
        }
        text.push_str(&corner(right));
        text.push_str("\"/>");
    }
    let minutes = STEP.as_secs() * steps as u64 / 60;
    let _ = write!(
        text,
        "</svg><div class=\"row axis\"><span>{minutes} min ago</span><span>now</span></div>"
    );
    text
}

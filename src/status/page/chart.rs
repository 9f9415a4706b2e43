//! A curve or two over the last minutes, as inline SVG.

use std::fmt::Write;

use crate::status::history::{STEP, STEPS};

/// Height of a chart in its own units; a step is one unit wide.
const HEIGHT: f64 = 100.0;

/// The width of a chart is a multiple of so many steps: three minutes.
const STRETCH: usize = 36;

/// How values are placed between the bottom of a chart and its top.
#[derive(Clone, Copy)]
pub(super) enum Scale {
    /// From zero to the greatest value. The area below the first curve is filled.
    Linear,
    /// Between powers of ten.
    Logarithmic,
}

/// Returns a chart of two curves, `a` and `b`, the newest value at the right. `what` says what it
/// shows, for who cannot see it, and `show` writes a value.
pub(super) fn chart(
    what: &str,
    scale: Scale,
    [a, b]: [&[f64]; 2],
    [name_of_a, name_of_b]: [&str; 2],
    show: impl Fn(f64) -> String,
) -> String {
    let range = Range::of(scale, a.iter().chain(b).copied());
    let range_shown = range.shown(show);
    let steps = a.len().next_multiple_of(STRETCH).clamp(STRETCH, STEPS);
    let right = steps - 1;
    let mut text = format!(
        "<div class=\"row axis\"><span>{range_shown}</span><span><span class=\"ka\">— {name_of_a}</span> \
         <span class=\"kb\">- - {name_of_b}</span></span></div>\
         <svg viewBox=\"0 0 {right} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{what}, {range_shown}\"><path d=\""
    );
    for line in 1..=range.lines {
        let _ = write!(text, "M0,{} H{right} ", height(line as f64 / range.lines as f64));
    }
    text.push_str("\"/>");
    for (class, values) in [("a", a), ("b", b)] {
        let left = steps - values.len();
        let is_filled = matches!(scale, Scale::Linear) && class == "a";
        let fill = if is_filled { " f" } else { "" };
        let _ = write!(text, "<polyline class=\"{class}{fill}\" points=\"");
        let corner = |x| if is_filled { format!("{x},{HEIGHT} ") } else { String::new() };
        text.push_str(&corner(left.min(right)));
        for (place, value) in values.iter().enumerate() {
            let _ = write!(text, "{},{} ", left + place, height(range.share(*value)));
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

/// Returns where a value is that lies so high between bottom and top: within the line's own width from
/// the edges.
fn height(share: f64) -> f64 {
    (HEIGHT - 2.0 - share * (HEIGHT - 4.0)).round()
}

/// What lies at the bottom and at the top, and the number of lines between.
struct Range {
    /// As powers of ten, with a logarithmic scale.
    bottom: f64,
    top: f64,
    is_logarithmic: bool,
    lines: u32,
}

impl Range {
    /// Returns the range that has all the values.
    fn of(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> Range {
        let most = values.clone().fold(0.0, f64::max);
        if matches!(scale, Scale::Linear) || most == 0.0 {
            return Range { bottom: 0.0, top: most, is_logarithmic: false, lines: 2 };
        }
        let least = values.filter(|value| *value > 0.0).fold(most, f64::min);
        let bottom = least.log10().floor();
        let top = most.log10().ceil().max(bottom + 1.0);
        Range { bottom, top, is_logarithmic: true, lines: (top - bottom) as u32 }
    }

    /// Returns how high a value lies, 0 to 1. Zero is at the bottom of each scale.
    fn share(&self, value: f64) -> f64 {
        if value <= 0.0 || self.top == self.bottom {
            return 0.0;
        }
        let value = if self.is_logarithmic { value.log10() } else { value };
        (value - self.bottom) / (self.top - self.bottom)
    }

    fn shown(&self, show: impl Fn(f64) -> String) -> String {
        match self {
            Range { is_logarithmic: true, bottom, top, .. } => {
                let [bottom, top] = [bottom, top].map(|power| show(10_f64.powf(*power)));
                format!("{bottom} to {top}, a line each tenfold")
            }
            Range { top, .. } if *top > 0.0 => format!("at most {}", show(*top)),
            Range { .. } => "none".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(scale: Scale, values: &[f64]) -> Range {
        Range::of(scale, values.iter().copied())
    }

    #[test]
    fn all_values_lie_between_bottom_and_top() {
        let linear = range(Scale::Linear, &[0.0, 50.0, 200.0]);
        assert_eq!([0.0, 50.0, 200.0].map(|value| linear.share(value)), [0.0, 0.25, 1.0]);
        let tenfold = range(Scale::Logarithmic, &[0.0, 0.2, 1.0, 30.0]);
        assert_eq!((tenfold.bottom, tenfold.top, tenfold.lines), (-1.0, 2.0, 3));
        assert_eq!([0.0, 0.1, 1.0, 100.0].map(|it| tenfold.share(it)), [0.0, 0.0, 1.0 / 3.0, 1.0]);
        assert_eq!(tenfold.shown(|value| value.to_string()), "0.1 to 100, a line each tenfold");
        // A power of ten alone.
        assert_eq!(range(Scale::Logarithmic, &[10.0]).lines, 1);
        let none = range(Scale::Logarithmic, &[0.0]);
        assert_eq!((none.share(0.0), none.shown(|_| String::new()).as_str()), (0.0, "none"));
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! A plot as an SVG document that needs nothing else: no script, style sheet or font of its own.
//!
//! It has no background, and its colors are between light and dark, so that it can be read on white and on dark pages.

mod axis;

use std::fmt::{self, Display};

use axis::Axis;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// The area of the curves.
const LEFT: f64 = 72.0;
const RIGHT: f64 = WIDTH - 24.0;
const TOP: f64 = 88.0;
const BOTTOM: f64 = HEIGHT - 56.0;
/// Width of a letter, roughly: where the next entry of the legend begins depends on it.
const LETTER: f64 = 7.0;

const FONT: &str = "DejaVu Sans, Verdana, sans-serif";
/// At least 4.5:1 on white and on black.
const TEXT: &str = "#767676";
/// At least 3:1 on both, and of different lightness. Curves also differ in their dashes.
const CURVES: [(&str, &str); 3] = [("#2f7fc8", "none"), ("#d9730d", "7 4"), ("#8a63d2", "2 3")];
const LIMIT: &str = "#c8403a";
const LIMIT_DASHES: &str = "10 3 2 3";

/// A curve, and the name that the legend gives it.
pub struct Curve {
    pub name: String,
    /// In ascending order of x.
    pub points: Vec<(f64, f64)>,
}

/// Curves over one pair of axes.
pub struct Plot {
    pub title: String,
    pub subtitle: String,
    pub x_label: String,
    pub y_label: String,
    /// At most as many as there are colors.
    pub curves: Vec<Curve>,
    /// A value of y to compare with, and its name.
    pub limit: Option<(f64, String)>,
}

impl Display for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let limit = self.limit.iter().map(|(y, _)| *y);
        let x = Axis::covering(points().map(|point| point.0), LEFT, RIGHT);
        let y = Axis::covering(points().map(|point| point.1).chain(limit), BOTTOM, TOP);
        write!(
            f,
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}""#
        )?;
        write!(f, r#" viewBox="0 0 {WIDTH} {HEIGHT}""#)?;
        writeln!(f, r#" role="img" font-family="{FONT}" font-size="12" fill="{TEXT}">"#)?;
        writeln!(f, "<title>{}</title>", escaped(&self.title))?;
        let mut line = |y: f64, style: &str, content: &str| {
            writeln!(f, r#"<text x="{LEFT}" y="{y}"{style}>{}</text>"#, escaped(content))
        };
        line(24.0, r#" font-size="15" font-weight="bold""#, &self.title)?;
        line(43.0, "", &self.subtitle)?;
        self.axes(f, &x, &y)?;
        self.legend(f)?;
        if let Some((value, _)) = self.limit {
            let y = y.at(value);
            write!(f, r#"<path d="M {LEFT} {y:.1} H {RIGHT}""#)?;
            writeln!(
                f,
                r#" stroke="{LIMIT}" stroke-width="1.5" stroke-dasharray="{LIMIT_DASHES}"/>"#
            )?;
        }
        for (curve, (color, dashes)) in self.curves.iter().zip(CURVES) {
            let places: Vec<_> = curve
                .points
                .iter()
                .map(|point| (x.at(point.0), y.at(point.1)))
                .collect();
            let list: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let list = list.join(" ");
            write!(f, r#"<polyline points="{list}" fill="none""#)?;
            writeln!(f, r#" stroke="{color}" stroke-width="2" stroke-dasharray="{dashes}"/>"#)?;
            for (x, y) in places {
                writeln!(f, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{color}"/>"#)?;
            }
        }
        writeln!(f, "</svg>")
    }
}

impl Plot {
    /// Ticks, grid lines, and what the axes mean.
    fn axes(&self, f: &mut fmt::Formatter<'_>, x: &Axis, y: &Axis) -> fmt::Result {
        for (at, text) in x.ticks() {
            let below = BOTTOM + 19.0;
            writeln!(f, r#"<path d="M {at:.1} {BOTTOM} v 5" stroke="{TEXT}"/>"#)?;
            writeln!(f, r#"<text x="{at:.1}" y="{below}" text-anchor="middle">{text}</text>"#)?;
        }
        for (at, text) in y.ticks() {
            let (left, middle) = (LEFT - 8.0, at + 4.0);
            writeln!(
                f,
                r#"<path d="M {LEFT} {at:.1} H {RIGHT}" stroke="{TEXT}" stroke-opacity="0.3"/>"#
            )?;
            writeln!(f, r#"<text x="{left}" y="{middle:.1}" text-anchor="end">{text}</text>"#)?;
        }
        writeln!(
            f,
            r#"<path d="M {LEFT} {TOP} V {BOTTOM} H {RIGHT}" fill="none" stroke="{TEXT}"/>"#
        )?;
        writeln!(
            f,
            r#"<text x="{}" y="{}" text-anchor="middle">{}</text>"#,
            LEFT.midpoint(RIGHT),
            HEIGHT - 14.0,
            escaped(&self.x_label)
        )?;
        let middle = TOP.midpoint(BOTTOM);
        writeln!(
            f,
            r#"<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">{}</text>"#,
            escaped(&self.y_label)
        )
    }

    /// One line above the curves, where it hides none of them.
    fn legend(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let curves = self.curves.iter().zip(CURVES);
        let curves = curves.map(|(curve, (color, dashes))| (&curve.name, color, dashes));
        let limit = self.limit.iter().map(|(_, name)| (name, LIMIT, LIMIT_DASHES));
        let mut x = LEFT;
        for (name, color, dashes) in curves.chain(limit) {
            write!(f, r#"<path d="M {x:.1} 66 h 30""#)?;
            writeln!(f, r#" stroke="{color}" stroke-width="2" stroke-dasharray="{dashes}"/>"#)?;
            writeln!(f, r#"<text x="{:.1}" y="70">{}</text>"#, x + 36.0, escaped(name))?;
            x += 60.0 + LETTER * name.chars().count() as f64;
        }
        Ok(())
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot() -> Plot {
        Plot {
            title: "a & b <c>".into(),
            subtitle: "machine".into(),
            x_label: "live streams".into(),
            y_label: "ms".into(),
            curves: [("p99", 2.0), ("p50", 1.0)]
                .map(|(name, factor)| Curve {
                    name: name.into(),
                    points: [1.0, 8.0, 64.0, 256.0].map(|x| (x, factor * x)).to_vec(),
                })
                .into(),
            limit: Some((80.0, "bound".into())),
        }
    }

    /// The values of an attribute, wherever it occurs.
    fn values<'a>(svg: &'a str, attribute: &str) -> Vec<&'a str> {
        let begin = format!(r#" {attribute}=""#);
        let pieces = svg.split(&begin).skip(1);
        pieces.map(|piece| piece.split('"').next().unwrap()).collect()
    }

    #[test]
    fn each_element_is_closed() {
        let svg = plot().to_string();
        for name in ["svg", "title", "text"] {
            let opened = svg.matches(&format!("<{name} ")).count() + svg.matches(&format!("<{name}>")).count();
            assert_eq!(opened, svg.matches(&format!("</{name}>")).count(), "{name}");
            assert!(opened > 0, "{name}");
        }
        for name in ["path", "polyline", "circle"] {
            let elements: Vec<&str> = svg.split(&format!("<{name} ")).skip(1).collect();
            assert!(
                elements
                    .iter()
                    .all(|rest| rest.split_once('>').unwrap().0.ends_with('/')),
                "{name}"
            );
        }
        assert_eq!(svg.matches('"').count() % 2, 0);
    }

    #[test]
    fn title_labels_curves_and_limit_are_there() {
        let svg = plot().to_string();
        assert_eq!(svg.matches(">a &amp; b &lt;c&gt;<").count(), 2);
        for text in ["machine", "live streams", "ms", "p99", "p50", "bound"] {
            assert_eq!(svg.matches(&format!(">{text}</text>")).count(), 1, "{text}");
        }
        assert_eq!(
            (svg.matches("<polyline").count(), svg.matches("<circle").count()),
            (2, 8)
        );
        // Tick labels of both axes.
        for tick in ["1", "10", "100"] {
            assert_eq!(svg.matches(&format!(">{tick}</text>")).count(), 2, "{tick}");
        }
        assert_eq!(svg.matches(LIMIT).count(), 2);
    }

    #[test]
    fn curves_stay_between_the_axes() {
        let svg = plot().to_string();
        let points = values(&svg, "points");
        let pairs = points.iter().flat_map(|points| points.split(' '));
        let mut last = (0.0, f64::MAX);
        for (index, pair) in pairs.enumerate() {
            let (x, y) = pair.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!(
                (LEFT..=RIGHT).contains(&x) && (TOP..=BOTTOM).contains(&y),
                "{pair} at {index}"
            );
            // To the right and up, except where the second curve begins.
            assert!(index == 4 || (x > last.0 && y < last.1), "{pair} at {index}");
            last = (x, y);
        }
    }
}

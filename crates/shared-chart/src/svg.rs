//! Writing SVG: escaped text, colours by class.

use std::fmt::{self, Display, Write as _};

/// Of every chart, in pixels.
pub(crate) const WIDTH: f64 = 800.0;
/// Around everything.
pub(crate) const MARGIN: f64 = 24.0;
/// Of ordinary text.
pub(crate) const TEXT: f64 = 12.0;

/// How many series have a look of their own; then they repeat.
pub(crate) const LOOKS: usize = 8;

/// Told apart by people of whatever sight, after Okabe and Ito; darker on white,
/// lighter on black.
const LIGHT: [&str; LOOKS] =
    ["#0072b2", "#d55e00", "#008f68", "#b0478f", "#3d94cf", "#a67c00", "#3b4048", "#7a4fb5"];
const DARK: [&str; LOOKS] =
    ["#4ea6e6", "#ff8c42", "#2fc79b", "#e58ac8", "#a5d8ff", "#e6c229", "#c9d1d9", "#b697f0"];
const DASHES: [&str; LOOKS] = ["", "7 3", "2 3", "9 3 2 3", "4 3", "12 4", "1 2", "6 2 2 2 2 2"];

/// An SVG that is being written. Nothing gets in but through it, so that text is
/// always escaped and numbers are always short.
#[derive(Default)]
pub(crate) struct Svg {
    body: String,
}

/// Where a text is to be in respect of its place.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    pub(crate) fn text(&mut self, class: &str, anchor: Anchor, (x, y): (f64, f64), text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let (x, y, text) = (Number(x), Number(y), Escaped(text));
        self.line(format_args!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\"{anchor}>{text}</text>"));
    }

    /// A value, and what there is to say of it.
    pub(crate) fn value(&mut self, (x, y): (f64, f64), value: &str, rest: &str) {
        let (x, y, value, rest) = (Number(x), Number(y), Escaped(value), Escaped(rest));
        self.line(format_args!(
            "<text class=\"name\" x=\"{x}\" y=\"{y}\"><tspan class=\"value\">{value}</tspan>\
             <tspan class=\"quiet\" dx=\"6\">{rest}</tspan></text>"
        ));
    }

    pub(crate) fn stroke(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let (x1, y1, x2, y2) = (Number(x1), Number(y1), Number(x2), Number(y2));
        self.line(format_args!("<path class=\"{class}\" d=\"M{x1} {y1}L{x2} {y2}\"/>"));
    }

    pub(crate) fn bar(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        let (x, y, width, height) = (Number(x), Number(y), Number(width), Number(height));
        self.line(format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"1.5\"/>"
        ));
    }

    /// Lines through points, with a gap where one is missing.
    pub(crate) fn path(&mut self, look: usize, points: &[Option<(f64, f64)>]) {
        let mut path = String::new();
        let mut pen = 'M';
        for point in points {
            match point {
                Some((x, y)) => {
                    let _ = write!(path, "{pen}{} {}", Number(*x), Number(*y));
                    pen = 'L';
                }
                None => pen = 'M',
            }
        }
        if !path.is_empty() {
            self.line(format_args!("<path class=\"line s{}\" d=\"{path}\"/>", look % LOOKS));
        }
    }

    /// Each look has a shape of its own.
    pub(crate) fn marker(&mut self, look: usize, (x, y): (f64, f64)) {
        let corners: &[(f64, f64)] = match look % LOOKS {
            0 => &[(-3.0, -3.0), (3.0, -3.0), (3.0, 3.0), (-3.0, 3.0)],
            1 => &[(0.0, -4.5), (4.5, 0.0), (0.0, 4.5), (-4.5, 0.0)],
            2 => &[(0.0, -4.2), (4.0, 3.0), (-4.0, 3.0)],
            3 => &[(0.0, 4.2), (4.0, -3.0), (-4.0, -3.0)],
            4 => &[(-4.2, 0.0), (3.0, -4.0), (3.0, 4.0)],
            5 => &[(4.2, 0.0), (-3.0, -4.0), (-3.0, 4.0)],
            6 => &[(-1.5, -4.5), (1.5, -4.5), (1.5, 4.5), (-1.5, 4.5)],
            _ => &[(-4.5, -1.5), (4.5, -1.5), (4.5, 1.5), (-4.5, 1.5)],
        };
        let mut path = String::new();
        for (index, (dx, dy)) in corners.iter().enumerate() {
            let pen = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{pen}{} {}", Number(x + dx), Number(y + dy));
        }
        self.line(format_args!("<path class=\"fill s{}\" d=\"{path}Z\"/>", look % LOOKS));
    }

    pub(crate) fn finish(self, title: &str, height: f64) -> String {
        let (width, height, title) = (Number(WIDTH), Number(height), Escaped(title));
        let mut svg = String::new();
        let _ = writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{title}</title>\n<style>\n{}</style>\n\
             <rect class=\"paper\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>",
            style()
        );
        svg + &self.body + "</svg>\n"
    }

    fn line(&mut self, element: fmt::Arguments<'_>) {
        let _ = writeln!(self.body, "{element}");
    }
}

fn style() -> String {
    let mut style = format!(
        "text {{ font: {TEXT}px system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif; \
         font-variant-numeric: tabular-nums }}\n\
         .title {{ font-size: 18px; font-weight: 600 }}\n\
         .heading {{ font-size: 14px; font-weight: 600 }}\n\
         .value {{ font-weight: 600 }}\n\
         .line {{ fill: none; stroke-width: 2; stroke-linejoin: round }}\n\
         .mark {{ stroke-width: 2 }}\n"
    );
    for (look, dash) in DASHES.iter().enumerate().filter(|(_, dash)| !dash.is_empty()) {
        let _ = writeln!(style, ".line.s{look} {{ stroke-dasharray: {dash} }}");
    }
    theme(&mut style, ["#ffffff", "#1f2328", "#59636e", "#d8dee4", "#59636e"], &LIGHT);
    style.push_str("@media (prefers-color-scheme: dark) {\n");
    theme(&mut style, ["#0d1117", "#f0f6fc", "#9198a1", "#30363d", "#9198a1"], &DARK);
    style.push_str("}\n");
    style
}

fn theme(style: &mut String, [paper, ink, quiet, grid, rule]: [&str; 5], looks: &[&str; LOOKS]) {
    let _ = writeln!(
        style,
        ".paper {{ fill: {paper} }}\ntext {{ fill: {ink} }}\n.quiet {{ fill: {quiet} }}\n\
         .grid {{ stroke: {grid} }}\n.rule {{ stroke: {rule} }}\n.mark {{ stroke: {ink} }}"
    );
    for (look, colour) in looks.iter().enumerate() {
        let _ = writeln!(
            style,
            ".line.s{look} {{ stroke: {colour} }}\n.fill.s{look} {{ fill: {colour}; stroke: {paper} }}"
        );
    }
}

/// About how wide a text is: nobody knows with which font it will be drawn.
pub(crate) fn width(text: &str) -> f64 {
    text.chars().map(|char| if char.is_ascii() { 0.58 } else { 0.9 }).sum::<f64>() * TEXT
}

/// A tenth of a pixel is fine enough.
struct Number(f64);

impl Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0 * 10.0).round() as i64;
        let sign = if tenths < 0 { "-" } else { "" };
        match (tenths.abs() / 10, tenths.abs() % 10) {
            (whole, 0) => write!(f, "{sign}{whole}"),
            (whole, tenth) => write!(f, "{sign}{whole}.{tenth}"),
        }
    }
}

struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                // XML has no way to write these.
                '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => {
                    f.write_char('\u{fffd}')?
                }
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

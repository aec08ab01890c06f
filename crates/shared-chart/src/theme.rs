//! Colours, for light and dark, and text.

use std::fmt::Write as _;

use plotters::style::{
    FontStyle, IntoFont as _, RGBColor, TextStyle,
    text_anchor::{HPos, Pos, VPos},
};

pub(crate) const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);
pub(crate) const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
pub(crate) const QUIET: RGBColor = RGBColor(0x59, 0x63, 0x6e);
pub(crate) const GRID: RGBColor = RGBColor(0xd8, 0xde, 0xe4);

/// How many series have a look of their own; then they repeat.
const LOOKS: usize = 8;

/// Of lines and bars, distinct for people of whatever sight, after Okabe and Ito:
/// darker on white, lighter on black, with a dash.
const SERIES: [(RGBColor, &str, &str); LOOKS] = [
    (RGBColor(0x00, 0x72, 0xb2), "#4ea6e6", "none"),
    (RGBColor(0xd5, 0x5e, 0x00), "#ff8c42", "7 3"),
    (RGBColor(0x00, 0x8f, 0x68), "#2fc79b", "2 3"),
    (RGBColor(0xb0, 0x47, 0x8f), "#e58ac8", "9 3 2 3"),
    (RGBColor(0x3d, 0x94, 0xcf), "#a5d8ff", "4 3"),
    (RGBColor(0xa6, 0x7c, 0x00), "#e6c229", "12 4"),
    (RGBColor(0x3b, 0x40, 0x48), "#c9d1d9", "1 2"),
    (RGBColor(0x7a, 0x4f, 0xb5), "#b697f0", "6 2 2 2 2 2"),
];
const DARK: [(RGBColor, &str); 4] =
    [(PAPER, "#0d1117"), (INK, "#f0f6fc"), (QUIET, "#9198a1"), (GRID, "#30363d")];

pub(crate) fn series(index: usize) -> RGBColor {
    SERIES[index % LOOKS].0
}

/// Text of so many pixels.
pub(crate) fn text(size: f64, colour: RGBColor, across: HPos) -> TextStyle<'static> {
    // plotters takes the height of a line, and divides by this.
    let style = ("sans-serif", size * 1.24).into_font().color(&colour);
    style.pos(Pos::new(across, VPos::Center))
}

pub(crate) fn bold(size: f64) -> TextStyle<'static> {
    let font = ("sans-serif", size * 1.24, FontStyle::Bold).into_font();
    font.color(&INK).pos(Pos::new(HPos::Left, VPos::Center))
}

/// About how wide a text of ordinary size is: nobody knows which font will draw it.
pub(crate) fn width(text: &str) -> i32 {
    7 * text.chars().count() as i32
}

/// What plotters drew, with a name and a style sheet. Colours in attributes are
/// for light; a rule that selects them is stronger, and replaces them for dark.
pub(crate) fn styled(svg: &str, name: &str) -> String {
    let mut style = "text { font-family: system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, \
                     sans-serif; font-variant-numeric: tabular-nums }\n"
        .to_owned();
    for (light, _, dash) in SERIES {
        let _ = writeln!(style, "polyline[stroke=\"{}\"] {{ stroke-dasharray: {dash} }}", hex(light));
    }
    style.push_str("@media (prefers-color-scheme: dark) {\n");
    for (light, dark) in DARK.into_iter().chain(SERIES.map(|(light, dark, _)| (light, dark))) {
        let light = hex(light);
        let _ = writeln!(
            style,
            "[fill=\"{light}\"] {{ fill: {dark} }} [stroke=\"{light}\"] {{ stroke: {dark} }}"
        );
    }
    style.push_str("}\n");
    // The first is that of the whole picture.
    svg.replacen(">\n", &format!(" role=\"img\">\n<title>{name}</title>\n<style>\n{style}</style>\n"), 1)
}

fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

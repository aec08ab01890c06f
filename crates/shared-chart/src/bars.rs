//! Bars: things beside each other.

use crate::{
    axis::Axis,
    figure::{Figure, Panel, head},
    svg::{self, Anchor, LOOKS, MARGIN, Svg, WIDTH},
};

/// A chart of horizontal bars, each with its value and its name beside it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BarChart {
    /// What it shows.
    pub title: String,
    /// What the bars are as long as.
    pub x: Axis,
    /// From top to bottom.
    pub groups: Vec<Group>,
}

/// Bars that are to be compared with each other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Group {
    /// To the left of them.
    pub name: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bar {
    /// What it is; bars of one name have one colour. May be empty where there is
    /// one in each group.
    pub name: String,
    /// How long it is.
    pub value: f64,
    /// From where to where it may as well have been.
    pub spread: Option<(f64, f64)>,
    /// Where it should have come to, or where it ends at last.
    pub mark: Option<Mark>,
}

/// A line across a bar.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mark {
    /// Where it is.
    pub value: f64,
    /// What it is, such as `goal`; written with the bar's value.
    pub name: String,
}

const THICKNESS: f64 = 16.0;
/// From one bar to the next of its group.
const STEP: f64 = 19.0;
const BETWEEN_GROUPS: f64 = 12.0;

impl BarChart {
    /// The picture of this chart alone.
    #[must_use]
    pub fn svg(&self) -> String {
        let chart = Self { title: String::new(), ..self.clone() };
        Figure { title: self.title.clone(), notes: Vec::new(), panels: vec![Panel::Bars(chart)] }.svg()
    }

    pub(crate) fn draw(&self, svg: &mut Svg, top: f64) -> f64 {
        let high = head(svg, top, &self.title, &[]);
        let bars = || self.groups.iter().flat_map(|group| &group.bars);
        let range = self.x.range(bars().flat_map(|bar| {
            let (low, high) = bar.spread.unwrap_or((bar.value, bar.value));
            [bar.value, low, high, bar.mark.as_ref().map_or(bar.value, |mark| mark.value)]
        }));
        let mut names: Vec<&str> = Vec::new();
        bars().for_each(|bar| {
            if !names.contains(&bar.name.as_str()) {
                names.push(&bar.name);
            }
        });

        // Behind a bar that takes all of the width there is still room for its text.
        let widest = self.groups.iter().map(|group| svg::width(&group.name)).fold(0.0, f64::max);
        let behind = bars().map(|bar| svg::width(&self.text(bar).join("  "))).fold(0.0, f64::max);
        let left = MARGIN + widest.min(WIDTH / 3.0) + 10.0;
        let right = (WIDTH - MARGIN - behind - 14.0).max(left + 120.0);
        let to_x = |place: f64| left + place * (right - left);
        let rows: f64 = self.groups.iter().map(|group| group.bars.len() as f64 * STEP + BETWEEN_GROUPS).sum();
        let low = high + rows + 4.0;

        let mut free = f64::MIN;
        for (value, text) in &range.ticks {
            let Some(x) = range.place(*value).map(to_x) else { continue };
            svg.stroke("grid", (x, high), (x, low));
            let half = svg::width(text) / 2.0;
            if x - half >= free {
                svg.text("quiet", Anchor::Middle, (x, low + 16.0), text);
                free = x + half + 6.0;
            }
        }
        let origin = to_x(range.origin());
        let mut y = high + BETWEEN_GROUPS / 2.0 + 2.0;
        for group in &self.groups {
            let middle = y + (group.bars.len() as f64 * STEP - (STEP - THICKNESS)) / 2.0;
            svg.text("name", Anchor::End, (left - 10.0, middle + 4.0), &group.name);
            for bar in &group.bars {
                let look = names.iter().position(|name| *name == bar.name).unwrap_or(0) % LOOKS;
                let mut end = origin;
                if let Some(x) = range.place(bar.value).map(to_x) {
                    let place = (x.min(origin), y);
                    svg.bar(&format!("fill s{look}"), place, ((x - origin).abs(), THICKNESS));
                    end = end.max(x);
                }
                let spread = bar.spread.and_then(|(low, high)| range.place(low).zip(range.place(high)));
                if let Some((low, high)) = spread.map(|(low, high)| (to_x(low), to_x(high))) {
                    let centre = y + THICKNESS / 2.0;
                    svg.stroke("mark", (low, centre), (high, centre));
                    [low, high]
                        .iter()
                        .for_each(|x| svg.stroke("mark", (*x, centre - 4.0), (*x, centre + 4.0)));
                    end = end.max(high);
                }
                if let Some(x) = bar.mark.as_ref().and_then(|mark| range.place(mark.value)).map(to_x) {
                    svg.stroke("mark", (x, y - 2.0), (x, y + THICKNESS + 2.0));
                    end = end.max(x);
                }
                let [value, rest] = self.text(bar);
                svg.value((end + 6.0, y + 12.0), &value, &rest);
                y += STEP;
            }
            y += BETWEEN_GROUPS;
        }
        svg.stroke("rule", (origin, high), (origin, low));
        svg.text("quiet", Anchor::Middle, (left.midpoint(right), low + 36.0), &self.x.label);
        low + 40.0
    }

    /// What is behind a bar: its value, and what else there is to say.
    fn text(&self, bar: &Bar) -> [String; 2] {
        let value = if bar.value.is_finite() { self.x.unit.text(bar.value) } else { "none".to_owned() };
        let mark = bar.mark.as_ref().map(|mark| format!("{} {}", mark.name, self.x.unit.text(mark.value)));
        let name = Some(bar.name.clone()).filter(|name| !name.is_empty());
        let rest: Vec<String> = name.into_iter().chain(mark).collect();
        [value, rest.join(", ")]
    }
}

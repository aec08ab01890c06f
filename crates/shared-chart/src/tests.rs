use plotters::coord::ranged1d::{BoldPoints, Ranged as _, ValueFormatter as _};

use super::*;

fn axis(label: &str, unit: Unit, scale: Scale) -> Axis {
    Axis { label: label.to_owned(), unit, scale }
}

fn series(name: &str, points: &[(f64, f64)]) -> Series {
    Series { name: name.to_owned(), points: points.to_vec() }
}

fn lines(scale: Scale, points: &[(f64, f64)]) -> String {
    picture(Panel::Lines(LineChart {
        title: "t".to_owned(),
        x: axis("x", Unit::Bytes, scale),
        y: axis("y", Unit::Seconds, scale),
        series: vec![series("a", points)],
    }))
}

fn bars(scale: Scale, values: &[f64]) -> String {
    let bar = |value: &f64| Bar { value: *value, spread: Some((*value, *value)), ..Bar::default() };
    let group = Group { name: "g".to_owned(), bars: values.iter().map(bar).collect() };
    let x = axis("x", Unit::PerSecond, scale);
    picture(Panel::Bars(BarChart { title: "t".to_owned(), x, groups: vec![group] }))
}

fn picture(panel: Panel) -> String {
    Figure { title: "Measured", notes: vec!["yesterday".to_owned()], panels: vec![panel] }.svg().unwrap()
}

/// All texts of a picture, which has to be well-formed and to have real places.
fn texts(svg: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(svg).unwrap();
    for element in document.descendants().filter(|node| node.is_element()) {
        let values = element.attributes().map(|attribute| attribute.value());
        for value in values.filter(|value| !value.starts_with('#')) {
            assert!(!value.contains("NaN") && !value.contains("inf"), "{value}");
            let numbers = value.split(|char: char| !(char.is_ascii_digit() || char == '.'));
            // What is saturated was no place on the picture.
            assert!(numbers.map(|run| run.parse().unwrap_or(0.0)).all(|number: f64| number < 1e4), "{value}");
        }
    }
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    texts.map(|node| node.text().unwrap_or_default().trim().to_owned()).collect()
}

#[track_caller]
fn has(texts: &[String], wanted: &[&str]) {
    for text in wanted {
        assert!(texts.iter().any(|there| there == text), "no {text:?} in {texts:?}");
    }
}

#[test]
fn values_are_written_as_people_write_them() {
    for (unit, value, text) in [
        (Unit::Bytes, 65_536.0, "64 KiB"),
        (Unit::Bytes, 16.0, "16 B"),
        (Unit::Bytes, 0.0, "0 B"),
        (Unit::Bytes, 1.5 * 1024.0 * 1024.0, "1.5 MiB"),
        (Unit::Seconds, 0.01, "10 ms"),
        (Unit::Seconds, 0.000_023_4, "23.4 µs"),
        (Unit::Seconds, 0.0, "0 s"),
        (Unit::Seconds, 90.0, "90 s"),
        (Unit::Seconds, 0.999_96, "1 s"),
        (Unit::PerSecond, 100_000.0, "100k/s"),
        (Unit::PerSecond, 0.25, "0.25/s"),
        (Unit::PerSecond, 8_234_567.0, "8.23M/s"),
        (Unit::PerSecond, 999_999.0, "1M/s"),
        (Unit::BytesPerSecond, 1_610_612_736.0, "1.5 GiB/s"),
        (Unit::Count, 1_000.0, "1k"),
        (Unit::Count, -20.0, "-20"),
        (Unit::Ratio, 1.234, "1.23×"),
        (Unit::Percentile, 1.0, "p0"),
        (Unit::Percentile, 100.0, "p99"),
        (Unit::Percentile, 10_000.0, "p99.99"),
    ] {
        assert_eq!(unit.text(value), text);
    }
}

#[test]
fn a_line_chart_has_all_its_words() {
    let texts = texts(&picture(Panel::Lines(LineChart {
        title: "Latency by size".to_owned(),
        x: axis("message size", Unit::Bytes, Scale::Log),
        y: axis("latency (p99)", Unit::Seconds, Scale::Log),
        series: vec![
            series("unary <1>", &[(16.0, 0.0001), (65_536.0, 0.001)]),
            series("stream & \"co\"", &[(16.0, 0.000_02), (65_536.0, 0.01)]),
        ],
    })));
    has(&texts, &["Measured", "yesterday", "Latency by size", "message size", "latency (p99)"]);
    has(&texts, &["unary <1>", "stream & \"co\""]);
    has(&texts, &["16 B", "64 KiB", "10 µs", "100 µs", "1 ms", "10 ms"]);
}

#[test]
fn a_bar_chart_has_all_its_words() {
    let mark = Some(Mark { value: 30_000.0, name: "goal".to_owned() });
    let bar = |name: &str, value, mark| Bar {
        name: name.to_owned(),
        value,
        spread: Some((value * 0.9, value * 1.1)),
        mark,
    };
    let group = |name: &str, bars| Group { name: name.to_owned(), bars };
    let texts = texts(&picture(Panel::Bars(BarChart {
        title: "Calls a second".to_owned(),
        x: axis("calls a CPU-second", Unit::PerSecond, Scale::Linear),
        groups: vec![
            group("unary", vec![bar("ours", 24_000.0, mark), bar("bare tonic", 21_000.0, None)]),
            group("bidi", vec![bar("ours", 0.0, None), bar("bare tonic", f64::NAN, None)]),
        ],
    })));
    has(&texts, &["Calls a second", "calls a CPU-second", "unary", "bidi", "0/s", "10k/s", "30k/s"]);
    has(&texts, &["24k/s, ours, goal 30k/s", "21k/s, bare tonic", "0/s, ours", "none, bare tonic"]);
}

#[test]
fn what_cannot_be_drawn_is_left_out() {
    const ODD: [f64; 12] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        1e-300,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1e18,
    ];
    texts(&Figure::default().svg().unwrap());
    texts(&picture(Panel::Lines(LineChart::default())));
    texts(&picture(Panel::Bars(BarChart::default())));
    for scale in [Scale::Linear, Scale::Log] {
        texts(&lines(scale, &[]));
        texts(&bars(scale, &[]));
        for a in ODD {
            texts(&lines(scale, &[(a, a)]));
            texts(&bars(scale, &[a]));
            for b in ODD {
                texts(&lines(scale, &[(a, b), (a, b), (b, a), (3.0, 4.0)]));
                texts(&bars(scale, &[a, b, 5.0]));
            }
        }
    }
}

#[test]
fn a_line_has_a_gap_where_there_is_no_value() {
    // How many points each part of the line has.
    let drawn = |points: &[(f64, f64)]| {
        let svg = lines(Scale::Log, points);
        let document = roxmltree::Document::parse(&svg).unwrap();
        let lines = document.descendants().filter(|node| node.attribute("stroke") == Some("#0072B2"));
        let points = lines.filter_map(|line| line.attribute("points"));
        let mut counts: Vec<_> = points.map(|points| points.split_whitespace().count()).collect();
        // The last is that of the legend.
        assert_eq!(counts.pop(), Some(2));
        counts
    };
    assert_eq!(drawn(&[(1.0, 1.0), (2.0, 2.0), (4.0, 4.0), (8.0, 8.0)]), [4]);
    assert_eq!(drawn(&[(1.0, 1.0), (2.0, 2.0), (4.0, 0.0), (8.0, 8.0), (9.0, 8.0)]), [2, 2]);
}

#[test]
fn the_same_chart_is_the_same_picture() {
    let points = [(1.0, 1.0), (1024.0, 3.0)];
    assert_eq!(lines(Scale::Log, &points), lines(Scale::Log, &points));
}

#[test]
fn dark_has_a_colour_for_each_of_light() {
    for svg in [lines(Scale::Linear, &[(1.0, 1.0)]), bars(Scale::Linear, &[1.0])] {
        let (head, drawn) = svg.split_once("</style>").unwrap();
        let dark = head.split_once("@media (prefers-color-scheme: dark)").unwrap().1;
        let attributes = drawn.split_whitespace().filter(|word| word.contains("=\"#"));
        for attribute in attributes.map(|word| word.trim_end_matches(['/', '>'])) {
            assert!(dark.contains(&format!("[{attribute}] {{")), "{attribute}");
        }
    }
}

/// Axes are as long as their values need.
#[test]
fn labels_are_round() {
    let labels = |unit, scale, values: &[f64]| {
        let coord = axis("", unit, scale).over(values.iter().copied());
        let labels = coord.key_points(BoldPoints(7)).into_iter().map(|value| coord.format_ext(&value));
        labels.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(labels(Unit::Count, Scale::Linear, &[7.0, 9.5]), "0 2 4 6 8");
    assert_eq!(labels(Unit::Seconds, Scale::Linear, &[0.0031]), "0 s 500 µs 1 ms 1.5 ms 2 ms 2.5 ms 3 ms");
    assert_eq!(labels(Unit::Bytes, Scale::Linear, &[200_000.0]), "0 B 50 KiB 100 KiB 150 KiB");
    assert_eq!(labels(Unit::PerSecond, Scale::Log, &[30.0, 2e5]), "10/s 100/s 1k/s 10k/s 100k/s 1M/s");
    assert_eq!(labels(Unit::Seconds, Scale::Log, &[1e-5, 1e-3]), "10 µs 100 µs 1 ms");
    assert_eq!(
        labels(Unit::Bytes, Scale::Log, &[16.0, 4_194_304.0]),
        "16 B 128 B 1 KiB 8 KiB 64 KiB 512 KiB 4 MiB"
    );
    assert_eq!(labels(Unit::Percentile, Scale::Log, &[1.0, 10_000.0]), "p0 p90 p99 p99.9 p99.99");
    assert_eq!(labels(Unit::Count, Scale::Linear, &[5.0, 5.0]), "0 1 2 3 4 5");
    assert_eq!(labels(Unit::Count, Scale::Log, &[5.0, 5.0]), "1 10");
}

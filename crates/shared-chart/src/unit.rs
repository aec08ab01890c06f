//! Numbers as people write them.

/// What the numbers on an axis are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// A number of things, such as `12k`.
    #[default]
    Count,
    /// Bytes, such as `64 KiB`.
    Bytes,
    /// Seconds, such as `10 ms`.
    Seconds,
    /// So many a second, such as `100k/s`.
    PerSecond,
    /// Bytes a second, such as `1.5 GiB/s`.
    BytesPerSecond,
    /// How many times as much, such as `1.2×`.
    Ratio,
    /// `1 / (1 - quantile)`: 100 stands for the 99th percentile, `p99`. On a
    /// logarithmic axis each step is a tenth of what was left.
    Percentile,
}

impl Unit {
    /// A value with its unit, in three digits.
    #[must_use]
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Count => scaled(value, &DECIMAL),
            Self::PerSecond => format!("{}/s", scaled(value, &DECIMAL)),
            Self::Bytes => scaled(value, &BINARY),
            Self::BytesPerSecond => format!("{}/s", scaled(value, &BINARY)),
            Self::Seconds => scaled(value, &SECONDS),
            Self::Ratio => format!("{}×", digits(value)),
            Self::Percentile => {
                // As many digits as the quantile has nines.
                let percent = 100.0 * (1.0 - 1.0 / value);
                format!("p{}", trimmed(&format!("{percent:.6}")))
            }
        }
    }

    /// People count bytes in powers of two.
    pub(crate) fn base(self) -> f64 {
        if matches!(self, Self::Bytes | Self::BytesPerSecond) { 2.0 } else { 10.0 }
    }

    /// In how many of it people count where a value is this large.
    pub(crate) fn prefix(self, value: f64) -> f64 {
        let power = if self.base() == 2.0 { value.log(1024.0).floor().clamp(0.0, 4.0) } else { 0.0 };
        1024f64.powf(power)
    }
}

/// What a value is divided by, and what is written behind it; the largest first.
type Prefixes = [(f64, &'static str)];

const DECIMAL: [(f64, &str); 6] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (0.0, "")];
const BINARY: [(f64, &str); 5] = [
    (1024.0 * 1024.0 * 1024.0 * 1024.0, " TiB"),
    (1024.0 * 1024.0 * 1024.0, " GiB"),
    (1024.0 * 1024.0, " MiB"),
    (1024.0, " KiB"),
    (1.0, " B"),
];
const SECONDS: [(f64, &str); 4] = [(1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns")];

fn scaled(value: f64, prefixes: &Prefixes) -> String {
    // What would be rounded up to 1000 belongs to the next prefix already.
    let size = value.abs() * 1.0005;
    let (divisor, name) = match prefixes.iter().find(|(divisor, _)| size >= *divisor) {
        Some(&(divisor, name)) if divisor > 0.0 => (divisor, name),
        _ if value == 0.0 => (1.0, prefixes.iter().find(|(divisor, _)| *divisor == 1.0).map_or("", |p| p.1)),
        _ => prefixes.iter().rev().find(|(divisor, _)| *divisor > 0.0).copied().unwrap_or((1.0, "")),
    };
    format!("{}{name}", digits(value / divisor))
}

/// Three digits, without zeros at the end; more where they are before the point.
fn digits(value: f64) -> String {
    let size = value.abs();
    let places = match size {
        _ if size >= 99.95 || size == 0.0 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.9995 => 2,
        _ => 3,
    };
    trimmed(&format!("{value:.places$}"))
}

fn trimmed(number: &str) -> String {
    let number = match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => number,
    };
    if number == "-0" { "0".to_owned() } else { number.to_owned() }
}

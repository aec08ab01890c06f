//! Numbers of many digits.

/// `1,234,567`, in four digits.
pub(super) fn number(value: f64) -> String {
    let power = 10f64.powi((value.abs().max(1.0).log10() as i32 - 3).max(0));
    let digits = format!("{:.0}", (value / power).round() * power);
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

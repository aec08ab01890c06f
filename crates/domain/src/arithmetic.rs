//! Arithmetic that is exact.

/// The product does not fit into 64 bits.
#[allow(missing_docs, reason = "the messages say it")]
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{a} × {b} does not fit into a signed 64-bit integer")]
pub struct Overflow {
    pub a: i64,
    pub b: i64,
}

/// The product, which may be refused but is never wrong.
pub fn multiply(a: i64, b: i64) -> Result<i64, Overflow> {
    a.checked_mul(b).ok_or(Overflow { a, b })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_exact_or_refused() {
        assert_eq!(multiply(6, 7), Ok(42));
        assert_eq!(multiply(-1, i64::MAX), Ok(-i64::MAX));
        assert_eq!(multiply(i64::MIN, 1), Ok(i64::MIN));
        assert_eq!(multiply(i64::MIN, -1), Err(Overflow { a: i64::MIN, b: -1 }));
        assert_eq!(multiply(1 << 32, 1 << 31), Err(Overflow { a: 1 << 32, b: 1 << 31 }));
    }
}

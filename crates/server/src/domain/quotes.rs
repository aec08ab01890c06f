//! Simulated prices: a random walk for each symbol, the same for the same seed.

use std::time::SystemTime;

/// Every symbol there is, with its first price in cents.
const LISTED: [(&str, i64); 6] =
    [("ACME", 12_400), ("BOLT", 3_150), ("CORA", 48_020), ("DUNE", 790), ("ECHO", 9_999), ("FLUX", 21_505)];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quote {
    pub(crate) sequence: u64,
    pub(crate) symbol: &'static str,
    pub(crate) price_cents: i64,
    pub(crate) time: SystemTime,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such symbol: {}; listed are {}", named(unknown), listed().join(", "))]
pub(crate) struct UnknownSymbols {
    pub(crate) unknown: Vec<String>,
}

/// The first few, and not more of each than anyone wants to read: what comes
/// back to the client has to fit into its headers.
fn named(unknown: &[String]) -> String {
    const NAMED: usize = 5;
    const LONGEST: usize = 40;
    let short = |symbol: &String| format!("{:?}", symbol.chars().take(LONGEST).collect::<String>());
    let named: Vec<_> = unknown.iter().take(NAMED).map(short).collect();
    match unknown.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn listed() -> [&'static str; LISTED.len()] {
    LISTED.map(|(symbol, _)| symbol)
}

/// An endless walk over the chosen symbols.
#[derive(Debug)]
pub(crate) struct Market {
    random: fastrand::Rng,
    prices: Vec<(&'static str, i64)>,
    sequence: u64,
}

impl Market {
    /// No symbols means all of them.
    pub(crate) fn new(seed: u64, symbols: &[String]) -> Result<Self, UnknownSymbols> {
        let is_listed = |symbol: &&String| listed().contains(&symbol.as_str());
        let unknown: Vec<_> = symbols.iter().filter(|s| !is_listed(s)).cloned().collect();
        if !unknown.is_empty() {
            return Err(UnknownSymbols { unknown });
        }
        let chosen = |symbol: &str| symbols.is_empty() || symbols.iter().any(|s| s == symbol);
        Ok(Self {
            random: fastrand::Rng::with_seed(seed),
            prices: LISTED.into_iter().filter(|(symbol, _)| chosen(symbol)).collect(),
            sequence: 0,
        })
    }
}

impl Iterator for Market {
    type Item = Quote;

    fn next(&mut self) -> Option<Quote> {
        let which = self.random.usize(..self.prices.len());
        let (symbol, price) = &mut self.prices[which];
        // At most half a percent up or down, at least a cent, and never free.
        let step = (*price / 200).max(1);
        *price = (*price + self.random.i64(-step..=step)).max(1);
        self.sequence += 1;
        Some(Quote { sequence: self.sequence, symbol, price_cents: *price, time: SystemTime::now() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices(seed: u64, symbols: &[&str]) -> Vec<(u64, &'static str, i64)> {
        let symbols: Vec<_> = symbols.iter().map(ToString::to_string).collect();
        let market = Market::new(seed, &symbols).unwrap();
        market.take(1000).map(|q| (q.sequence, q.symbol, q.price_cents)).collect()
    }

    #[test]
    fn the_seed_decides_the_prices() {
        assert_eq!(prices(7, &[]), prices(7, &[]));
        assert_ne!(prices(7, &[]), prices(8, &[]));
    }

    #[test]
    fn sequences_have_no_gap_and_prices_stay_positive() {
        for (n, (sequence, _, cents)) in prices(3, &["DUNE"]).into_iter().enumerate() {
            assert_eq!(sequence, n as u64 + 1);
            assert!(cents > 0);
        }
    }

    #[test]
    fn only_what_was_asked_for_is_quoted() {
        assert!(prices(1, &["ACME", "ECHO"]).iter().all(|(_, symbol, _)| ["ACME", "ECHO"].contains(symbol)));
    }

    #[test]
    fn unknown_symbols_are_all_named() {
        let symbols = ["ACME", "acme", "NOPE"].map(String::from);
        let refused = Market::new(1, &symbols).unwrap_err();
        assert_eq!(refused.unknown, ["acme", "NOPE"]);
        assert!(refused.to_string().contains("listed are ACME, BOLT"), "{refused}");
        let many = Market::new(1, &vec!["x".repeat(9_000); 9_000]).unwrap_err();
        assert!(many.to_string().len() < 500 && many.to_string().contains("and 8995 more"), "{many}");
    }
}

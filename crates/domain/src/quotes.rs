//! Simulated prices: a random walk for each symbol, the same for the same seed.

use serde::{Deserialize, Serialize};

/// Every symbol there is, with its first price in cents.
const LISTED: [(&str, i64); 6] =
    [("ACME", 12_400), ("BOLT", 3_150), ("CORA", 48_020), ("DUNE", 790), ("ECHO", 9_999), ("FLUX", 21_505)];

#[allow(missing_docs, reason = "the messages say it")]
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such symbol: {}; the symbols are {}", named(unknown), listed().join(", "))]
pub struct UnknownSymbols {
    pub unknown: Vec<String>,
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

/// Of each listed symbol, by its number, whether it is meant.
pub type Chosen = [bool; LISTED.len()];

/// Which of the listed symbols are meant; none given means all.
pub fn chosen(symbols: &[String]) -> Result<Chosen, UnknownSymbols> {
    let is_listed = |symbol: &&String| listed().contains(&symbol.as_str());
    let unknown: Vec<_> = symbols.iter().filter(|s| !is_listed(s)).cloned().collect();
    match unknown.is_empty() {
        true => Ok(listed().map(|symbol| symbols.is_empty() || symbols.iter().any(|s| s == symbol))),
        false => Err(UnknownSymbols { unknown }),
    }
}

/// The symbol of a number, if there is one.
pub fn symbol(number: usize) -> Option<&'static str> {
    listed().get(number).copied()
}

/// An endless walk over all symbols, which goes on after a restart where it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Walk {
    random: u64,
    prices: [i64; LISTED.len()],
    /// How many steps each symbol has made.
    steps: [u64; LISTED.len()],
}

/// A step of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The number of the symbol.
    pub symbol: usize,
    /// The price from now on.
    pub price_cents: i64,
    /// Counts the steps of this symbol.
    pub number: u64,
}

impl Walk {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: seed, prices: LISTED.map(|(_, price)| price), steps: [0; LISTED.len()] }
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let mut random = fastrand::Rng::with_seed(self.random);
        let symbol = random.usize(..LISTED.len());
        let price = &mut self.prices[symbol];
        // At most half a percent up or down, at least a cent, and never free.
        let step = (*price / 200).max(1);
        *price = (*price + random.i64(-step..=step)).max(1);
        self.steps[symbol] += 1;
        self.random = random.get_seed();
        Some(Step { symbol, price_cents: *price, number: self.steps[symbol] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store;

    fn steps(seed: u64) -> Vec<Step> {
        Walk::new(seed).take(1000).collect()
    }

    #[test]
    fn the_seed_decides_the_prices() {
        assert_eq!(steps(7), steps(7));
        assert_ne!(steps(7), steps(8));
    }

    #[test]
    fn a_walk_goes_on_where_it_was_stored() {
        let mut walk = Walk::new(7);
        let begun: Vec<_> = walk.by_ref().take(400).collect();
        let mut stored: Walk = store::decode("a walk", &store::encode(&walk)).unwrap();
        let all: Vec<_> = begun.into_iter().chain(stored.by_ref().take(600)).collect();
        assert_eq!(all, steps(7));
    }

    #[test]
    fn steps_are_counted_and_prices_stay_positive() {
        let mut numbers = [0; LISTED.len()];
        for step in steps(3) {
            numbers[step.symbol] += 1;
            assert_eq!(step.number, numbers[step.symbol]);
            assert!(step.price_cents > 0);
        }
        assert!(numbers.iter().all(|number| *number > 100), "{numbers:?}");
    }

    #[test]
    fn unknown_symbols_are_all_named() {
        let symbols = ["ACME", "acme", "NOPE"].map(String::from);
        let refused = chosen(&symbols).unwrap_err();
        assert_eq!(refused.unknown, ["acme", "NOPE"]);
        assert!(refused.to_string().contains("the symbols are ACME, BOLT"), "{refused}");
        let many = chosen(&vec!["x".repeat(9_000); 9_000]).unwrap_err();
        assert!(many.to_string().len() < 500 && many.to_string().contains("and 8995 more"), "{many}");
        assert_eq!(chosen(&["CORA".to_owned()]).unwrap(), [false, false, true, false, false, false]);
        assert_eq!(chosen(&[]).unwrap(), [true; 6]);
    }
}

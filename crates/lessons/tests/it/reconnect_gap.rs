use lessons::reconnect_gap::{Outcome, broken, fixed};

use crate::run;

#[test]
fn events_are_lost_and_repeated_unless_the_client_says_where_it_was() {
    assert_eq!(run(broken), Outcome { seen: vec![1, 2, 5, 5, 6] });
    assert_eq!(run(fixed), Outcome { seen: vec![1, 2, 3, 4, 5, 6] });
}

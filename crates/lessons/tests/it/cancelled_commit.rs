use lessons::cancelled_commit::{Outcome, broken, fixed};

use crate::run;

#[test]
fn a_commit_is_cut_in_half_by_a_client_that_leaves_unless_it_is_a_task() {
    assert_eq!(run(broken), Outcome { charged: 1, shipped: 0 });
    assert_eq!(run(fixed), Outcome { charged: 1, shipped: 1 });
}

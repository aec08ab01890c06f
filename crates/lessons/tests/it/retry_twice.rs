use lessons::retry_twice::{broken, fixed};

use crate::run;

#[test]
fn a_command_whose_answer_was_lost_happens_again_unless_it_has_an_id() {
    assert!(run(broken).orders > 1);
    assert_eq!(run(fixed).orders, 1);
}

use lessons::one_channel::{broken, fixed};

use crate::run;

#[test]
fn an_order_waits_behind_unread_feeds_unless_they_have_a_channel_of_their_own() {
    assert!(run(broken).answered < 2);
    assert_eq!(run(fixed).answered, 2);
}

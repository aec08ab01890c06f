use lessons::hot_reconnect::{broken, fixed};

use crate::run;

#[test]
fn a_server_that_hangs_up_is_asked_again_and_again_unless_the_client_waits() {
    let outcome = run(broken);
    assert!(outcome.attempts > 50 && outcome.number == 1, "{outcome:?}");
    let outcome = run(fixed);
    assert!(outcome.attempts < 20 && outcome.number == 1, "{outcome:?}");
}

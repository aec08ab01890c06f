use lessons::bidi_deadlock::{Outcome, broken, fixed};

use crate::run;

#[test]
fn a_conversation_begins_only_if_the_server_does_not_wait() {
    assert_eq!(run(broken), Outcome::Hung);
    assert_eq!(run(fixed), Outcome::Answered("ana: hello".to_owned()));
}

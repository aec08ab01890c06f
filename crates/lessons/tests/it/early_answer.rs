use lessons::early_answer::{Outcome, broken, fixed};
use tonic::Code;

use crate::run;

#[test]
fn what_the_server_says_early_is_lost_on_who_looks_at_his_own_end() {
    assert_eq!(run(broken), Outcome::OwnError("channel closed".to_owned()));
    assert_eq!(run(fixed), Outcome::Refused(Code::ResourceExhausted, "the disk is full".to_owned()));
}

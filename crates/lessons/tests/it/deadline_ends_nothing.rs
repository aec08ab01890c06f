use lessons::deadline_ends_nothing::{Outcome, broken, fixed};
use tonic::Code;

use crate::run;

#[test]
fn a_timeout_for_everything_ends_the_wrong_one() {
    assert_eq!(run(broken), Outcome { stream: None, upload: Code::Cancelled });
    assert_eq!(run(fixed), Outcome { stream: Some(Code::DeadlineExceeded), upload: Code::Ok });
}

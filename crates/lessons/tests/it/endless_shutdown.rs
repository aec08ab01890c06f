use lessons::endless_shutdown::{Outcome, broken, fixed};
use tonic::Code;

use crate::run;

#[test]
fn a_server_waits_for_its_streams_unless_it_ends_them() {
    assert_eq!(run(broken), Outcome { ended: false, feed: None });
    assert_eq!(run(fixed), Outcome { ended: true, feed: Some(Code::Unavailable) });
}

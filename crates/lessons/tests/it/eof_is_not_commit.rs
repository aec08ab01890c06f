use lessons::eof_is_not_commit::{Outcome, Upload, broken, fixed};

use crate::run;

#[test]
fn a_cancelled_upload_is_stored_unless_it_has_to_be_finished() {
    let stored = Outcome { whole: Upload::Stored(18), cancelled: Upload::Stored(8) };
    assert_eq!(run(broken), stored);
    let discarded = Outcome { whole: Upload::Stored(18), cancelled: Upload::Discarded(8) };
    assert_eq!(run(fixed), discarded);
}

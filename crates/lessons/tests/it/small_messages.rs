use lessons::small_messages::{Outcome, Stream, broken, fixed};
use tonic::Code;

use crate::run;

#[test]
fn a_pause_ends_the_streams_of_others_unless_the_windows_fit() {
    let Outcome { ana, ben } = run(broken);
    for lost in [ana, ben] {
        let Stream::Lost(code, source) = lost else { panic!("goes on") };
        assert_eq!(code, Code::ResourceExhausted);
        assert!(source.contains("too_many_data_frames"), "{source}");
    }
    assert_eq!(run(fixed), Outcome { ana: Stream::Goes, ben: Stream::Goes });
}

use lessons::unbounded::{Outcome, broken, fixed};
use tonic::Code;

use crate::run;

#[test]
fn a_burst_takes_all_the_memory_that_it_wants_unless_there_are_places() {
    let everything = Outcome { taken: 512, refused: 0, kept: 32 << 20, next: Code::Ok };
    assert_eq!(run(broken), everything);
    let bounded = Outcome { taken: 32, refused: 480, kept: 2 << 20, next: Code::ResourceExhausted };
    assert_eq!(run(fixed), bounded);
}

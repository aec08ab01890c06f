use lessons::lost_in_lag::{Outcome, broken, fixed};

use crate::run;

#[test]
fn a_slow_reader_loses_events_unless_it_reads_a_log() {
    let Outcome { got, lost } = run(broken);
    assert!(lost > 0, "{got} events, {lost} lost");
    assert_eq!(got + lost, 100_000);
    assert_eq!(run(fixed), Outcome { got: 100_000, lost: 0 });
}

use lessons::wrong_mode::{Better, Delivered, broken, fixed};

use crate::run;

#[test]
fn each_way_delivers_all_readings_in_ever_fewer_messages_and_bytes() {
    let calls = run(broken);
    assert_eq!(calls.delivered, Delivered { requests: 10_000, answers: 10_000, recorded: 10_000 });
    let Better { stream, columns } = run(fixed);
    assert_eq!(stream.delivered, Delivered { requests: 10_000, answers: 1, recorded: 10_000 });
    assert_eq!(columns.delivered, Delivered { requests: 10, answers: 1, recorded: 10_000 });

    let [calls_bytes, stream_bytes, columns_bytes] = [calls.bytes, stream.bytes, columns.bytes];
    assert!(calls_bytes > 3 * stream_bytes, "{calls_bytes} and {stream_bytes}");
    assert!(stream_bytes > columns_bytes, "{stream_bytes} and {columns_bytes}");
    // 16 bytes a reading are what is to be said.
    assert!((160_000..170_000).contains(&columns_bytes), "{columns_bytes}");
}

//! What is true of any input.

use std::collections::HashMap;

use shared_proto::limits::TIMESTAMP_SECONDS;

use super::{Batch, Portion, Refused, batches::BATCH, read_from};

/// Reads bytes as a file is read and as a stream is, and panics unless both
/// bring the same rows in order.
pub fn readings(bytes: &[u8]) {
    let [file, stream] = [false, true].map(|prompt| rows(bytes, prompt));
    assert_eq!(file, stream, "as a file and as a stream");
}

/// By lines, each with its device and reading, or why there is none. NaN is what
/// it is, so they are compared as text.
fn rows(bytes: &[u8], prompt: bool) -> Vec<(u64, String)> {
    let mut rows = Vec::new();
    let mut sequences = HashMap::new();
    let read = read_from(bytes, &indicatif::ProgressBar::hidden(), prompt, |portion| {
        let Portion { batches, refused } = portion;
        for Batch { device, sequence, readings } in batches {
            let last = sequences.insert(device.clone(), sequence).unwrap_or_default();
            assert_eq!(sequence, last + 1, "batches are numbered");
            assert!((1..=BATCH).contains(&readings.len()));
            assert!(readings.is_sorted_by(|one, next| one.line < next.line));
            for reading in readings {
                let in_range = |time: prost_types::Timestamp| {
                    TIMESTAMP_SECONDS.contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos)
                };
                assert!(reading.time.is_some_and(in_range), "{reading:?}");
                rows.push((reading.line, format!("{device:?} {reading:?}")));
            }
        }
        assert!(refused.is_sorted_by(|one, next| one.line < next.line));
        rows.extend(refused.into_iter().map(|Refused { line, reason }| (line, reason)));
        true
    });
    rows.sort();
    assert!(rows.is_sorted_by(|(one, _), (next, _)| one < next), "a line counts once");
    if let Err(error) = read {
        rows.push((0, error.to_string()));
    }
    rows
}

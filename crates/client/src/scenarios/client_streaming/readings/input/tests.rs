use std::collections::HashMap;

use prost_types::Timestamp;

use super::{
    batches::{BATCH, DEVICES},
    *,
};
use crate::lines::LONGEST_LINE;

/// The rows with their devices, in the order of their lines.
type Rows = (Vec<(String, Reading)>, Vec<Refused>);

fn all(input: &[u8]) -> Result<Rows, String> {
    let (mut readings, mut refused) = (Vec::new(), Vec::new());
    read_from(input, &ProgressBar::hidden(), true, |portion| {
        for Batch { device, readings: batch, .. } in portion.batches {
            readings.extend(batch.into_iter().map(|reading| (device.clone(), reading)));
        }
        refused.extend(portion.refused);
        true
    })
    .map_err(|error| error.to_string())?;
    readings.sort_by_key(|(_, reading)| reading.line);
    Ok((readings, refused))
}

fn values(input: &[u8]) -> Vec<(u64, String, f64)> {
    let (readings, refused) = all(input).unwrap();
    assert_eq!(refused, []);
    readings.into_iter().map(|(device, r)| (r.line, device, r.value)).collect()
}

#[test]
fn tables_and_json_lines_say_the_same() {
    let table = b"device,time,value\na,2026-01-02T03:04:05.5Z,1.5\n\nb,1767323045.5,-2e3\n";
    let json = br#"{"device":"a","time":"2026-01-02T03:04:05.5Z","value":1.5}

                   {"device":"b","time":1767323045.5,"value":-2e3}"#;
    let (mut from_table, _) = all(table).unwrap();
    let (from_json, _) = all(json).unwrap();
    assert_eq!(from_table[0].1.time, from_table[1].1.time);
    for (_, reading) in &mut from_table {
        reading.line -= 1;
    }
    assert_eq!(from_table, from_json);
}

#[test]
fn columns_are_found_by_name_and_line_ends_do_not_matter() {
    let table = b"\xef\xbb\xbfValue, note ,DEVICE,time\r\n1,\"x,y\",\"a \"\"b\"\"\",0\r\n2,,c,0";
    assert_eq!(values(table), [(2, "a \"b\"".to_owned(), 1.0), (3, "c".to_owned(), 2.0)]);
}

#[test]
fn rows_that_are_no_readings_are_refused_with_their_line() {
    let table =
        b"device,time,value\na,0\na,0,x\n\na,yesterday,1\n\"open,0,1\na,0,1\n\xff,0,1\na,1e300,1\nb,0,nan\n";
    let (readings, refused) = all(table).unwrap();
    assert_eq!(readings.iter().map(|(_, r)| r.line).collect::<Vec<_>>(), [7, 10]);
    let refused: Vec<_> = refused.iter().map(|r| (r.line, r.reason.as_str())).collect();
    assert_eq!(
        refused,
        [
            (2, "the row has 2 columns, too few"),
            (3, "value \"x\" is not a number"),
            (5, "time \"yesterday\" is neither RFC 3339 nor Unix seconds"),
            (6, "the row has 1 column, too few"),
            (8, "the row is not UTF-8"),
            (9, "time 1e300 is outside the years 1 to 9999"),
        ]
    );
}

#[test]
fn a_time_is_within_what_a_timestamp_can_be() {
    // As it was found by `just fuzz`.
    let table = b"device,time,value\na\0\0(\x08,-2026-01-02T03:04:05.5Z,1.5\n";
    let (readings, refused) = all(table).unwrap();
    assert_eq!((readings.len(), refused.len()), (0, 1));
    assert_eq!(refused[0].reason, "time \"-2026-01-02T03:04:05.5Z\" is outside the years 1 to 9999");
    let (readings, _) = all(b"device,time,value\na,-1e-20,1\n").unwrap();
    assert_eq!(readings[0].1.time, Some(Timestamp { seconds: -1, nanos: 999_999_999 }));
}

#[test]
fn a_line_without_end_is_refused_in_bounded_memory() {
    let mut table = b"device,time,value\n".to_vec();
    table.resize(table.len() + 10 * LONGEST_LINE, b'x');
    table.extend_from_slice(b"\na,0,1\n");
    let (readings, refused) = all(&table).unwrap();
    assert_eq!((readings.len(), readings[0].1.line), (1, 3));
    assert_eq!((refused.len(), refused[0].line), (1, 2));
}

#[test]
fn what_is_no_input_at_all_is_an_error() {
    let error = |input: &[u8]| all(input).unwrap_err();
    assert_eq!(error(b""), "is empty");
    assert_eq!(error(b"\n \n"), "is empty");
    assert_eq!(error(b"device,time,value\n\n"), "has a header and no rows");
    assert!(error(b"\x7fELF\x02\x01\x01\0\0").starts_with("is no text"));
    assert!(error(b"\xff\xfe").starts_with("is no text"));
    assert!(error(b"a,b,c\n1,2,3\n").contains("device, time and value"));
    assert!(error(b"[1]\n").contains("device, time and value"));
}

/// The batches of an input that comes in pieces of this size.
fn batches(input: &[u8], piece: usize, prompt: bool) -> Vec<Batch> {
    struct Pieces<'a>(&'a [u8], usize);
    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(buffer.len());
            self.0.read(&mut buffer[..length])
        }
    }
    let mut batches = Vec::new();
    read_from(Pieces(input, piece), &ProgressBar::hidden(), prompt, |portion| {
        batches.extend(portion.batches);
        true
    })
    .unwrap();
    batches
}

fn table(rows: usize, devices: usize) -> Vec<u8> {
    let rows = (0..rows).map(|row| format!("d{},{row},1\n", row * row % devices));
    ["device,time,value\n".to_owned()].into_iter().chain(rows).collect::<String>().into_bytes()
}

#[test]
fn batches_are_of_one_device_each_full_and_numbered_without_a_gap() {
    let table = table(200_000, 97);
    let mut last: HashMap<String, (u64, u64)> = HashMap::new();
    let mut rows = 0;
    for batch in batches(&table, 1000, false) {
        let (sequence, line) = last.entry(batch.device).or_default();
        assert_eq!(batch.sequence, *sequence + 1);
        *sequence = batch.sequence;
        assert!((1..=BATCH).contains(&batch.readings.len()));
        for reading in batch.readings {
            assert!(reading.line > *line);
            *line = reading.line;
            rows += 1;
        }
    }
    assert_eq!(rows, 200_000);
}

#[test]
fn the_batches_of_a_file_do_not_depend_on_how_it_is_read() {
    // So many devices that batches leave before they are full.
    let table = table(200_000, 9_973);
    let whole = batches(&table, usize::MAX, false);
    for piece in [37, 4096] {
        assert!(batches(&table, piece, false) == whole);
    }
    assert!(whole.iter().all(|batch| batch.readings.len() <= BATCH));
    assert!(whole.len() > 10_000, "{}", whole.len());
}

#[test]
fn rows_of_a_pipe_are_not_held_back() {
    let table = b"device,time,value\na,0,1\nb,0,1\n";
    let sequences = |batches: Vec<Batch>| batches.iter().map(|batch| batch.sequence).collect::<Vec<_>>();
    assert_eq!(sequences(batches(table, 1, true)), [1, 1]);
    let table = b"device,time,value\na,0,1\na,0,1\n";
    assert_eq!(sequences(batches(table, 1, true)), [1, 2]);
    assert_eq!(sequences(batches(table, 1, false)), [1]);
}

#[test]
fn devices_are_bounded() {
    let rows = (0..DEVICES + 5).map(|n| format!("d{n},0,1\n")).collect::<String>();
    let (readings, refused) = all(format!("device,time,value\n{rows}d7,0,1\n").as_bytes()).unwrap();
    assert_eq!((readings.len(), refused.len()), (DEVICES + 1, 5));
    assert!(refused[0].reason.contains("10000"), "{refused:?}");
}

#[test]
fn a_file_has_the_name_of_its_content_and_must_not_change() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let read = |change: Option<&[u8]>| {
        let mut name = None;
        let read = read(file.path(), &ProgressBar::hidden(), |input| {
            if let Input::Producer(producer) = input {
                name = producer;
                change.inspect(|content| std::fs::write(&file, content).unwrap());
            }
            true
        });
        read.map(|()| name.unwrap()).map_err(|failure| failure.message().to_owned())
    };
    std::fs::write(&file, "device,time,value\na,0,1\n").unwrap();
    let name = read(None).unwrap();
    assert_eq!((read(None), name.len()), (Ok(name.clone()), 64));
    // What is appended is for the next time.
    assert_eq!(read(Some(b"device,time,value\na,0,1\na,0,2\n")), Ok(name.clone()));
    assert_ne!(read(None), Ok(name));
    assert!(read(Some(b"device,time,value\na,0,1\na,0,3\n")).unwrap_err().contains("changed"));
    assert!(read(Some(b"device,time,value\na,0,1\n")).unwrap_err().contains("changed"));
}

use std::collections::HashMap;

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
    let table = b"\xef\xbb\xbfValue, note ,DEVICE,time\r\n1,\"x,y\",\"a \"\"b\"\"\",0\r2,,c,0";
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
            (2, "the row has 2 columns, the header 3"),
            (3, "value \"x\" is not a number"),
            (5, "time \"yesterday\" is neither RFC 3339 nor Unix seconds"),
            (6, "a quotation mark is not closed"),
            (8, "the row is not UTF-8"),
            (9, "time \"1e300\" is neither RFC 3339 nor Unix seconds"),
        ]
    );
}

#[test]
fn a_time_is_within_what_a_timestamp_can_be() {
    // As it was found by `just fuzz`.
    let table = b"device,time,value\na\0\0(\x08,-2026-01-02T03:04:05.5Z,1.5\n";
    let (readings, refused) = all(table).unwrap();
    assert_eq!((readings.len(), refused.len()), (0, 1));
    assert_eq!(
        refused[0].reason,
        "time \"-2026-01-02T03:04:05.5Z\" is not RFC 3339 in full, such as 2026-01-02T03:04:05Z with its offset"
    );
}

#[test]
fn a_time_is_rfc_3339_or_unix_seconds_and_nothing_is_guessed() {
    let read = |time: &str| {
        let of = |input: String| {
            let (readings, refused) = all(input.as_bytes()).unwrap();
            let time = readings.first().map(|(_, reading)| reading.time.unwrap());
            time.map(|time| (time.seconds, time.nanos)).ok_or_else(|| refused[0].reason.clone())
        };
        let from_table = of(format!("device,time,value\na,{time},1\n"));
        assert_eq!(of(format!("{{\"device\":\"a\",\"time\":{time:?},\"value\":1}}\n")), from_table);
        if time.parse().is_ok_and(f64::is_finite) {
            assert_eq!(of(format!("{{\"device\":\"a\",\"time\":{time},\"value\":1}}\n")), from_table);
        }
        from_table
    };
    for (text, time) in [
        ("0", (0, 0)),
        ("4294967295", (4_294_967_295, 0)),
        ("1767323045.123456789", (1_767_323_045, 123_456_789)),
        ("20261302", (20_261_302, 0)),
        ("1970-01-01T00:00:01Z", (1, 0)),
        ("1970-01-01t01:00:00.25+00:30", (1800, 250_000_000)),
        ("1970-01-01 00:00:00-01:00", (3600, 0)),
        ("0001-01-01T00:00:00Z", (-62_135_596_800, 0)),
    ] {
        assert_eq!(read(text), Ok(time), "{text}");
    }
    for (text, reason) in [
        ("20260102", "reads as a date"),
        ("20260102030405", "from 0 to 4294967295"),
        ("1767323045123", "from 0 to 4294967295"),
        ("-1", "from 0 to 4294967295"),
        ("0.1234567891", "more than nine decimals"),
        ("1e9", "neither"),
        ("2026-01-02", "with its offset"),
        ("2026-01-02T03:04:05", "with its offset"),
        ("2026-01-02T03:04:05+01", "with its offset"),
        ("2026-01-02T03:04:05+0100", "with its offset"),
        ("2026-01-02T03:04:05 Z", "with its offset"),
        ("+12026-01-02T03:04:05Z", "with its offset"),
        ("2026-01-02T03:04:05.1234567891Z", "with its offset"),
        ("2026-02-30T03:04:05Z", "neither"),
        ("2026-01-02T25:04:05Z", "neither"),
        ("0000-01-01T00:00:00Z", "outside the years 1 to 9999"),
        ("nan", "neither"),
        ("1.5.2", "neither"),
        ("", "neither"),
    ] {
        assert!(read(text).unwrap_err().contains(reason), "{text}: {:?}", read(text));
    }
}

/// The lines that count, and those that are refused.
fn lines_of(table: &str) -> (Vec<u64>, Vec<u64>) {
    let (readings, refused) = all(format!("device,time,value,note\n{table}").as_bytes()).unwrap();
    (readings.iter().map(|(_, r)| r.line).collect(), refused.iter().map(|r| r.line).collect())
}

#[test]
fn a_row_is_what_rfc_4180_says_or_refused() {
    // A line end within quotation marks is no end of a row.
    assert_eq!(lines_of("a,0,1,\"x\nb,0,99,y\"\nc,0,2,z\n"), (vec![2, 4], vec![]));
    assert_eq!(lines_of("a,0,1,\"x\r\n\r\n,,\"\"\"\rc,0,2,z"), (vec![2, 5], vec![]));
    // Each column has its place.
    assert_eq!(lines_of("a,0,20,96,\na,0,1\na,0,1,\n"), (vec![4], vec![2, 3]));
    // What follows a mark that is not closed counts.
    let rows = "b,1,2,\n".repeat(100);
    assert_eq!(lines_of(&format!("a,0,\"5,\n{rows}")), ((3..103).collect(), vec![2]));
    assert_eq!(lines_of(&format!("a,0,\"5,\n{}", rows.repeat(500))).1, [2]);
    assert_eq!(lines_of("a,0,1,\"x\nb,0,1,\"y\"\nc,0,1,\n"), (vec![3, 4], vec![2]));
    // A mark in the wrong place is no part of a value, and begins nothing.
    assert_eq!(lines_of("a,0,1, \"x\nb,0,99,y\"\nc,0,1,\n"), (vec![4], vec![2, 3]));
    assert_eq!(lines_of("a,0,\"1\"2,\na\"b,0,1,\n"), (vec![], vec![2, 3]));
    // A row that is refused has all of its lines.
    let (_, refused) = all(b"device,time,value\na,0,\"1\nb,0,2\n\"\nc,0,1\n").unwrap();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].reason.ends_with("; the row goes on to line 4"), "{refused:?}");
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
    assert!(error(b"\x7fELF\x02\x01\x01\0\0").starts_with("is not text"));
    assert!(error(b"\xff\xfe").starts_with("is not text"));
    assert!(error(b"a,b,c\n1,2,3\n").contains("device, time and value"));
    assert!(error(b"[1]\n").contains("device, time and value"));
    assert!(error(b"device;time;value\na;0;1,5\n").contains("semicolons"));
    assert!(error(b"device\ttime\tvalue\na\t0\t1\n").contains("tabs"));
    assert!(error(b"device,time,value,Value\na,0,1,2\n").contains("more than one column value"));
    assert!(error(b"device,time,\"value\na,0,1\n").contains("not closed"));
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

#[cfg(unix)]
#[test]
fn a_pipe_loses_nothing_to_the_look_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    check(&pipe).unwrap();
    let path = pipe.clone();
    let writer = std::thread::spawn(move || std::fs::write(path, "device,time,value\na,0,1\n"));
    let mut rows = 0;
    read(&pipe, &ProgressBar::hidden(), |input| {
        if let Input::Portion(portion) = input {
            rows += portion.batches.iter().map(|batch| batch.readings.len()).sum::<usize>();
        }
        true
    })
    .unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(rows, 1);
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

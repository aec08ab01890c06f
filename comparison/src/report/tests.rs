use std::fs;

use super::{Report, markdown, notes, svg};

/// A run of which something of each kind is there; times in it are round.
fn report() -> Report {
    let spread =
        |median: f64| serde_json::json!({"median": median, "least": median - 0.1, "most": median + 0.1});
    let rate = |work: &str, contestant: &str, ratio: f64, rounds: [f64; 3]| {
        serde_json::json!({
            "work": work, "contestant": contestant, "per_cpu_second": spread(12345.0), "per_second": spread(999.0),
            "ratio": spread(ratio), "ratio_by_clock": spread(ratio), "rounds_per_cpu_second": rounds,
        })
    };
    let slow = |work: &str, ratio: f64| {
        let mut rate = rate(work, "bare-tonic", 1.0, [1.0, 1.0, 1.0]);
        rate["answers"] =
            serde_json::json!({"p50": spread(120.0), "p99": spread(250.0), "ratio": spread(ratio)});
        rate
    };
    let latency = |p99: f64| serde_json::json!({"count": 10, "p50": 50, "p90": 90, "p99": p99, "p999": 999, "max": 9999});
    let mut report: Report = serde_json::from_value(serde_json::json!({
        "machine": {"cpu": "An abacus", "cores": 2, "memory_bytes": 8 << 30, "os": "Nothing 1", "kernel": "0.1"},
        "versions": {
            "profile": "release", "commit": "abc", "rustc": "1.95.0", "tonic": "0.14.9", "h2": "0.4.20",
            "hyper": "1.12.0", "tokio": "1.54.1", "stacks": {"grpc-cpp": "1.51.1", "grpc-java": "1.85.1"},
        },
        "command": "comparison run", "rounds": 3, "each_seconds": 1.0, "goals": [],
        "rates": [
            rate("unary64", "ours", 1.0, [1.0, 1.0, 1.0]),
            rate("unary64", "h2", 0.58, [1.0, 1.0, 1.0]),
            rate("unary64", "bare-tonic", 1.31, [1.0, 1.0, 1.0]),
            rate("unary64", "grpc-go", 2.5, [1.0, 1.0, 1.0]),
            rate("server-streaming", "ours", 1.0, [1.0, 1.0, 1.0]),
            rate("server-streaming", "grpc-cpp", 1.5, [1.0, 1.0, 1.0]),
            rate("server-streaming", "grpc-java", 2.5, [1.0, 1.0, 1.0]),
            rate("client-streaming", "ours", 1.0, [1.0, 1.0, 1.0]),
            rate("client-streaming", "grpc-cpp", 2.5, [1.0, 1.0, 1.0]),
            rate("client-streaming", "grpc-java", 0.9, [1.0, 1.0, 1.0]),
            slow("bidi-ping-pong", 1.04),
            rate("values", "ours", 1.0, [10.0, 10.0, 20.0]),
            rate("columnar", "ours", 1.0, [40.0, 50.0, 60.0]),
        ],
        "durable": {"bytes": 1 << 30, "upload_seconds": [2.0, 4.0], "copy_seconds": [1.5, 2.0]},
        "memory": {
            "streams": 10000, "connections": 100,
            "rounds": [
                {"before": 10 << 20, "open": 210 << 20, "closed": 200 << 20, "after": 30 << 20, "after_seconds": 1.5, "after_calls": 10 << 20},
                {"before": 30 << 20, "open": 210 << 20, "closed": 200 << 20, "after": 60 << 20, "after_seconds": 2.5, "after_calls": 10 << 20},
            ],
        },
        "beside": {
            "highest_per_second": 40000, "per_second": 20000, "alone": [latency(100.0)],
            "beside_upload": [latency(310.0)], "upload_bytes_per_second": [1 << 30],
        },
        "streams": [{
            "contestant": "ours", "streams": 1, "connections": 1,
            "per_second": {"median": 1, "least": 1, "most": 1}, "per_cpu_second": {"median": 2, "least": 1, "most": 3},
        }],
        "sizes": [],
        "costs": [
            {"work": "unary1", "contestant": "ours", "program": 12.0, "kernel": 30.0, "sleeps": 1.0,
             "system_calls": {"epoll_wait": 2.0, "recvfrom": 1.0, "futex": 0.0001}},
            {"work": "unary1", "contestant": "tcp", "program": 1.0, "kernel": 20.0, "sleeps": 1.0, "system_calls": {}},
        ],
    }))
    .unwrap();
    report.judge();
    report
}

/// What the page says in the row of a goal.
fn row<'a>(page: &'a str, key: &str) -> Vec<&'a str> {
    let line = page.lines().find(|line| line.ends_with(&format!("| `{key}` |"))).unwrap();
    line.split('|').map(str::trim).skip(3).take(4).collect()
}

#[test]
fn the_page_says_of_each_goal_what_was_measured_and_whether_it_holds() {
    let page = markdown::page(&report(), &notes::Notes::new());
    assert_eq!(row(&page, "unary64-h2"), ["at least 0.6×", "0.58×", "0.48× to 0.68×", "no"]);
    // Beside the best of the other stacks.
    assert_eq!(row(&page, "unary64"), ["at least 1.1×", "1.31×", "1.21× to 1.41×", "yes"]);
    assert_eq!(row(&page, "unary64-clock"), ["at least 1.1×", "1.31×", "1.21× to 1.41×", "yes"]);
    assert_eq!(row(&page, "server-streaming"), ["at least 1×", "1.5×", "1.4× to 1.6×", "yes"]);
    assert_eq!(row(&page, "client-streaming-clock"), ["at least 1×", "0.9×", "0.8× to 1×", "no"]);
    assert_eq!(row(&page, "bidi-ping-pong-p50"), ["at most 1×", "1.04×", "0.94× to 1.14×", "no"]);
    assert_eq!(row(&page, "unary1-p50"), ["at most 1×", "not measured", "", ""]);
    assert_eq!(row(&page, "grpc-go"), ["at least 2×", "2.5×", "2.4× to 2.6×", "yes"]);
    assert_eq!(row(&page, "unary1"), ["at least 1×", "not measured", "", ""]);
    assert_eq!(row(&page, "columnar"), ["at least 3.5×", "4×", "3× to 5×", "yes"]);
    assert_eq!(row(&page, "durable"), ["at least 0.8×", "0.75×", "0.5× to 0.75×", "no"]);
    assert_eq!(row(&page, "memory"), ["at most 150 MiB", "210 MiB", "210 MiB to 210 MiB", "no"]);
    // Of 200 MiB that the streams took 180 and 150 came back.
    assert_eq!(row(&page, "memory-given-back"), ["at least 90 %", "90 %", "75 % to 90 %", "yes"]);
    assert_eq!(row(&page, "memory-given-back-calls"), ["at least 90 %", "100 %", "100 % to 100 %", "yes"]);
    assert_eq!(row(&page, "beside"), ["at most 3×", "3.1×", "3.1× to 3.1×", "no"]);
}

#[test]
fn the_page_says_the_version_of_each_stack() {
    let page = markdown::page(&report(), &notes::Notes::new());
    let versions = page.lines().find(|line| line.starts_with("| versions |")).unwrap();
    assert!(versions.ends_with("tokio 1.54.1, grpc-cpp 1.51.1, grpc-java 1.85.1 |"), "{versions}");
}

#[test]
fn the_page_says_how_long_answers_took_and_what_an_operation_costs() {
    let page = markdown::page(&report(), &notes::Notes::new());
    let by = |of: &str| {
        page.lines().filter(|line| line.contains(&format!("| {of} |"))).collect::<Vec<_>>().join("\n")
    };
    assert!(by("bare-tonic").contains("| 120 µs | 250 µs |"), "{page}");
    let costs = page.split("## Where the time goes").nth(1).unwrap();
    assert!(
        costs.contains("| `unary1` | server | 12 µs | 30 µs | 1.000 | epoll_wait 2.000, recvfrom 1.000 |"),
        "{costs}"
    );
    assert!(costs.contains("|  | tcp | 1 µs | 20 µs | 1.000 |  |"), "{costs}");
}

#[test]
fn what_was_not_measured_has_no_section_and_no_picture() {
    let report = report();
    let page = markdown::page(&report, &notes::Notes::new());
    assert!(page.contains("## More streams") && !page.contains("## Longer messages"), "{page}");
    let pictures: Vec<_> = svg::figures(&report).into_iter().map(|(name, _)| name).collect();
    assert_eq!(pictures, ["goals", "streams"]);
    for name in pictures {
        assert!(page.contains(&format!("]({})", svg::path(name))), "{page}");
    }
}

#[test]
fn a_note_stands_below_the_table_with_the_figures_of_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("notes.md");
    fs::write(&file, "For those who write.\n\n## unary64-h2\n\nIt has {unary64-h2}, and\n{durable}.\n")
        .unwrap();
    let page = markdown::page(&report(), &notes::read(&file, &report()).unwrap());
    assert!(page.contains("\n### `unary64-h2`\n\nIt has 0.58×, and\n0.75×.\n"), "{page}");
    assert!(!page.contains("For those who write"), "{page}");
}

#[test]
fn a_note_about_something_else_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("notes.md");
    for (text, reason) in [
        ("## unary65\n\nWords.\n", "there is no goal \"unary65\"; there are unary1, "),
        ("## durable\n\n{unary65}\n", "there is no goal \"unary65\""),
        ("## durable\n\n{durable\n", "no } after {durable"),
        ("## durable\n\nWords.\n\n## durable\n\nOthers.\n", "durable has two notes"),
    ] {
        fs::write(&file, text).unwrap();
        let error = format!("{:#}", notes::read(&file, &report()).unwrap_err());
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn what_was_written_makes_the_same_page_again_and_what_nobody_explains_is_said() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("performance")).unwrap();
    fs::write(directory.path().join("performance/notes.md"), "## durable\n\nThe disk is slow.\n").unwrap();
    let written = report().write(directory.path()).unwrap();
    assert_eq!(
        written.unexplained,
        [
            "client-streaming",
            "client-streaming-clock",
            "bidi-ping-pong-p50",
            "unary64-h2",
            "memory",
            "beside"
        ]
    );
    let page = fs::read_to_string(directory.path().join("performance.md")).unwrap();
    let again = Report::read(&directory.path().join("performance/comparison.json")).unwrap();
    assert_eq!(again.write(directory.path()).unwrap(), written);
    assert_eq!(fs::read_to_string(directory.path().join("performance.md")).unwrap(), page);
}

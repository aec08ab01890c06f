//! `fourmodes check` on paths of all kinds: one that is right, and one for each way
//! to be wrong.

mod bare;
mod faults;
mod output;
mod truth;

use std::collections::BTreeMap;

use serde_json::Value;
use test_support::Program;

/// What came of each check, by `group/name`.
type Outcomes = BTreeMap<String, Value>;

/// Runs it, and asserts that the lines make sense and fit to the exit status.
#[track_caller]
fn outcomes(client: Program) -> Outcomes {
    let ended = client.args("--output json").run();
    assert_eq!(ended.stderr, "", "{ended:?}");
    let (result, checks) =
        ended.json().split_last().map(|(last, rest)| (last.clone(), rest.to_vec())).unwrap();
    assert_eq!((&result["type"], &result["scenario"]), (&"result".into(), &"check".into()));
    let mut outcomes = Outcomes::new();
    for check in checks {
        let text =
            |field: &str| check[field].as_str().unwrap_or_else(|| panic!("no {field} in {check}")).to_owned();
        assert_eq!(text("type"), "check");
        let (cause, remedy) = (text("cause"), text("remedy"));
        match text("outcome").as_str() {
            "pass" => assert!(cause.is_empty() && remedy.is_empty(), "{check}"),
            "skip" => assert!(!cause.is_empty(), "{check}"),
            "warn" | "fail" => {
                assert!(!text("figure").is_empty() && !cause.is_empty() && !remedy.is_empty(), "{check}")
            }
            other => panic!("{other} is no outcome: {check}"),
        }
        let name = format!("{}/{}", text("group"), text("name"));
        assert!(outcomes.insert(name, check).is_none(), "twice: {outcomes:?}");
    }
    for verdict in ["pass", "warn", "fail", "skip"] {
        let count = outcomes.values().filter(|check| check["outcome"] == verdict).count();
        assert_eq!(result["value"][verdict], count, "{result}");
    }
    let failed = result["value"]["fail"] != 0;
    assert_eq!((result["ok"] == true, ended.code), (!failed, Some(i32::from(failed))), "{result}");
    outcomes
}

/// The client, with arguments that have no spaces in them.
fn client(arguments: &str) -> Program {
    Program::new(env!("CARGO_BIN_EXE_end-to-end-client")).args(arguments)
}

/// With `check` and what follows it.
fn check(url: &str, arguments: &str) -> Program {
    client("check").arg(url).args(arguments)
}

fn with(outcomes: &Outcomes, verdict: &str) -> Vec<String> {
    outcomes.iter().filter(|(_, check)| check["outcome"] == verdict).map(|(name, _)| name.clone()).collect()
}

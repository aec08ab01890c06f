use lessons::silent_peer::{Outcome, broken, fixed};
use tonic::Code;

use crate::run;

#[test]
fn silence_is_noticed_only_by_who_asks() {
    assert_eq!(run(broken), Outcome { client: None, server_let_go: false });
    let Outcome { client, server_let_go } = run(fixed);
    assert!(client.is_some_and(|code| code != Code::Ok), "{client:?}");
    assert!(server_let_go);
}

use std::net::SocketAddr;

use grpc_wire::Mode;
use tokio::net::TcpListener;

use super::Demonstration;
use crate::{
    cli::Cli, config::Config, scenario::Scenario as _, scenarios, session::Session, show, tour::Report,
};

async fn session() -> Session {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let config = server::config::Config::default();
    tokio::spawn(server::serve(listener, config, std::future::pending()));
    let cli = Cli::read(["fourmodes", "-q", "--server", &address, "tour"]).unwrap();
    let config = Config::of_calls(cli.options).unwrap();
    Session::open(&config, &show::timeline(&config, config.quiet, false).unwrap()).await.unwrap()
}

/// One that is not has to say why, in its file.
#[tokio::test(flavor = "multi_thread")]
async fn each_scenario_is_demonstrated_by_its_mode() {
    let session = session().await;
    for mode in Mode::ALL {
        let mut report = Report::default();
        Demonstration { mode }.run(&session, &mut report).await.unwrap();
        let steps = &report.modes[0].steps;
        for scenario in scenarios::of(mode) {
            let is_shown = steps.iter().any(|step| step.scenario == scenario.name);
            let is_exempt = scenario.not_demonstrated.is_some();
            let name = scenario.name;
            assert!(is_shown || is_exempt, "{mode} {name}: add a step to src/tour, or NOT_DEMONSTRATED");
            assert!(!is_shown || !is_exempt, "{mode} {name} is demonstrated: it needs no NOT_DEMONSTRATED");
        }
        let is_one = |name| scenarios::of(mode).iter().any(|scenario| scenario.name == name);
        assert!(steps.iter().all(|step| is_one(step.scenario)), "{mode}: {steps:?}");
    }
}

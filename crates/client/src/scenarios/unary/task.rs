//! How a task is getting on.

use clap::Args;
use shared_proto::fourmodes::v1::GetTaskRequest;
use uuid::Uuid;

use crate::{
    failure::Failure, scenario::Scenario, scenarios::task::Task as Report, session::Session, values::uuid,
};

/// Show the state of a task
#[derive(Debug, Args)]
pub(crate) struct Task {
    /// Id that `submit` printed
    #[arg(value_parser = uuid)]
    pub(crate) id: Uuid,
}

impl Scenario for Task {
    type Report = Report;

    async fn run(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        let request = GetTaskRequest { id: self.id.to_string() };
        let response = session
            .unary_where_it_is(request, async |mut client, request| client.get_task(request).await)
            .await?;
        *report = Report::of(response.task)?;
        Ok(())
    }
}

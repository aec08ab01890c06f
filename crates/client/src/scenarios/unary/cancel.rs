//! The end of a task before its time.

use clap::Args;
use shared_proto::fourmodes::v1::CancelTaskRequest;
use uuid::Uuid;

use crate::{
    failure::Failure, scenario::Scenario, scenarios::task::Task as Report, session::Session, values::uuid,
};

/// Cancel a task
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// Id that `submit` printed
    #[arg(value_parser = uuid)]
    pub(crate) id: Uuid,
}

impl Scenario for Cancel {
    type Report = Report;

    async fn run(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        let request = CancelTaskRequest { id: self.id.to_string() };
        let response = session
            .unary_where_it_is(request, async |mut client, request| client.cancel_task(request).await)
            .await?;
        *report = Report::of(response.task)?;
        Ok(())
    }
}

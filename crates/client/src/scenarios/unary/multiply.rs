//! A question and its answer, both as small as they can be.

use std::fmt;

use clap::Args;
use serde::Serialize;
use shared_proto::fourmodes::v1::MultiplyRequest;

use crate::{failure::Failure, scenario::Scenario, session::Session};

/// Multiply two integers
#[derive(Debug, Args)]
pub(crate) struct Multiply {
    /// One factor, a signed 64-bit integer
    #[arg(allow_negative_numbers = true)]
    pub(crate) a: i64,
    /// The other factor
    #[arg(allow_negative_numbers = true)]
    pub(crate) b: i64,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    a: i64,
    b: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<i64>,
}

impl Scenario for Multiply {
    type Report = Report;

    async fn run(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        let Self { a, b } = *self;
        (report.a, report.b) = (a, b);
        let request = MultiplyRequest { a, b };
        let response =
            session.unary(request, async |mut client, request| client.multiply(request).await).await?;
        report.product = Some(response.product);
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.product {
            Some(product) => write!(f, "{} × {} = {product}", self.a, self.b),
            None => Ok(()),
        }
    }
}

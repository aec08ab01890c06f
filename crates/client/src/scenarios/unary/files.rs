//! What was uploaded, page by page, and the end of it.

use std::fmt;

use clap::Args;
use indicatif::HumanBytes;
use serde::Serialize;
use shared_proto::fourmodes::v1::{DeleteFileRequest, ListFilesRequest};
use timeline::words::{counted, printable};

use crate::{failure::Failure, scenario::Scenario, session::Session};

/// How many files a page has.
const PAGE: i32 = 1000;

/// List uploaded files, or delete one
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// Delete this file, and its content unless another file has the same content
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub(crate) delete: Option<String>,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) files: Vec<File>,
    /// Whether they are gone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct File {
    name: String,
    resource_name: String,
    size_bytes: u64,
    blake3: String,
    commit_time: String,
}

impl Scenario for Files {
    type Report = Report;

    async fn run(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        session.goes_on_elsewhere();
        let mut page_token = String::new();
        loop {
            let request = ListFilesRequest { page_size: PAGE, page_token };
            let page = session
                .unary_at_home(request, async |mut client, request| client.list_files(request).await)
                .await?;
            report.files.extend(page.files.into_iter().map(|file| File {
                name: file.name,
                resource_name: file.resource_name,
                size_bytes: file.size_bytes,
                blake3: file.blake3,
                commit_time: file.commit_time.map(|time| time.to_string()).unwrap_or_default(),
            }));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let Some(name) = &self.delete else { return Ok(()) };
        report.files.retain(|file| file.name == *name);
        let [file] = &report.files[..] else {
            return Err(Failure::answer(format!(
                "the server has no file {name:?}; `unary files` lists its files"
            )));
        };
        // With the content: a request that is made again deletes no newer one.
        let request = DeleteFileRequest { name: name.clone(), resource_name: file.resource_name.clone() };
        session.unary_at_home(request, async |mut client, request| client.delete_file(request).await).await?;
        report.deleted = true;
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deleted = if self.deleted { " deleted" } else { "" };
        write!(f, "{}{deleted}", counted(self.files.len() as u64, "file"))?;
        for file in &self.files {
            let size = HumanBytes(file.size_bytes).to_string();
            let (time, blake3) = (printable(&file.commit_time), printable(&file.blake3));
            write!(f, "\n{size:>12}  {time:<30}  {blake3:.16}  {}", printable(&file.name))?;
        }
        Ok(())
    }
}

//! A verified, durable upload to the disk, compared with `cp` and an fsync of the same
//! file on the same disk. No process is pinned to a core.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    cores,
    progress::Progress,
    settings::Settings,
    statistics::Spread,
    target::{Target, beside_this, without_options},
};

/// In seconds, one entry per round.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Durable {
    pub(crate) bytes: u64,
    /// As our client reports it: from the first request to the response that confirms
    /// the file, without the time in which the client reads the file for its checksum.
    pub(crate) upload_seconds: Vec<f64>,
    /// `cp`, an fsync of the copy, and an fsync of its directory.
    pub(crate) copy_seconds: Vec<f64>,
}

impl Durable {
    /// The throughput of the upload as a fraction of the copy's.
    pub(crate) fn ratio(&self) -> Option<Spread> {
        Spread::ratio(&self.copy_seconds, &self.upload_seconds)
    }
}

pub(crate) fn measure(settings: &Settings, progress: &Progress) -> anyhow::Result<Durable> {
    cores::all();
    let scratch = Scratch::new()?;
    let source = scratch.0.join("source");
    progress.begin("durable", settings.rounds * 2 + 1);
    progress.step("the file");
    make(&source, settings.upload)?;
    let mut durable =
        Durable { bytes: settings.upload, upload_seconds: Vec::new(), copy_seconds: Vec::new() };
    for round in 0..settings.rounds {
        for turn in [round, round + 1] {
            if turn % 2 == 0 {
                progress.step("upload");
                durable.upload_seconds.push(upload(&source, settings, &scratch.0)?);
            } else {
                progress.step("cp");
                durable.copy_seconds.push(copy(&source, &scratch.0)?.as_secs_f64());
            }
        }
    }
    Ok(durable)
}

/// A directory beside this program, because the directory for temporary files may not
/// be on a disk. The name is fixed, so that the next run removes what an interrupted
/// run left.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let directory = beside_this("comparison-scratch")?;
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self(directory))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes incompressible data. Afterwards the file is in the page cache and on the
/// disk, so that no measurement waits for its writeback.
fn make(file: &Path, bytes: u64) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(1);
    let (mut writer, mut left) = (BufWriter::new(File::create(file)?), bytes);
    let mut chunk = vec![0; 1 << 20];
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        random.fill(&mut chunk[..length]);
        writer.write_all(&chunk[..length]).context("cannot write the file that is to be uploaded")?;
        left -= length as u64;
    }
    Ok(writer.into_inner().context("cannot write the file that is to be uploaded")?.sync_all()?)
}

fn copy(source: &Path, directory: &Path) -> anyhow::Result<Duration> {
    let copy = directory.join("copy");
    let begun = Instant::now();
    let copied = Command::new("cp").arg(source).arg(&copy).status().context("cp cannot be started")?;
    ensure!(copied.success(), "cp has ended with {copied}");
    File::open(&copy)?.sync_all()?;
    shared_process::sync_directory(directory)?;
    let took = begun.elapsed();
    remove(&copy, |copy| fs::remove_file(copy))?;
    Ok(took)
}

/// Uploads to a server that has just started with an empty data directory.
fn upload(source: &Path, settings: &Settings, directory: &Path) -> anyhow::Result<f64> {
    let data = directory.join("data");
    let bytes = settings.upload;
    let server = Target::ours_in(data.as_os_str(), settings)?;
    let mut client = Command::new(&settings.client);
    client.args(["client-streaming", "upload", "--output", "json", "--server"]);
    client.arg(format!("http://{}", server.address)).arg(source);
    let output = without_options(&mut client)
        .output()
        .with_context(|| format!("{} cannot be started", settings.client.display()))?;
    let lines = String::from_utf8_lossy(&output.stdout);
    let result = lines.lines().last().and_then(|line| serde_json::from_str::<Line>(line).ok());
    let failed = || format!("the upload failed: {lines}{}", String::from_utf8_lossy(&output.stderr));
    let Line { ok, value } = result.with_context(failed)?;
    ensure!(ok && !value.already_there && value.size == bytes, "{}", failed());
    drop(server);
    remove(&data, |data| fs::remove_dir_all(data))?;
    Ok(value.seconds)
}

/// The last line of the client's output.
#[derive(Deserialize)]
struct Line {
    ok: bool,
    value: Value,
}

#[derive(Deserialize)]
struct Value {
    size: u64,
    already_there: bool,
    seconds: f64,
}

/// Removes a file or directory and flushes that to the disk, so that the next
/// measurement finds the disk idle.
fn remove(what: &Path, by: impl FnOnce(&Path) -> std::io::Result<()>) -> anyhow::Result<()> {
    by(what).with_context(|| format!("cannot remove {}", what.display()))?;
    #[cfg(target_os = "linux")]
    rustix::fs::sync();
    Ok(())
}

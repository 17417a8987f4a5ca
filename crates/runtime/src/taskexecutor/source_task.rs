//! Runs a source: reads its splits, sends each word to the subtask that counts it, puts barriers in their place.
//!
//! What it reads, where it stands and which word goes where is decided in [`crate::dataflow`]; here are the file, the pace and
//! the channels.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use palisade_world::World;
use palisade_world::files::OpenFile;
use tokio::sync::mpsc;

use super::exchange_client::{ChannelBroken, ChannelSender};
use super::gate::ChannelItem;
use super::report::{Report, Reports};
use super::task_error::TaskError;
use crate::dataflow::align::CheckpointId;
use crate::dataflow::batch::RecordBatch;
use crate::dataflow::hash::partition;
use crate::dataflow::source::{Read, Source};
use crate::job::JobGraph;
use crate::jobmaster::checkpoints::TaskSnapshot;

/// Read at once; the largest pause between two barriers is what it takes to send this.
const READ_BYTES: u64 = 256 << 10;
/// Slowed-down sources read this much at once, so that their pace is even.
const PACED_READ_BYTES: u64 = 4 << 10;

/// Everything a source needs.
pub(crate) struct SourceTask {
    pub(crate) graph: Arc<JobGraph>,
    pub(crate) source: Source,
    /// By count subtask.
    pub(crate) channels: Vec<ChannelSender>,
    pub(crate) triggers: mpsc::Receiver<CheckpointId>,
    pub(crate) reports: Reports,
    pub(crate) world: World,
}

struct Output {
    channels: Vec<ChannelSender>,
    batches: Vec<RecordBatch>,
}

impl SourceTask {
    /// Runs to the end of the input. Dropping it ends it; what it sent is of no use to a later attempt.
    pub(crate) async fn run(self) -> Result<(), TaskError> {
        let SourceTask { graph, mut source, channels, mut triggers, reports, world } = self;
        let parallelism = graph.spec.parallelism;
        let batches = vec![RecordBatch::default(); channels.len()];
        let mut output = Output { channels, batches };
        let mut pace = Pace::new(&graph, &world);
        let read_bytes = if pace.is_some() { PACED_READ_BYTES } else { READ_BYTES };
        let mut input = InputFiles { world: world.clone(), graph: graph.clone(), open: None };
        loop {
            while let Ok(id) = triggers.try_recv() {
                checkpoint(id, &source, &mut output, &reports).await?;
            }
            let Some(read) = source.wants(read_bytes) else { break };
            let bytes;
            (input, bytes) = input.read(read).await?;
            let mut full = false;
            let emit = |word: &[u8]| {
                let to = usize::try_from(partition(word, parallelism)).expect("a u32 fits in a usize");
                output.batches[to].push(word);
                full |= output.batches[to].is_full();
            };
            source
                .feed(&bytes, emit)
                .map_err(|error| TaskError::Word { path: input.path(read.file), why: error.to_string() })?;
            if let Some(pace) = &mut pace {
                output.flush().await?;
                let due = pace.after(u64::try_from(bytes.len()).expect("a usize fits in a u64"));
                while world.now() < due {
                    tokio::select! {
                        () = world.sleep_until(due) => {}
                        Some(id) = triggers.recv() => checkpoint(id, &source, &mut output, &reports).await?,
                    }
                }
            } else if full {
                output.flush().await?;
            }
        }
        output.flush().await?;
        output.end().await?;
        reports.send(Report::SourceEnded(source.position())).await;
        Ok(())
    }
}

async fn checkpoint(
    id: CheckpointId,
    source: &Source,
    output: &mut Output,
    reports: &Reports,
) -> Result<(), ChannelBroken> {
    output.flush().await?;
    for channel in &mut output.channels {
        channel.send(ChannelItem::Barrier(id)).await?;
    }
    reports.send(Report::Acknowledge(id, TaskSnapshot::Source(source.position()))).await;
    Ok(())
}

impl Output {
    async fn flush(&mut self) -> Result<(), ChannelBroken> {
        for (batch, channel) in self.batches.iter_mut().zip(&mut self.channels) {
            if !batch.is_empty() {
                channel.send(ChannelItem::Records(Bytes::from(batch.take()))).await?;
            }
        }
        Ok(())
    }

    async fn end(mut self) -> Result<(), ChannelBroken> {
        for channel in &mut self.channels {
            channel.send(ChannelItem::End).await?;
        }
        for channel in self.channels {
            channel.finish().await?;
        }
        Ok(())
    }
}

/// How fast a slowed-down source may read.
struct Pace {
    start: Duration,
    bytes_per_second: f64,
    read: u64,
}

impl Pace {
    fn new(graph: &JobGraph, world: &World) -> Option<Pace> {
        let of_all = graph.spec.source_bytes_per_second.filter(|rate| *rate > 0)?;
        #[allow(clippy::cast_precision_loss)] // a rate
        let bytes_per_second = of_all as f64 / f64::from(graph.spec.parallelism.max(1));
        Some(Pace { start: world.now(), bytes_per_second, read: 0 })
    }

    /// When the next read may begin.
    fn after(&mut self, bytes: u64) -> Duration {
        self.read += bytes;
        #[allow(clippy::cast_precision_loss)] // a rate
        let seconds = self.read as f64 / self.bytes_per_second;
        self.start + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 2)
    }
}

/// Reads ranges of the job's files; keeps the last one open.
struct InputFiles {
    world: World,
    graph: Arc<JobGraph>,
    open: Option<(usize, Box<dyn OpenFile>)>,
}

impl InputFiles {
    fn path(&self, file: usize) -> PathBuf {
        self.graph.files.get(file).map(|input| input.path.to_path()).unwrap_or_default()
    }

    async fn read(mut self, read: Read) -> Result<(InputFiles, Vec<u8>), TaskError> {
        let world = self.world.clone();
        let work = move || {
            let bytes = self.read_blocking(read);
            bytes.map(|bytes| (self, bytes))
        };
        world.blocking("read input", work).await.map_err(|_| TaskError::Panicked)?
    }

    fn read_blocking(&mut self, read: Read) -> Result<Vec<u8>, TaskError> {
        let path = self.path(read.file);
        let failed = |error| TaskError::Input { path: path.clone(), error };
        if self.open.as_ref().is_none_or(|(open, _)| *open != read.file) {
            self.open = Some((read.file, self.world.files().open(&path).map_err(failed)?));
        }
        let Some((_, file)) = &self.open else { return Err(TaskError::Panicked) };
        let mut bytes = vec![0; usize::try_from(read.length).unwrap_or(usize::MAX)];
        match file.read_exact_at(&mut bytes, read.offset) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(TaskError::Shrunk { path }),
            Err(error) => Err(failed(error)),
        }
    }
}

//! What operators and their machines ask of a running process: `--metrics H:P` serves `/metrics` for Prometheus, `/healthz`
//! (it is alive) and `/readyz` (it serves), over plain HTTP and apart from the port of clients.
//!
//! Reading order: here (who is asked), `http` (how), `subjects` (what each kind of process says), `process` (what every process
//! says about itself).
//!
//! Keeps true: whoever asks too much or too slowly costs a bounded number of connections, and nothing else.

mod http;
mod process;
mod subjects;

use std::path::PathBuf;
use std::sync::Arc;

use palisade_metrics::Page;
use palisade_world::{Task, World};

use self::http::{Answer, Request};
use crate::exit::Failure;

/// What a running process can be asked.
pub(crate) trait Subject: Send + Sync + 'static {
    /// Writes what it counts.
    fn write(&self, page: &mut Page);
    /// Why it does not serve; empty: it does.
    fn problems(&self) -> Vec<String>;
}

/// A folder whose disk is watched.
pub(crate) struct Folder {
    /// The flag that named it.
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    /// Whether its files are counted: only a folder that holds few.
    pub(crate) walk: bool,
}

/// Serves until it is dropped. It lets go of what it asks when it ends.
pub(crate) struct Ops(Option<Task<()>>);

impl Ops {
    /// Ends it; nothing is held any more when this returns.
    pub(crate) async fn end(self) {
        if let Some(task) = self.0 {
            task.abort();
            let _ = task.await; // aborted is what was asked for
        }
    }
}

/// Starts serving, if an address was given, and says where on stderr.
pub(crate) async fn start(
    address: Option<&str>,
    name: &str,
    subject: impl Subject,
    folders: Vec<Folder>,
    world: &World,
) -> Result<Ops, Failure> {
    let Some(address) = address else { return Ok(Ops(None)) };
    crate::server::warn_if_open(address);
    let listener =
        world.bind(address).await.map_err(|error| Failure::usage("--metrics", address, error.to_string()))?;
    eprintln!("palisade: {name} serves metrics on {}", listener.local_addr());
    let asked = Arc::new(Asked { subject, folders, started_unix_ms: world.unix_ms() });
    let threads = world.clone();
    let answer = move |request: Request| {
        let (asked, world) = (Arc::clone(&asked), threads.clone());
        // It looks at disks, which may stand still.
        async move {
            let answered = world.blocking("metrics page", move || asked.answer(&request)).await;
            answered.unwrap_or_else(|ended| Answer::text(503, format!("{ended}\n")))
        }
    };
    Ok(Ops(Some(world.spawn("metrics", http::serve(listener, answer, world.clone())))))
}

struct Asked<S> {
    subject: S,
    folders: Vec<Folder>,
    started_unix_ms: u64,
}

impl<S: Subject> Asked<S> {
    fn answer(&self, request: &Request) -> Answer {
        match request.path.as_str() {
            "/metrics" => {
                let mut page = Page::new();
                self.subject.write(&mut page);
                process::write(&mut page, self.started_unix_ms, &self.folders);
                Answer { status: 200, kind: Page::CONTENT_TYPE, body: page.into_text() }
            }
            "/healthz" => Answer::text(200, "alive\n"),
            "/readyz" => match self.subject.problems() {
                problems if problems.is_empty() => Answer::text(200, "ready\n"),
                problems => Answer::text(503, format!("{}\n", problems.join("\n"))),
            },
            _ => Answer::text(404, "there are /metrics, /healthz and /readyz\n"),
        }
    }
}

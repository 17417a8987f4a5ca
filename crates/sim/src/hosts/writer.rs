//! A writer: puts, removes and reads a few registers that it shares with the other writers, and keeps honest books of what it
//! was told. Every other one names its requests, so that an unknown outcome is settled by asking again. Some of what it asks travels
//! on a data stream.

use std::time::Duration;

use palisade_client::{
    Client, DeleteOptions, Error, ErrorKind, Fence, Outcome, Pipeline, PutOptions, Session, SessionOptions,
};

use super::Process;
use super::candidate::ELECTIONS;
use crate::facts::{Deed, Ended, Fact, Found};

/// So many that what was acknowledged last is mostly not overwritten by the attempts of a whole outage before it is read.
const REGISTERS: u64 = 16;

/// One of the registers.
pub(super) fn register(number: u64) -> String {
    format!("register-{}", number % REGISTERS)
}

/// Runs until the simulation ends.
pub(crate) async fn run(process: Process) -> turmoil::Result {
    let client = process.client();
    // A client opens data streams to the store leader alone, which who is behind one node does not reach.
    let pipeline = (!process.plan.behind.contains_key(&process.who)).then(|| client.pipeline());
    let mut writer = Writer { client, pipeline, session: None, fence: None, process };
    let mut acknowledged: Option<String> = None;
    for number in 1_u64.. {
        let process = writer.process.clone();
        let (world, name) = (&process.world, format!("{}/{number}", process.name()));
        let key = register(world.random_u64());
        // What the write before this one was told must still be true, also after an outage that this write ends.
        let before = acknowledged.clone();
        if writer.write(&name, &key).await {
            acknowledged = Some(key);
        }
        let key =
            before.filter(|_| !world.random_u64().is_multiple_of(3)).unwrap_or_else(|| register(world.random_u64()));
        writer.read(&name, &key).await;
        world.sleep(Duration::from_millis(5) + world.jitter(Duration::from_millis(60))).await;
    }
    Ok(())
}

struct Writer {
    process: Process,
    client: Client,
    pipeline: Option<Pipeline>,
    /// Of those who name their requests.
    session: Option<Session>,
    /// The last token that it heard of, whoever holds it: some writes are made under it.
    fence: Option<Fence>,
}

impl Writer {
    fn saw(&self, fact: Fact) {
        self.process.witness.saw(self.process.who, fact);
    }

    /// Whether it was acknowledged.
    async fn write(&mut self, name: &str, key: &str) -> bool {
        let world = self.process.world.clone();
        if self.process.who.number.is_multiple_of(2) && self.session.is_none() {
            let ttl = Duration::from_millis(600 + world.random_u64() % 900);
            let options = SessionOptions { ttl, ..SessionOptions::default() };
            self.session = self.process.opens(&self.client, options).await.ok();
        }
        let fence = if world.random_u64().is_multiple_of(5) { self.token().await } else { None };
        let session = self.session.as_ref();
        let deed = if world.random_u64().is_multiple_of(5) { Deed::Delete } else { Deed::Put };
        let asked = Fact::WriteBegan { write: name.into(), key: key.into(), deed, session: session.map(Session::id) };
        self.saw(asked);
        let stream = self.stream("writes on a data stream");
        let applied = if deed == Deed::Put {
            let put = PutOptions { fence, session, ..PutOptions::new(key, name) };
            let done = match stream {
                Some(stream) => stream.put(put).await,
                None => self.client.put(put).await,
            };
            done.map(|put| (put.header, true))
        } else {
            let delete = DeleteOptions { fence, session, ..DeleteOptions::new(key) };
            let done = match stream {
                Some(stream) => stream.delete(delete).await,
                None => self.client.delete(delete).await,
            };
            done.map(|deleted| (deleted.header, deleted.deleted > Some(0)))
        };
        let ended = match &applied {
            Ok((header, changed)) => Ended::Applied { seq: header.seq, revision: header.revision, changed: *changed },
            Err(Error { outcome: Outcome::NotApplied, .. }) => Ended::NotApplied,
            Err(Error { outcome: Outcome::Unknown, .. }) => Ended::Unknown,
        };
        self.saw(Fact::WriteEnded { write: name.to_owned(), ended });
        match applied.map_err(|error| error.kind) {
            Err(ErrorKind::StaleToken) => self.fence = None,
            Err(ErrorKind::Forgotten | ErrorKind::SessionEnded) => {
                let left = self.session.take();
                left.iter().for_each(|session| self.process.leaves(session));
            }
            Ok(_) | Err(_) => {}
        }
        matches!(ended, Ended::Applied { .. })
    }

    /// The data stream, for a third of what is asked.
    fn stream(&self, counted_as: &'static str) -> Option<&Pipeline> {
        let stream = self.pipeline.as_ref().filter(|_| self.process.one_in(3));
        stream.iter().for_each(|_| self.process.witness.count(counted_as));
        stream
    }

    async fn token(&mut self) -> Option<Fence> {
        if self.fence.is_none() {
            self.fence = self.client.leader(ELECTIONS[0]).await.ok().flatten().map(|grant| grant.fence());
        }
        self.fence.clone()
    }

    async fn read(&self, name: &str, key: &str) {
        self.saw(Fact::ReadBegan { read: name.to_owned() });
        let got = match self.stream("reads on a data stream") {
            Some(stream) => stream.get(key.into()).await,
            None => self.client.get(key.into()).await,
        };
        let Ok(got) = got else { return };
        let found = got.kv.map(|kv| Found {
            write: String::from_utf8_lossy(&kv.value).into_owned(),
            mod_revision: kv.mod_revision,
            create_revision: kv.create_revision,
            version: kv.version,
        });
        let (read, key, seq, revision) = (name.to_owned(), key.to_owned(), got.header.seq, got.header.revision);
        self.saw(Fact::ReadEnded { read, key, seq, revision, found });
    }
}

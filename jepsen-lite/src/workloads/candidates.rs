//! Candidates of the harness's own, that speak the session stream themselves. Each keeps its leadership until the TTL and knows until
//! when it believes: the moment at which an acknowledged keep-alive was *sent*, plus the TTL. Two of them never believe at once, or
//! somebody was granted too early. They resign, close, are asked to hand over, lose their streams and attach again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jepsen_lite::history::{Record, Type, f};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;

use crate::api::v1::{self, client_frame, server_frame};
use crate::api::{Api, Outcome};
use crate::run::{Actor, ELECTION, Run, over};
use crate::session::{Line, Terms, open};
use crate::stage::SERVES_WITHIN;

const CANDIDATES: usize = 4;
/// Short, so that much happens; longer than a failover of the store.
pub(crate) const TTL: Duration = Duration::from_millis(1500);
const TERMS: Terms = Terms { ttl: TTL, release_after: None };

/// Who stands now, for the administrator.
type Standing = Arc<Mutex<BTreeMap<usize, String>>>;

pub(crate) fn start(run: &Run, tasks: &mut JoinSet<anyhow::Result<()>>) {
    let standing = Standing::default();
    for slot in 0..CANDIDATES {
        tasks.spawn(stand(run.clone(), slot, Arc::clone(&standing)));
    }
    tasks.spawn(administer(run.clone(), standing));
}

async fn stand(run: Run, slot: usize, standing: Standing) -> anyhow::Result<()> {
    let mut rng = run.rng(&format!("candidate-{slot}"));
    let mut api = run.stage.api(slot)?;
    for term in 0.. {
        let name = format!("n{slot}-{term}");
        standing.lock().unwrap_or_else(PoisonError::into_inner).insert(slot, name.clone());
        let mut candidate = Candidate { run: run.clone(), name, api: api.clone(), session: 0, deadline: 0, held: None };
        candidate.term(&mut rng).await;
        api.turn();
        if !run.pause(&mut rng, 10, 100).await {
            break;
        }
    }
    Ok(())
}

/// What ended a candidacy.
enum Ended {
    /// It is over.
    Over,
    /// The stream broke.
    Broken,
}

struct Candidate {
    run: Run,
    name: String,
    api: Api,
    session: u64,
    /// Until when it believes, on the run's clock.
    deadline: u64,
    held: Option<u64>,
}

impl Candidate {
    fn now(&self) -> u64 {
        self.run.recorder.clock().at(Instant::now())
    }

    /// When what is sent now would end.
    fn deadline_from_now(&self) -> u64 {
        self.now() + u64::try_from(TTL.as_nanos()).unwrap_or(u64::MAX)
    }

    fn record(&self, kind: Type, f: &str) -> Record {
        let mut record = Record::new(&self.name, kind, f);
        record.election = Some(ELECTION.to_owned());
        record.node = Some(self.api.node().to_owned());
        record
    }

    fn campaign(&self, kind: Type) -> Record {
        let mut record = self.record(kind, f::CAMPAIGN);
        (record.value, record.on_disconnect) = (self.name.as_str().into(), Some(TERMS.on_disconnect()));
        record
    }

    /// A session from its opening to its end.
    async fn term(&mut self, rng: &mut SmallRng) {
        let Ok(mut line) = Line::open(self.api.channel()).await else { return };
        let deadline = self.deadline_from_now();
        let Outcome::Ok(server_frame::Body::Opened(opened)) = line.first(open(TERMS)).await else { return };
        (self.session, self.deadline) = (opened.session, deadline);
        self.run.recorder.record(self.campaign(Type::Invoke));
        let frame = client_frame::Body::Campaign(v1::Campaign {
            session: self.session,
            serial: 1,
            election: ELECTION.to_owned(),
            candidate_id: self.name.clone(),
            ..v1::Campaign::default()
        });
        let mut granted = false;
        let mut frame = Some(frame);
        loop {
            let ended = self.hold(&mut line, frame.take(), &mut granted, rng).await;
            if matches!(ended, Ended::Over) {
                break;
            }
            if let Some(token) = self.held {
                let mut suspect = self.record(Type::Ok, f::SUSPECT);
                (suspect.token, suspect.deadline_ns) = (Some(token), Some(self.deadline));
                self.run.recorder.record(suspect);
            }
            match self.attach(&mut granted).await {
                Some(again) => line = again,
                None => break,
            }
        }
        if !granted {
            let why = Some("the session is over".to_owned());
            self.run.recorder.record(Record { error: why, ..self.campaign(Type::Info) });
        }
    }

    /// Keeps the session alive on one stream, and says what becomes of it.
    async fn hold(
        &mut self,
        line: &mut Line,
        frame: Option<client_frame::Body>,
        granted: &mut bool,
        rng: &mut SmallRng,
    ) -> Ended {
        if let Some(frame) = frame
            && line.send(frame).is_none()
        {
            return Ended::Broken;
        }
        let mut stop = self.run.stop.clone();
        let mut sent: BTreeMap<u64, u64> = BTreeMap::new();
        let mut tick = tokio::time::interval(TTL / 4);
        // How long it leads before it gives the leadership back.
        let mut leads_for = Duration::from_millis(rng.random_range(100..2500));
        let mut since = Instant::now();
        let mut given_back = false;
        loop {
            if self.now() >= self.deadline {
                self.lost("expired");
                return Ended::Over;
            }
            let left = Duration::from_nanos(self.deadline.saturating_sub(self.now()));
            let led = leads_for.saturating_sub(since.elapsed());
            tokio::select! {
                () = over(&mut stop) => {
                    self.give_back(line, 0).await;
                    return Ended::Over;
                }
                () = tokio::time::sleep(left) => {}
                () = tokio::time::sleep(led), if self.held.is_some() && !given_back => {
                    given_back = true;
                    let how = rng.random_range(0..4);
                    self.give_back(line, how).await;
                    if how != 0 {
                        return Ended::Over;
                    }
                    // One in four goes on until it is not confirmed any more: it sends nothing, and believes until the deadline.
                    leads_for = TTL * 2;
                }
                _ = tick.tick(), if !given_back => {
                    let until = self.deadline_from_now();
                    let frame = client_frame::Body::KeepAlive(v1::KeepAlive { sessions: vec![self.session] });
                    match line.send(frame) {
                        Some(call) => drop(sent.insert(call, until)),
                        None => return Ended::Broken,
                    }
                }
                frame = line.next() => match frame {
                    None => return Ended::Broken,
                    Some((call, body)) => {
                        let until = sent.remove(&call);
                        if self.take(body, until, granted) {
                            return Ended::Over;
                        }
                        if self.held.is_none() {
                            since = Instant::now();
                        }
                    }
                }
            }
        }
    }

    /// Whether it is over.
    fn take(&mut self, body: server_frame::Body, until: Option<u64>, granted: &mut bool) -> bool {
        match body {
            server_frame::Body::KeptAlive(kept) if kept.sessions.contains(&self.session) => {
                let Some(until) = until else { return false };
                self.deadline = self.deadline.max(until);
                if let Some(token) = self.held {
                    let mut confirm = self.record(Type::Ok, f::CONFIRM);
                    (confirm.token, confirm.deadline_ns) = (Some(token), Some(self.deadline));
                    self.run.recorder.record(confirm);
                }
                false
            }
            server_frame::Body::Campaigned(v1::Campaigned { grant: Some(grant), .. })
            | server_frame::Body::Granted(v1::Granted { grant: Some(grant), .. }) => {
                self.granted(&grant, granted);
                false
            }
            // Somebody asks for it: it is given back like any other.
            server_frame::Body::EndRequested(_) | server_frame::Body::SessionAsked(_) => false,
            server_frame::Body::Revoked(revoked) => {
                self.lost(&revoked.why);
                true
            }
            server_frame::Body::Ended(ended) => {
                self.lost(&ended.why);
                true
            }
            server_frame::Body::Withdrawn(_) | server_frame::Body::Refused(_) => true,
            _ => false,
        }
    }

    fn granted(&mut self, grant: &v1::Grant, granted: &mut bool) {
        if *granted || self.held.is_some() {
            return;
        }
        *granted = true;
        self.held = Some(grant.token);
        let mut record = self.campaign(Type::Ok);
        (record.token, record.seq) = (Some(grant.token), Some(grant.seq));
        (record.session, record.deadline_ns) = (Some(self.session), Some(self.deadline));
        self.run.recorder.record(record);
        self.run.granted(grant.token);
    }

    fn lost(&mut self, why: &str) {
        if let Some(token) = self.held.take() {
            let mut lost = self.record(Type::Ok, f::LOST);
            (lost.token, lost.error) = (Some(token), Some(why.to_owned()));
            self.run.recorder.record(lost);
        }
    }

    /// Ends what it holds: nothing sent any more, by the session, or by its token.
    async fn give_back(&mut self, line: &mut Line, how: u32) {
        let Some(token) = self.held else { return };
        if how == 0 && !self.run.stopped() {
            return;
        }
        if how == 1 {
            // First it stops believing, then it says so.
            self.lost("closed");
            line.first(client_frame::Body::Close(v1::CloseSession { session: self.session })).await;
            return;
        }
        self.held = None;
        let mut invoke = self.record(Type::Invoke, f::RESIGN);
        invoke.token = Some(token);
        self.run.recorder.record(invoke.clone());
        let end = match self.api.resign(ELECTION, token, self.session, false).await {
            Outcome::Ok((header, _)) => Record { seq: Some(header.seq), ..invoke.ended(Type::Ok) },
            Outcome::Fail(detail) => Record { error: Some(crate::api::kind(&detail)), ..invoke.ended(Type::Fail) },
            Outcome::Info(why) => Record { error: Some(why), ..invoke.ended(Type::Info) },
        };
        self.run.recorder.record(end);
    }

    /// Attaches the session again, at whichever node answers, before its time is over.
    async fn attach(&mut self, granted: &mut bool) -> Option<Line> {
        while self.now() < self.deadline && !self.run.stopped() {
            self.api.turn();
            if let Ok(mut line) = Line::open(self.api.channel()).await {
                let frame = client_frame::Body::Attach(v1::AttachSession { session: self.session });
                match line.first(frame).await {
                    Outcome::Ok(server_frame::Body::Attached(attached)) => {
                        match (attached.held.first(), self.held) {
                            (Some(grant), None) => self.granted(grant, granted),
                            (None, Some(_)) => {
                                self.lost("not held any more");
                                return None;
                            }
                            _ => {}
                        }
                        return Some(line);
                    }
                    Outcome::Fail(detail) if detail.kind() == v1::error_detail::Kind::SessionEnded => {
                        self.lost("session_ended");
                        return None;
                    }
                    _ => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.lost("expired");
        None
    }
}

/// Asks for transfers to those who wait, and for resignations, from outside.
async fn administer(run: Run, standing: Standing) -> anyhow::Result<()> {
    let mut api = run.stage.api(1)?;
    let mut actor = Actor::new(&run);
    let mut rng = run.rng("administrator");
    while run.pause(&mut rng, 300, 1200).await {
        let names: Vec<String> = standing.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        if names.is_empty() {
            continue;
        }
        let to = names[rng.random_range(0..names.len())].clone();
        let mut invoke = actor.record(f::TRANSFER, api.node());
        (invoke.election, invoke.value) = (Some(ELECTION.to_owned()), to.as_str().into());
        let transfer = api.transfer(ELECTION, 0, &to);
        actor.act(invoke, transfer, |(header, _), end| end.seq = Some(header.seq)).await;
    }
    Ok(())
}

/// Somebody is granted the election once all is healed, and gives it back.
pub(crate) async fn finish(run: &Run) -> anyhow::Result<()> {
    let until = Instant::now() + SERVES_WITHIN;
    for attempt in 0.. {
        if Instant::now() >= until {
            break;
        }
        let api = run.stage.api(attempt)?;
        let name = format!("final-{attempt}");
        let mut last = Candidate { run: run.clone(), name, api, session: 0, deadline: 0, held: None };
        if last.leads_once().await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("nobody could lead although the faults had ended")
}

impl Candidate {
    /// Opens, campaigns, is granted within the TTL, and resigns.
    async fn leads_once(&mut self) -> bool {
        let Ok(mut line) = Line::open(self.api.channel()).await else { return false };
        let deadline = self.deadline_from_now();
        let Outcome::Ok(server_frame::Body::Opened(opened)) = line.first(open(TERMS)).await else { return false };
        (self.session, self.deadline) = (opened.session, deadline);
        self.run.recorder.record(self.campaign(Type::Invoke));
        line.send(client_frame::Body::Campaign(v1::Campaign {
            session: self.session,
            serial: 1,
            election: ELECTION.to_owned(),
            candidate_id: self.name.clone(),
            ..v1::Campaign::default()
        }));
        let mut granted = false;
        let left = Duration::from_nanos(self.deadline.saturating_sub(self.now()));
        let waited = tokio::time::timeout(left, async {
            while let Some((_, body)) = line.next().await {
                if self.take(body, None, &mut granted) || granted {
                    break;
                }
            }
        });
        let in_time = waited.await.is_ok();
        if !granted {
            let why = Some("not granted in time".to_owned());
            self.run.recorder.record(Record { error: why, ..self.campaign(Type::Info) });
        }
        self.give_back(&mut line, 2).await;
        in_time && granted
    }
}

//! A ledger: a worker whose fenced endpoint obeys the leader of the candidates' election. Its list outlives the process, as if
//! every append were synced; so what guards it must not forget either.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use palisade_fence::{ClusterId, LeaderSource, Token};
use palisade_rpc::{
    Answer, AppError, Context, DurableGuard, GuardFile, GuardSpec, Guards, RpcEndpoint, RpcService, RpcServiceConfig,
};

use super::candidate::ELECTION;
use super::{PORT, Process, address};
use crate::facts::{LedgerFact, Step};
use crate::ledger::proto::{Entry, LedgerEndpoint, LedgerGateway, Position, ReadRequest};
use crate::ledger::{ENDPOINT, Message, Method};

/// What of a ledger outlives its process. Clones are the same book.
#[derive(Clone, Default)]
pub(crate) struct Book(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    entries: Vec<Entry>,
    /// The cluster that it belongs to, once it has met one.
    cluster: Option<ClusterId>,
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, entry: Entry) -> u64 {
        let entries = &mut self.lock().entries;
        entries.push(entry);
        entries.len() as u64 - 1
    }

    fn read(&self, position: u64) -> Option<Entry> {
        self.lock().entries.get(usize::try_from(position).ok()?).copied()
    }
}

/// Runs until the process is ended.
pub(crate) async fn run(process: Process, book: Book) -> turmoil::Result {
    let election = Arc::new(process.client().follow(ELECTION));
    let guards = process.starts(|| std::future::ready(guards(&process, &book, &election))).await?;
    let listen = RpcServiceConfig::listen(format!("0.0.0.0:{PORT}")).advertise(address(process.who));
    let service = RpcService::start(listen.interface::<LedgerGateway>(), process.world.clone()).await?;
    let ledger = Ledger { process: process.clone(), book: book.clone(), guards: guards.clone() };
    let endpoint = service.endpoint(ENDPOINT, ledger).serves(LedgerGateway::serve()).guarded_by(guards.clone());
    endpoint.create()?.start().await?;
    let _meeting = process.world.spawn("meet the cluster", meet(election.clone(), book));
    let _told = process.world.spawn("what is told", told(process.clone(), election));
    report(&process, &guards).await;
    Ok(())
}

/// Every other ledger keeps its guard in a file; the others must ask the election before they serve anything.
fn guards(
    process: &Process,
    book: &Book,
    election: &Arc<impl LeaderSource + 'static>,
) -> Result<Guards, Box<dyn std::error::Error>> {
    let durable: Option<Arc<dyn DurableGuard>> = match process.who.number % 2 {
        0 => None,
        _ => {
            let folder = PathBuf::from(format!("/{}", process.who));
            Some(Arc::new(GuardFile::open(process.world.files(), &folder)?))
        }
    };
    let cluster = book.lock().cluster;
    let remembers = durable.is_some() && cluster.is_some();
    let guards = Guards::new(vec![GuardSpec { source: election.clone(), cluster, durable }], &process.world)?;
    if remembers {
        let (ledger, token) = (process.who.number, guards.highest(ELECTION));
        process.witness.saw(process.who, LedgerFact::Remembers { ledger, token }.into());
    }
    Ok(guards)
}

/// Notes the cluster of the first view that names one.
async fn meet(election: Arc<impl LeaderSource>, book: Book) {
    let mut seen = 0;
    while book.lock().cluster.is_none() {
        let view = election.changed(seen).await;
        seen = view.seq.max(1);
        if view.cluster != ClusterId::default() {
            book.lock().cluster = Some(view.cluster);
        }
    }
}

/// Reports what the stream tells, for ever.
async fn told(process: Process, election: Arc<impl LeaderSource>) {
    let mut seen = 0;
    loop {
        let view = election.changed(seen).await;
        seen = view.seq.max(1);
        if let Some(token) = view.token {
            process.witness.saw(process.who, LedgerFact::Told { ledger: process.who.number, token }.into());
        }
    }
}

/// Reports where the guard stands, for ever.
async fn report(process: &Process, guards: &Guards) {
    let mut next = Token::default();
    loop {
        guards.raised_to(ELECTION, next).await;
        let Some(token) = guards.highest(ELECTION) else { continue };
        process.witness.saw(process.who, LedgerFact::Guarded { ledger: process.who.number, token }.into());
        next = token.next().unwrap_or(token);
    }
}

struct Ledger {
    process: Process,
    book: Book,
    guards: Guards,
}

impl Ledger {
    /// A handler was entered.
    fn begin(&self, cx: &Context<Self>, entry: Option<Entry>, method: Method) -> Result<Message, AppError> {
        let entry = entry.and_then(|entry| Some((Token::from_wire(entry.token)?, entry.number)));
        let (token, number) = entry.ok_or_else(|| AppError::new(1, "a message that names no token"))?;
        let message = Message { ledger: self.process.who.number, token, number, method };
        self.saw(LedgerFact::Ran(self.step(cx, message)));
        Ok(message)
    }

    fn append(&self, cx: &Context<Self>, message: Message) -> Position {
        let position = self.book.append(message.entry());
        self.saw(LedgerFact::Took { step: self.step(cx, message), appended: Some(position) });
        Position { position }
    }

    fn step(&self, cx: &Context<Self>, message: Message) -> Step {
        Step { message, under: cx.token(), guard: self.guards.highest(ELECTION) }
    }

    fn saw(&self, fact: LedgerFact) {
        self.process.witness.saw(self.process.who, fact.into());
    }
}

impl RpcEndpoint for Ledger {}

impl LedgerEndpoint for Ledger {
    fn append(&mut self, cx: &mut Context<Self>, entry: Entry) -> Answer<Position> {
        let message = self.begin(cx, Some(entry), Method::Append);
        message.map(|message| Ledger::append(self, cx, message)).into()
    }

    fn note(&mut self, cx: &mut Context<Self>, entry: Entry) {
        if let Ok(message) = self.begin(cx, Some(entry), Method::Note) {
            Ledger::append(self, cx, message);
        }
    }

    fn append_later(&mut self, cx: &mut Context<Self>, entry: Entry) -> Answer<Position> {
        let message = match self.begin(cx, Some(entry), Method::AppendLater) {
            Ok(message) => message,
            Err(error) => return Answer::refuse(error),
        };
        let world = self.process.world.clone();
        let longest = Duration::from_millis(if self.process.one_in(4) { 500 } else { 30 });
        let work = async move { world.sleep(world.jitter(longest)).await };
        cx.then(work, move |ledger, cx, ()| Answer::ready(Ledger::append(ledger, cx, message)))
    }

    fn read(&mut self, cx: &mut Context<Self>, request: ReadRequest) -> Answer<Entry> {
        let message = match self.begin(cx, request.message, Method::Read(request.position)) {
            Ok(message) => message,
            Err(error) => return Answer::refuse(error),
        };
        self.saw(LedgerFact::Took { step: self.step(cx, message), appended: None });
        self.book.read(request.position).ok_or_else(|| AppError::new(2, "nothing stands there")).into()
    }
}

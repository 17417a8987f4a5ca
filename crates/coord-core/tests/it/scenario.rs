//! The language of `testdata/*.txt`: directives to commands, outcomes to a trace. It judges nothing; the expected trace does,
//! and the invariants after each command.
//!
//! ```text
//! found CLUSTER                                  open keep TTL_MS | open release MS TTL_MS [given N]
//! attach SESSION                                 end SESSION WHY [if ATTACH]
//! close SESSION [GUARD]                          withdraw SESSION SERIAL
//! campaign SESSION SERIAL ELECTION CANDIDATE [ADDRESS] [priority N]
//! proclaim ELECTION TOKEN ADDRESS [id SESSION/SERIAL/ACKED_BELOW]
//! resign ELECTION TOKEN [by SESSION] [GUARD]     remove ELECTION CANDIDATE [by SESSION] [GUARD]
//! transfer ELECTION TO [token T] [by SESSION] [GUARD]
//! put KEY VALUE … | delete KEYS … | read KEYS …  txn … (see `keys`)
//! watch KEYS FROM                                compact REVISION
//! raise LEVEL
//! each A..B DIRECTIVE                            the directive with {n} from A to B; only the last is traced
//! state | history ELECTION | told ELECTION FROM  what is kept
//! generation N                                   what a restore from backup does
//! ```
//!
//! GUARD is `ask`, `stop` (ask, and renew no more) or `force`. Every write may carry `id SESSION/SERIAL/ACKED_BELOW`, every
//! directive `at UNIX_MS`. A session id `given N` is written `given:N`.

use std::collections::BTreeMap;
use std::fmt::Write;

use palisade_coord_core::history::Reign;
use palisade_coord_core::{
    AttachGeneration, Command, EndReason, Event, Grant, Guard, HandOver, KeyOp, OnDisconnect, Op, Outcome, Refusal,
    Reply, RequestId, Revision, Seq, Serial, SessionId, State, Value, Wish, apply, invariants, level,
};
use palisade_fence::{ClusterId, Token};

use crate::keys;

/// Runs the directives of one block and returns their trace.
pub(crate) fn run(state: &mut State, directives: &str) -> String {
    let mut trace = String::new();
    for line in directives.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["state"] => show(state, &mut trace),
            ["history", election] => show_history(state, election, &mut trace),
            ["told", election, from] => show_told(state, election, Seq(number(from)), &mut trace),
            ["watch", words, from] => {
                list(keys::watch(state, &keys::keys(words), Revision(number(from))), &mut trace);
            }
            ["generation", number] => match state.begin_generation(number.parse().unwrap(), 0) {
                Ok(()) => {
                    state.check_invariants();
                    writeln!(trace, "seq {} rev {}: generation {number}", state.seq(), state.revision()).unwrap();
                }
                Err(why) => writeln!(trace, "{why}").unwrap(),
            },
            ["each", range, ..] => {
                let (first, last) = range.split_once("..").expect("each A..B");
                let template = words[2..].join(" ");
                for n in number(first)..=number(last) {
                    let line = template.replace("{n}", &n.to_string());
                    let words: Vec<&str> = line.split_whitespace().collect();
                    if n < number(last) {
                        let _ = apply(state, &command(&words));
                    } else {
                        writeln!(trace, "…").unwrap();
                        tell(&step(state, &words), &mut trace);
                    }
                }
            }
            words => tell(&step(state, words), &mut trace),
        }
    }
    trace
}

fn step(state: &mut State, words: &[&str]) -> Outcome {
    let before = state.clone();
    let command = command(words);
    let outcome = apply(state, &command);
    state.check_invariants();
    invariants::check_step(&before, &command, &outcome, state).unwrap();
    outcome
}

fn command(words: &[&str]) -> Command {
    let (plain, options) = split(words);
    let given = options.get("given").map(|text| SessionId::given(number(text)).unwrap());
    let by = options.get("by").map(|id| session(id));
    let op = match plain.as_slice() {
        ["found", cluster] => Op::Found { cluster: cluster.parse::<ClusterId>().unwrap() },
        ["open", "keep", ttl_ms] => {
            Op::OpenSession { id: given, ttl_ms: number(ttl_ms), on_disconnect: OnDisconnect::KeepUntilTtl }
        }
        ["open", "release", ms, ttl_ms] => {
            let on_disconnect = OnDisconnect::ReleaseAfter { ms: number(ms) };
            Op::OpenSession { id: given, ttl_ms: number(ttl_ms), on_disconnect }
        }
        ["attach", id] => Op::Attach { session: session(id) },
        ["end", id, why] => Op::EndSession {
            session: session(id),
            why: reason(why),
            only_if: options.get("if").map(|attach| AttachGeneration(number(attach))),
        },
        ["campaign", id, serial, election, candidate, address @ ..] => Op::Campaign {
            session: session(id),
            serial: Serial(number(serial)),
            election: election.to_string(),
            candidate: candidate.to_string(),
            value: value(address.first().unwrap_or(&"")),
            priority: options.get("priority").map_or(0, |text| text.parse().unwrap()),
        },
        ["proclaim", election, raw, address] => {
            Op::Proclaim { election: election.to_string(), token: token(raw), value: value(address) }
        }
        ["resign", election, raw, words @ ..] => {
            Op::Resign { election: election.to_string(), token: token(raw), by, guard: guard(words) }
        }
        ["withdraw", id, serial] => Op::Withdraw { session: session(id), serial: Serial(number(serial)) },
        ["remove", election, candidate, words @ ..] => {
            let (election, candidate) = (election.to_string(), candidate.to_string());
            Op::Remove { election, candidate, by, guard: guard(words) }
        }
        ["transfer", election, to, words @ ..] => Op::Transfer {
            election: election.to_string(),
            token: options.get("token").map(|raw| token(raw)),
            to: to.to_string(),
            by,
            guard: guard(words),
        },
        ["close", id, words @ ..] => Op::CloseSession { session: session(id), guard: guard(words) },
        ["compact", revision] => Op::Compact { revision: Revision(number(revision)) },
        ["raise", level] => Op::RaiseLevel { level: level.parse().unwrap() },
        ["txn", ..] => Op::Keys(KeyOp::Txn(keys::txn(words))),
        ["put" | "delete" | "read", ..] => Op::Keys(keys::op(&plain, &options)),
        _ => panic!("no directive: {words:?}"),
    };
    let request = options.get("id").map(|text| {
        let [id, serial, acked_below] = text.split('/').collect::<Vec<_>>()[..] else { panic!("no id: {text}") };
        let (serial, acked_below) = (Serial(number(serial)), Serial(number(acked_below)));
        RequestId { session: session(id), serial, acked_below }
    });
    Command { request, at_unix_ms: options.get("at").map_or(0, |text| number(text)), op }
}

fn guard(words: &[&str]) -> Guard {
    match words {
        [] => Guard::Refuse,
        ["ask"] => Guard::Ask,
        ["stop"] => Guard::AskAndStopRenewing,
        ["force"] => Guard::Break,
        _ => panic!("no guard: {words:?}"),
    }
}

const OPTIONS: [&str; 14] = [
    "if", "id", "fence", "by", "priority", "token", "given", "at", "session", "rev", "limit", "by-field", "written",
    "created",
];

/// Words that are followed by their value, apart from the others.
pub(crate) fn split<'a>(words: &[&'a str]) -> (Vec<&'a str>, BTreeMap<&'a str, &'a str>) {
    let (mut plain, mut options) = (Vec::new(), BTreeMap::new());
    let mut rest = words.iter();
    while let Some(&word) = rest.next() {
        if OPTIONS.contains(&word) {
            options.insert(word, *rest.next().expect("an option has a value"));
        } else {
            plain.push(word);
        }
    }
    (plain, options)
}

pub(crate) fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

pub(crate) fn session(text: &str) -> SessionId {
    match text.strip_prefix("given:") {
        Some(given) => SessionId::given(number(given)).unwrap(),
        None => SessionId(number(text)),
    }
}

fn token(text: &str) -> Token {
    text.parse().unwrap()
}

fn value(address: &str) -> Value {
    Value { address: address.to_owned(), ..Value::default() }
}

fn reason(word: &str) -> EndReason {
    use EndReason::{Closed, Disconnected, Expired, Removed, Resigned, Restored, Transferred};
    let all = [Resigned, Closed, Expired, Disconnected, Transferred, Removed, Restored];
    all.into_iter().find(|why| why.as_str() == word).unwrap_or_else(|| panic!("no reason: {word}"))
}

fn tell(outcome: &Outcome, trace: &mut String) {
    let told = match &outcome.reply {
        Ok(reply) => tell_reply(reply),
        Err(why) => format!("REFUSED {}", tell_refusal(why)),
    };
    writeln!(trace, "seq {} rev {}: {told}", outcome.seq, outcome.revision).unwrap();
    for event in &outcome.events {
        writeln!(trace, "  {}", tell_event(event)).unwrap();
    }
}

fn tell_reply(reply: &Reply) -> String {
    match reply {
        Reply::Founded => "founded".to_owned(),
        Reply::SessionOpened { session, attach } => {
            format!("session {} opened, attach {attach}", name_of(*session))
        }
        Reply::Attached { session, attach, held, waiting, asked, .. } => {
            let wish = asked.session.map_or(String::new(), |wish| format!(", {}", tell_wish(wish)));
            let ask = |(serial, it): &(Serial, HandOver)| format!(", #{serial} {}", tell_hand_over(it));
            let asked: String = asked.leaderships.iter().map(ask).collect();
            let session = name_of(*session);
            let held: Vec<_> = held.iter().map(tell_grant).collect();
            let waiting: Vec<_> =
                waiting.iter().map(|it| format!("{} in {} #{}", it.candidate, it.election, it.serial)).collect();
            format!(
                "session {session} attached, attach {attach}, holds [{}], waits [{}]{asked}{wish}",
                held.join(", "),
                waiting.join(", ")
            )
        }
        Reply::SessionEnded => "session ended".to_owned(),
        Reply::Campaigned { grant: Some(grant) } => format!("leads: {}", tell_grant(grant)),
        Reply::Campaigned { grant: None } => "waits".to_owned(),
        Reply::Proclaimed => "proclaimed".to_owned(),
        Reply::Resigned { already } => if *already { "resigned already" } else { "resigned" }.to_owned(),
        Reply::Withdrawn { already } => if *already { "withdrawn already" } else { "withdrawn" }.to_owned(),
        Reply::Transferred => "transferred".to_owned(),
        Reply::Requested { session } => format!("requested of session {}", name_of(*session)),
        Reply::Keys(reply) => keys::tell(reply),
        Reply::Compacted => "compacted".to_owned(),
        Reply::LevelRaised { before } => format!("level raised, it was {before}"),
    }
}

pub(crate) fn tell_refusal(why: &Refusal) -> String {
    match why {
        Refusal::AlreadyFounded => "already founded".to_owned(),
        Refusal::SessionEnded { session } => format!("session {} has ended", name_of(*session)),
        Refusal::SessionExists { session } => format!("session {} lives", name_of(*session)),
        Refusal::AttachChanged { session, attach } => format!("session {} has attach {attach}", name_of(*session)),
        Refusal::ElectionNotFound { election } => format!("no election {election}"),
        Refusal::StaleToken { election, current: Some(current) } => format!("stale token: {current} leads {election}"),
        Refusal::StaleToken { election, current: None } => format!("stale token: nobody leads {election}"),
        Refusal::CandidateExists { election, candidate } => format!("{candidate} stands in {election} already"),
        Refusal::CandidateNotFound { election, candidate } => format!("no {candidate} in {election}"),
        Refusal::HolderKeepsUntilTtl { election, token } => format!("{token} keeps {election} until its TTL"),
        Refusal::Forgotten { serial } => format!("#{serial} is forgotten: outcome unknown"),
        Refusal::SerialReused { serial } => format!("#{serial} was used before"),
        Refusal::Compacted { revision, compacted } => format!("rev {revision} is compacted, from {compacted} on"),
        Refusal::FutureRevision { revision, current } => format!("rev {revision} is to come, {current} is present"),
        Refusal::KeyNotFound { key } => format!("no key {}", String::from_utf8_lossy(key)),
        Refusal::Limit { what, limit } => format!("{what}: at most {limit}"),
    }
}

fn tell_event(event: &Event) -> String {
    match event {
        Event::Elected { grant, previous: None } => format!("elected {}", tell_grant(grant)),
        Event::Elected { grant, previous: Some((token, why)) } => {
            format!("elected {} after {token} {why}", tell_grant(grant))
        }
        Event::ValueChanged { grant } => format!("value of {} is '{}'", tell_grant(grant), grant.value.address),
        Event::Vacant { election, previous, why } => format!("vacant {election} after {previous} {why}"),
        Event::Revoked { session, serial, election, token, why } => {
            format!("revoked {token} in {election} of session {} #{serial}: {why}", name_of(*session))
        }
        Event::Withdrawn { session, serial, election, why } => {
            format!("session {} #{serial} waits no more in {election}: {why}", name_of(*session))
        }
        Event::EndRequested { session, serial, election, hand_over } => {
            format!("session {} #{serial} in {election} {}", name_of(*session), tell_hand_over(hand_over))
        }
        Event::SessionAsked { session, wish } => format!("session {} {}", name_of(*session), tell_wish(*wish)),
        Event::SessionEnded { session, why } => format!("session {} {why}", name_of(*session)),
        Event::KeyChanged { key, revision, version } => {
            let what = version.map_or("deleted".to_owned(), |version| format!("version {version}"));
            format!("key {} at rev {revision}: {what}", String::from_utf8_lossy(key))
        }
    }
}

fn tell_grant(grant: &Grant) -> String {
    let Grant { election, candidate, session, serial, token, .. } = grant;
    format!("{candidate} in {election} token {token} (session {} #{serial})", name_of(*session))
}

fn tell_hand_over(asked: &HandOver) -> String {
    format!("is to give up {} for {}", asked.token, asked.to.as_deref().unwrap_or("anybody"))
}

fn tell_wish(wish: Wish) -> &'static str {
    match wish {
        Wish::Close => "is to close",
        Wish::StopRenewing => "is renewed no more",
    }
}

pub(crate) fn name_of(session: SessionId) -> String {
    if session.is_given() { format!("given:{}", session.get() & !(1 << 63)) } else { session.to_string() }
}

fn show_history(state: &State, election: &str, trace: &mut String) {
    let reigns = state.history().of(election).map(|(until, it)| {
        let Reign { token, candidate, session, since, since_unix_ms, until_unix_ms, why } = it;
        let session = name_of(*session);
        let span = format!("from {since} ({since_unix_ms} ms) to {until} ({until_unix_ms} ms)");
        format!("{candidate} of session {session} under {token} {span}: {why}")
    });
    list(reigns.collect(), trace);
}

fn show_told(state: &State, election: &str, from: Seq, trace: &mut String) {
    match state.told().after(election, from) {
        Ok(told) => {
            let told = told.map(|(seq, it)| format!("seq {seq} rev {}: {}", it.revision, tell_event(&it.event)));
            list(told.collect(), trace);
        }
        Err(gap) => writeln!(trace, "  gap: known after seq {}", gap.complete_after).unwrap(),
    }
}

/// Lines of a trace; of many, the first and the last.
fn list(lines: Vec<String>, trace: &mut String) {
    const MANY: usize = 20;
    let count = lines.len();
    if count == 0 {
        writeln!(trace, "  nothing").unwrap();
    }
    for (index, line) in lines.iter().enumerate() {
        match index {
            1 if count > MANY => writeln!(trace, "  … {} more", count - 2).unwrap(),
            _ if count > MANY && index + 1 < count && index > 0 => {}
            _ => writeln!(trace, "  {line}").unwrap(),
        }
    }
}

fn show(state: &State, trace: &mut String) {
    let cluster = state.cluster().map_or("-".to_owned(), |cluster| cluster.to_string());
    let line =
        format!("cluster {cluster} seq {} rev {} last token {}", state.seq(), state.revision(), state.last_token());
    writeln!(trace, "{line}").unwrap();
    if state.level() > level::FIRST {
        writeln!(trace, "  level {}", state.level()).unwrap();
    }
    for (id, session) in state.sessions() {
        let (attach, count) = (session.attach, session.candidacies().len());
        let wish = session.wish.map_or(String::new(), |wish| format!(", {}", tell_wish(wish)));
        writeln!(trace, "  session {} attach {attach} candidacies {count}{wish}", name_of(id)).unwrap();
    }
    for (name, election) in state.elections() {
        let leader = election.leader.as_ref().map_or("nobody".to_owned(), tell_grant);
        let line: Vec<_> = election.queue.iter().map(|(_, it)| it.candidate.as_str()).collect();
        let asked = election.asked.as_ref().map_or(String::new(), |it| format!("; {}", tell_hand_over(it)));
        writeln!(trace, "  election {name}: {leader}; waiting [{}]{asked}", line.join(", ")).unwrap();
    }
    for (key, kv) in state.keys().iter() {
        writeln!(trace, "  key {}", keys::tell_key(key, kv)).unwrap();
    }
    let (compacted, watchable) = (state.keys().compacted(), state.keys().watchable());
    if watchable.get() > 0 {
        writeln!(trace, "  keys are read from rev {compacted} on, watched from {watchable} on").unwrap();
    }
}

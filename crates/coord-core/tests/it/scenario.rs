//! The language of `testdata/*.txt`: directives to commands, outcomes to a trace. It judges nothing; the expected trace does,
//! and the invariants after each command.
//!
//! ```text
//! found CLUSTER                                  open keep TTL_MS | open release MS TTL_MS
//! attach SESSION                                 end SESSION WHY [if ATTACH]
//! campaign SESSION SERIAL ELECTION CANDIDATE [ADDRESS] [priority N]
//! proclaim ELECTION TOKEN ADDRESS [id SESSION/SERIAL/ACKED_BELOW]
//! resign ELECTION TOKEN [by SESSION] [force] [id …]
//! put KEY VALUE [fence ELECTION:TOKEN] [id …]    delete KEY [fence …] [id …]
//! each A..B DIRECTIVE                            the directive with {n} from A to B; only the last is traced
//! state                                          what is kept
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;

use palisade_coord_core::{
    AttachGeneration, Command, EndReason, Event, Force, Grant, OnDisconnect, Op, Outcome, Refusal, Reply, RequestId,
    Serial, SessionId, State, Value, apply, invariants,
};
use palisade_fence::{ClusterId, Token};

/// Runs the directives of one block and returns their trace.
pub(crate) fn run(state: &mut State, directives: &str) -> String {
    let mut trace = String::new();
    for line in directives.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["state"] => show(state, &mut trace),
            ["each", range, ..] => {
                let (first, last) = range.split_once("..").expect("each A..B");
                let template = words[2..].join(" ");
                for n in number(first)..=number(last) {
                    let line = template.replace("{n}", &n.to_string());
                    let outcome = step(state, &line.split_whitespace().collect::<Vec<_>>());
                    if n == number(last) {
                        writeln!(trace, "…").unwrap();
                        tell(&outcome, &mut trace);
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
    let fence = options.get("fence").map(|text| text.parse().expect("fence ELECTION:TOKEN"));
    let op = match plain.as_slice() {
        ["found", cluster] => Op::Found { cluster: cluster.parse::<ClusterId>().unwrap() },
        ["open", "keep", ttl_ms] => {
            Op::OpenSession { ttl_ms: number(ttl_ms), on_disconnect: OnDisconnect::KeepUntilTtl }
        }
        ["open", "release", ms, ttl_ms] => {
            Op::OpenSession { ttl_ms: number(ttl_ms), on_disconnect: OnDisconnect::ReleaseAfter { ms: number(ms) } }
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
        ["resign", election, raw, force @ ..] => Op::Resign {
            election: election.to_string(),
            token: token(raw),
            by: options.get("by").map(|id| session(id)),
            force: if force == ["force"] { Force::Yes } else { Force::No },
        },
        ["put", key, value] => Op::Put { key: key.as_bytes().to_vec(), value: value.as_bytes().to_vec(), fence },
        ["delete", key] => Op::Delete { key: key.as_bytes().to_vec(), fence },
        _ => panic!("no directive: {words:?}"),
    };
    let request = options.get("id").map(|text| {
        let numbers: Vec<u64> = text.split('/').map(number).collect();
        let [session, serial, acked_below] = numbers[..] else { panic!("id SESSION/SERIAL/ACKED_BELOW: {text}") };
        RequestId { session: SessionId(session), serial: Serial(serial), acked_below: Serial(acked_below) }
    });
    Command { request, at_unix_ms: 0, op }
}

/// Words that are followed by their value, apart from the others.
fn split<'a>(words: &[&'a str]) -> (Vec<&'a str>, BTreeMap<&'a str, &'a str>) {
    let (mut plain, mut options) = (Vec::new(), BTreeMap::new());
    let mut rest = words.iter();
    while let Some(&word) = rest.next() {
        if ["if", "id", "fence", "by", "priority"].contains(&word) {
            options.insert(word, *rest.next().expect("an option has a value"));
        } else {
            plain.push(word);
        }
    }
    (plain, options)
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

fn session(text: &str) -> SessionId {
    SessionId(number(text))
}

fn token(text: &str) -> Token {
    text.parse().unwrap()
}

fn value(address: &str) -> Value {
    Value { address: address.to_owned(), ..Value::default() }
}

fn reason(word: &str) -> EndReason {
    use EndReason::{Closed, Disconnected, Expired, Removed, Resigned, Restored};
    let all = [Resigned, Closed, Expired, Disconnected, Removed, Restored];
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
        Reply::SessionOpened { session, attach } => format!("session {session} opened, attach {attach}"),
        Reply::Attached { session, attach, held, waiting, .. } => {
            let held: Vec<_> = held.iter().map(tell_grant).collect();
            let waiting: Vec<_> =
                waiting.iter().map(|it| format!("{} in {} #{}", it.candidate, it.election, it.serial)).collect();
            format!(
                "session {session} attached, attach {attach}, holds [{}], waits [{}]",
                held.join(", "),
                waiting.join(", ")
            )
        }
        Reply::SessionEnded => "session ended".to_owned(),
        Reply::Campaigned { grant: Some(grant) } => format!("leads: {}", tell_grant(grant)),
        Reply::Campaigned { grant: None } => "waits".to_owned(),
        Reply::Proclaimed => "proclaimed".to_owned(),
        Reply::Resigned { already } => if *already { "resigned already" } else { "resigned" }.to_owned(),
        Reply::Put { version } => format!("put, version {version}"),
        Reply::Deleted { deleted } => format!("deleted {deleted}"),
    }
}

fn tell_refusal(why: &Refusal) -> String {
    match why {
        Refusal::AlreadyFounded => "already founded".to_owned(),
        Refusal::SessionEnded { session } => format!("session {session} has ended"),
        Refusal::AttachChanged { session, attach } => format!("session {session} has attach {attach}"),
        Refusal::ElectionNotFound { election } => format!("no election {election}"),
        Refusal::StaleToken { election, current: Some(current) } => format!("stale token: {current} leads {election}"),
        Refusal::StaleToken { election, current: None } => format!("stale token: nobody leads {election}"),
        Refusal::CandidateExists { election, candidate } => format!("{candidate} stands in {election} already"),
        Refusal::HolderKeepsUntilTtl { election, token } => format!("{token} keeps {election} until its TTL"),
        Refusal::Forgotten { serial } => format!("#{serial} is forgotten: outcome unknown"),
        Refusal::SerialReused { serial } => format!("#{serial} was used before"),
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
            format!("revoked {token} in {election} of session {session} #{serial}: {why}")
        }
        Event::SessionEnded { session, why } => format!("session {session} {why}"),
        Event::KeyChanged { key, revision, version } => {
            let what = version.map_or("deleted".to_owned(), |version| format!("version {version}"));
            format!("key {} at rev {revision}: {what}", String::from_utf8_lossy(key))
        }
    }
}

fn tell_grant(grant: &Grant) -> String {
    let Grant { election, candidate, session, serial, token, .. } = grant;
    format!("{candidate} in {election} token {token} (session {session} #{serial})")
}

fn show(state: &State, trace: &mut String) {
    let cluster = state.cluster().map_or("-".to_owned(), |cluster| cluster.to_string());
    let line =
        format!("cluster {cluster} seq {} rev {} last token {}", state.seq(), state.revision(), state.last_token());
    writeln!(trace, "{line}").unwrap();
    for (id, session) in state.sessions() {
        let (attach, count) = (session.attach, session.candidacies().len());
        writeln!(trace, "  session {id} attach {attach} candidacies {count}").unwrap();
    }
    for (name, election) in state.elections() {
        let leader = election.leader.as_ref().map_or("nobody".to_owned(), tell_grant);
        let line: Vec<_> = election.queue.iter().map(|(_, it)| it.candidate.as_str()).collect();
        writeln!(trace, "  election {name}: {leader}; waiting [{}]", line.join(", ")).unwrap();
    }
    for (key, kv) in state.keys() {
        let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(&kv.value));
        let created = kv.create_revision;
        writeln!(
            trace,
            "  key {key} = {value} (created {created}, written {}, version {})",
            kv.mod_revision, kv.version
        )
        .unwrap();
    }
}

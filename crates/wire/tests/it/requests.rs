//! Requests that are not allowed are refused before anything is proposed, and the refusal names the field, the value and the
//! limit. Requests that are allowed become the command that they say.

use palisade_coord_core::keys::op::{Binding, Delete, Put};
use palisade_coord_core::{
    Command, EndReason, Event, Grant, Guard, HandOver, KeyOp, Keys, OnDisconnect, Op, Refusal, RequestId, Revision,
    Seq, Serial, SessionId, Value, Wish,
};
use palisade_fence::{Fence, Token};
use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::{self, ErrorDetail, observe_event, server_frame};
use palisade_wire::{convert, limits, status};

/// Checks the three names of a refused request.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, ErrorDetail>, field: &str, value: &str, limit: &str) {
    let detail = result.unwrap_err();
    assert_eq!((detail.field.as_str(), detail.value.as_str(), detail.limit.as_str()), (field, value, limit));
    assert_eq!((detail.kind(), detail.outcome()), (Kind::InvalidArgument, Outcome::NotApplied));
    assert_eq!(status::refuse(detail).code(), tonic::Code::InvalidArgument);
}

fn put() -> v1::PutRequest {
    v1::PutRequest { key: b"k".to_vec(), value: b"v".to_vec(), ..v1::PutRequest::default() }
}

fn campaign() -> v1::Campaign {
    v1::Campaign {
        session: 1,
        serial: 2,
        election: "jobs".to_owned(),
        candidate_id: "a".to_owned(),
        value: None,
        priority: 0,
    }
}

#[test]
fn a_put_becomes_its_command() {
    let request = v1::PutRequest {
        fence: Some(v1::Fence { election: "jobs".to_owned(), token: 7 }),
        request_id: Some(v1::RequestId { session: 1, serial: 4, acked_below: 3 }),
        ..put()
    };
    let expected = Command {
        request: Some(RequestId { session: SessionId(1), serial: Serial(4), acked_below: Serial(3) }),
        at_unix_ms: 9,
        op: Op::Keys(KeyOp::Put(Put {
            fence: Some(Fence { election: "jobs".to_owned(), token: Token::new(0, 7) }),
            ..Put::new(*b"k", *b"v")
        })),
    };
    assert_eq!(convert::put(request, 9), Ok(expected));
}

#[test]
fn keys_and_values_are_limited() {
    let key = |len| v1::PutRequest { key: vec![0; len], ..put() };
    assert!(convert::put(key(limits::KEY_BYTES), 0).is_ok());
    refused(convert::put(key(0), 0), "key", "0 bytes", "1 to 4096 bytes");
    refused(convert::put(key(4_097), 0), "key", "4097 bytes", "1 to 4096 bytes");
    refused(convert::get(v1::GetRequest::default()), "key", "0 bytes", "1 to 4096 bytes");
    refused(convert::delete(v1::DeleteRequest::default(), 0), "key", "0 bytes", "1 to 4096 bytes");

    let value = |len| v1::PutRequest { value: vec![0; len], ..put() };
    assert!(convert::put(value(1 << 20), 0).is_ok());
    refused(convert::put(value((1 << 20) + 1), 0), "value", "1048577 bytes", "0 to 1048576 bytes");
    let len = prost::Message::encoded_len(&value(3 << 19));
    refused(convert::put(value(3 << 19), 0), "request", &format!("{len} bytes"), "at most 1572864 bytes encoded");
}

#[test]
fn a_put_may_keep_what_is_there_and_bind_the_key_to_a_session() {
    use v1::put_request::Binding as Asked;
    let op = |request| match convert::put(request, 0).unwrap().op {
        Op::Keys(KeyOp::Put(put)) => put,
        other => panic!("{other:?}"),
    };
    let keeps = v1::PutRequest {
        value: vec![],
        keep_value: true,
        binding: Some(Asked::KeepSession(v1::put_op::Keep {})),
        show_previous: true,
        ..put()
    };
    let expected = Put { value: None, session: Binding::Keep, shows_previous: true, ..Put::new(*b"k", *b"") };
    assert_eq!(op(keeps.clone()), expected);
    let with = |value: &[u8]| v1::PutRequest { value: value.to_vec(), ..keeps.clone() };
    refused(convert::put(with(b"new"), 0), "value", "3 bytes", "empty with keep_value");
    let bound = |id| v1::PutRequest { binding: Some(Asked::Session(id)), ..put() };
    assert_eq!(op(bound(7)).session, Binding::To(SessionId(7)));
    refused(convert::put(bound(0), 0), "session", "0", "the id of a session, from 1");
}

#[test]
fn a_removal_names_one_key_or_many() {
    let prefix =
        v1::KeyRange { key: b"a/".to_vec(), until: Some(v1::key_range::Until::Prefix(v1::key_range::Prefix {})) };
    let request = v1::DeleteRequest { keys: Some(prefix), show_previous: true, ..v1::DeleteRequest::default() };
    let command = convert::delete(request.clone(), 0).unwrap();
    let expected = Delete { shows_previous: true, ..Delete::new(Keys::prefix(*b"a/")) };
    assert_eq!(command.op, Op::Keys(KeyOp::Delete(expected)));
    let both = v1::DeleteRequest { key: b"k".to_vec(), ..request };
    refused(convert::delete(both, 0), "key", "1 bytes", "empty with keys");
}

#[test]
fn a_watch_becomes_what_it_says() {
    let request = v1::WatchRequest {
        keys: Some(v1::KeyRange { key: b"k".to_vec(), until: None }),
        from_revision: 7,
        show_previous: true,
        no_deletes: true,
        ..v1::WatchRequest::default()
    };
    let expected = convert::Watch {
        keys: Keys::One(b"k".to_vec()),
        from: Some(Revision(7)),
        shows_previous: true,
        tells: convert::Tells::Puts,
        progress_ms: limits::PROGRESS_DEFAULT_MS,
    };
    assert_eq!(convert::watch(request.clone()), Ok(expected));
    let progress = |progress_interval_ms| v1::WatchRequest { progress_interval_ms, ..request.clone() };
    assert_eq!(convert::watch(progress(100)).unwrap().progress_ms, 100);
    refused(convert::watch(progress(99)), "progress_interval_ms", "99 ms", "100 to 600000 ms");
    refused(convert::watch(progress(600_001)), "progress_interval_ms", "600001 ms", "100 to 600000 ms");
    let nothing = v1::WatchRequest { no_puts: true, ..request.clone() };
    refused(convert::watch(nothing), "no_puts, no_deletes", "both", "at most one: else nothing is told");
    let nowhere = v1::WatchRequest { keys: None, ..request };
    refused(convert::watch(nowhere), "keys", "none that this server knows", "one");
}

#[test]
fn names_are_printable_and_limited() {
    let limit = "1 to 255 bytes of printable UTF-8";
    let election = |name: &str| convert::campaign(v1::Campaign { election: name.to_owned(), ..campaign() }, 0);
    assert!(election(&"x".repeat(255)).is_ok());
    assert!(election("mit Leerzeichen: ü, 选举").is_ok());
    refused(election(""), "election", "0 bytes", limit);
    refused(election(&"ü".repeat(128)), "election", "256 bytes", limit);
    refused(election("a\nb"), "election", "a\\nb", limit);
    refused(election("a\u{2028}b"), "election", "a\\u{2028}b", limit);
    let candidate = v1::Campaign { candidate_id: "\0".to_owned(), ..campaign() };
    refused(convert::campaign(candidate, 0), "candidate_id", "\\0", limit);
}

#[test]
fn tokens_sessions_and_serials_are_numbers_that_can_be() {
    let fence = |token| v1::PutRequest { fence: Some(v1::Fence { election: "jobs".to_owned(), token }), ..put() };
    let limit = "1 to 9223372036854775807";
    refused(convert::put(fence(0), 0), "fence.token", "0", limit);
    refused(convert::put(fence(1 << 63), 0), "fence.token", "9223372036854775808", limit);
    assert!(convert::put(fence((1 << 63) - 1), 0).is_ok());
    let resign = v1::ResignRequest { election: "jobs".to_owned(), ..Default::default() };
    refused(convert::resign(resign, 0), "token", "0", limit);

    let id = |session, serial, acked_below| v1::PutRequest {
        request_id: Some(v1::RequestId { session, serial, acked_below }),
        ..put()
    };
    refused(convert::put(id(0, 1, 0), 0), "request_id.session", "0", "the id of a session, from 1");
    refused(convert::put(id(1, 0, 0), 0), "request_id.serial", "0", "1 to 18446744073709551614");
    refused(
        convert::put(id(1, u64::MAX, 0), 0),
        "request_id.serial",
        "18446744073709551615",
        "1 to 18446744073709551614",
    );
    assert!(convert::put(id(1, u64::MAX - 1, 0), 0).is_ok());
    let limit = "at most the serial 4: the request itself has no answer yet";
    refused(convert::put(id(1, 4, 5), 0), "request_id.acked_below", "5", limit);
    refused(convert::attach(v1::AttachSession { session: 0 }, 0), "session", "0", "the id of a session, from 1");
}

#[test]
fn values_of_leaders_are_limited_as_encoded() {
    let proclaim = |data| v1::ProclaimRequest {
        election: "jobs".to_owned(),
        token: 1,
        value: Some(v1::LeaderValue { data, ..Default::default() }),
        request_id: None,
    };
    assert!(convert::proclaim(proclaim(vec![0; (64 << 10) - 4]), 0).is_ok());
    let limit = "at most 65536 bytes encoded";
    refused(convert::proclaim(proclaim(vec![0; 64 << 10]), 0), "value", "65540 bytes", limit);
}

#[test]
fn a_campaign_becomes_its_command() {
    let command = convert::campaign(v1::Campaign { priority: -3, ..campaign() }, 9).unwrap();
    let expected = Op::Campaign {
        session: SessionId(1),
        serial: Serial(2),
        election: "jobs".to_owned(),
        candidate: "a".to_owned(),
        value: Value::default(),
        priority: -3,
    };
    assert_eq!((command.op, command.request, command.at_unix_ms), (expected, None, 9));
}

#[test]
fn a_ttl_out_of_range_is_an_error_and_never_changed() {
    let allowed = || limits::TTL_MIN_MS..=limits::TTL_MAX_MS;
    let open =
        |ttl_ms, on_disconnect| convert::open(v1::OpenSession { ttl_ms, on_disconnect, session_id: 0 }, allowed(), 0);
    refused(open(199, None), "ttl_ms", "199 ms", "200 to 600000 ms");
    refused(open(600_001, None), "ttl_ms", "600001 ms", "200 to 600000 ms");
    let expected = Op::OpenSession { id: None, ttl_ms: 200, on_disconnect: OnDisconnect::KeepUntilTtl };
    assert_eq!(open(200, None).unwrap().op, expected);
    let after = |ms| Some(convert::on_disconnect(OnDisconnect::ReleaseAfter { ms }));
    let expected = Op::OpenSession { id: None, ttl_ms: 300, on_disconnect: OnDisconnect::ReleaseAfter { ms: 0 } };
    assert_eq!(open(300, after(0)).unwrap().op, expected);
    refused(open(300, after(600_001)), "on_disconnect.release_after_ms", "600001 ms", "0 to 600000 ms");
}

#[test]
fn an_id_that_a_caller_gives_is_below_two_to_the_63() {
    let open = |session_id| {
        let frame = v1::OpenSession { ttl_ms: 200, on_disconnect: None, session_id };
        convert::open(frame, limits::TTL_MIN_MS..=limits::TTL_MAX_MS, 0)
    };
    let expected =
        Op::OpenSession { id: Some(SessionId(1 << 63 | 5)), ttl_ms: 200, on_disconnect: OnDisconnect::KeepUntilTtl };
    assert_eq!(open(5).unwrap().op, expected);
    let limit = "1 to 9223372036854775807, or 0 for one that the store chooses";
    refused(open(1 << 63), "session_id", "9223372036854775808", limit);
}

#[test]
fn a_keep_alive_names_a_bounded_number_of_sessions() {
    let keep_alive = |count: u64| convert::keep_alive(v1::KeepAlive { sessions: (1..=count).collect() });
    assert_eq!(keep_alive(2), Ok(vec![SessionId(1), SessionId(2)]));
    refused(keep_alive(0), "sessions", "0 sessions", "1 to 1024 sessions");
    refused(keep_alive(1_025), "sessions", "1025 sessions", "1 to 1024 sessions");
}

#[test]
fn a_shown_value_is_shortened() {
    let detail = convert::invalid("f", "ü".repeat(1_000), "short");
    assert_eq!(detail.value.chars().count(), limits::SHOWN_CHARS);
}

#[test]
fn who_resigns_is_the_holder_or_somebody_from_outside_who_asks_unless_told_otherwise() {
    let resign = |session, force, end_session| {
        let election = "jobs".to_owned();
        convert::resign(v1::ResignRequest { election, token: 1, session, force, end_session, request_id: None }, 0)
    };
    let op = |session, force, end_session| resign(session, force, end_session).unwrap().op;
    assert!(matches!(op(0, false, false), Op::Resign { by: None, guard: Guard::Ask, .. }));
    assert!(matches!(op(0, false, true), Op::Resign { by: None, guard: Guard::AskAndStopRenewing, .. }));
    assert!(matches!(op(5, true, false), Op::Resign { by: Some(SessionId(5)), guard: Guard::Break, .. }));
    refused(resign(0, true, true), "end_session", "true", "not together with force, which asks nobody");
}

#[test]
fn transfers_withdrawals_and_closings_become_their_commands() {
    let transfer = v1::TransferRequest { election: "jobs".to_owned(), to: "b".to_owned(), ..Default::default() };
    let op = convert::transfer(transfer.clone(), 0).unwrap().op;
    let expected =
        Op::Transfer { election: "jobs".to_owned(), token: None, to: "b".to_owned(), by: None, guard: Guard::Ask };
    assert_eq!(op, expected);
    let limit = "1 to 255 bytes of printable UTF-8";
    refused(
        convert::transfer(v1::TransferRequest { to: String::new(), ..transfer.clone() }, 0),
        "to",
        "0 bytes",
        limit,
    );
    let limit = "1 to 9223372036854775807";
    let bad = v1::TransferRequest { token: u64::MAX, ..transfer };
    refused(convert::transfer(bad, 0), "token", "18446744073709551615", limit);

    let withdraw =
        v1::WithdrawRequest { election: "jobs".to_owned(), candidate_id: "a".to_owned(), ..Default::default() };
    let op = convert::withdraw_by_id(withdraw, 0).unwrap().op;
    let expected = Op::Remove { election: "jobs".to_owned(), candidate: "a".to_owned(), by: None, guard: Guard::Ask };
    assert_eq!(op, expected);

    let op = convert::withdraw(v1::Withdraw { session: 3, serial: 4 }, 0).unwrap().op;
    assert_eq!(op, Op::Withdraw { session: SessionId(3), serial: Serial(4) });
    refused(convert::withdraw(v1::Withdraw { session: 3, serial: 0 }, 0), "serial", "0", "1 to 18446744073709551614");

    let close = v1::CloseSessionRequest { session: 3, force: true, ..Default::default() };
    let op = convert::close_session(close, 0).unwrap().op;
    assert_eq!(op, Op::CloseSession { session: SessionId(3), guard: Guard::Break });
    let nobody = v1::CloseSessionRequest::default();
    refused(convert::close_session(nobody, 0), "session", "0", "the id of a session, from 1");
}

#[test]
fn only_a_forgotten_answer_is_unknown() {
    let election = || "jobs".to_owned();
    let all = [
        (Refusal::AlreadyFounded, Kind::Unspecified, tonic::Code::Aborted),
        (Refusal::SessionEnded { session: SessionId(1) }, Kind::SessionEnded, tonic::Code::NotFound),
        (Refusal::ElectionNotFound { election: election() }, Kind::ElectionNotFound, tonic::Code::NotFound),
        (
            Refusal::StaleToken { election: election(), current: Some(Token::new(0, 3)) },
            Kind::StaleToken,
            tonic::Code::FailedPrecondition,
        ),
        (
            Refusal::CandidateExists { election: election(), candidate: "a".to_owned() },
            Kind::CandidateExists,
            tonic::Code::FailedPrecondition,
        ),
        (Refusal::SessionExists { session: SessionId(1) }, Kind::SessionExists, tonic::Code::FailedPrecondition),
        (
            Refusal::CandidateNotFound { election: election(), candidate: "a".to_owned() },
            Kind::CandidateNotFound,
            tonic::Code::NotFound,
        ),
        (
            Refusal::HolderKeepsUntilTtl { election: election(), token: Token::new(0, 3) },
            Kind::HolderKeepsUntilTtl,
            tonic::Code::FailedPrecondition,
        ),
        (Refusal::SerialReused { serial: Serial(4) }, Kind::SerialReused, tonic::Code::FailedPrecondition),
        (
            Refusal::Compacted { revision: Revision(3), compacted: Revision(5) },
            Kind::Compacted,
            tonic::Code::OutOfRange,
        ),
        (
            Refusal::FutureRevision { revision: Revision(9), current: Revision(5) },
            Kind::FutureRevision,
            tonic::Code::OutOfRange,
        ),
        (Refusal::KeyNotFound { key: vec![0, 255] }, Kind::KeyNotFound, tonic::Code::NotFound),
        (Refusal::Limit { what: "keys", limit: 5 }, Kind::Overloaded, tonic::Code::ResourceExhausted),
        (Refusal::Forgotten { serial: Serial(4) }, Kind::Forgotten, tonic::Code::FailedPrecondition),
    ];
    for (refusal, kind, code) in all {
        let detail = convert::refusal(&refusal, v1::Header { seq: 8, ..Default::default() });
        let expected = if kind == Kind::Forgotten { Outcome::Unknown } else { Outcome::NotApplied };
        assert_eq!((detail.kind(), detail.outcome()), (kind, expected), "{refusal:?}");
        assert_eq!(detail.header.as_ref().map(|header| header.seq), Some(8));
        let status = status::refuse(detail.clone());
        assert_eq!(status.code(), code, "{refusal:?}");
        assert_eq!(status::detail(&status), Some(detail));
    }
}

fn grant() -> Grant {
    Grant {
        election: "jobs".to_owned(),
        candidate: "a".to_owned(),
        session: SessionId(1),
        serial: Serial(2),
        token: Token::new(1, 3),
        seq: Seq(4),
        since_unix_ms: 5,
        value: Value {
            address: "host:1".to_owned(),
            components: [("rpc".to_owned(), "host:2".to_owned())].into(),
            data: vec![0, 255],
        },
    }
}

#[test]
fn a_grant_comes_back_as_it_was_sent() {
    assert_eq!(convert::grant_from(convert::grant(&grant())), Ok(grant()));
    let without = v1::Grant { token: 0, ..convert::grant(&grant()) };
    assert_eq!(convert::grant_from(without).unwrap_err().to_string(), "grant.token: '0' cannot be read");
    for why in ["resigned", "closed", "expired", "disconnected", "transferred", "removed", "restored"] {
        assert_eq!(convert::end_reason_from(why).unwrap().to_string(), why);
    }
    assert_eq!(convert::end_reason_from("bored"), None);
}

#[test]
fn observers_and_sessions_hear_what_concerns_them() {
    let header = || v1::Header { seq: 4, ..Default::default() };
    let token = Token::new(1, 2);
    let events = [
        Event::SessionEnded { session: SessionId(9), why: EndReason::Expired },
        Event::Elected { grant: grant(), previous: Some((token, EndReason::Expired)) },
        Event::Vacant { election: "other".to_owned(), previous: token, why: EndReason::Expired },
        Event::EndRequested {
            session: SessionId(1),
            serial: Serial(2),
            election: "jobs".to_owned(),
            hand_over: HandOver { token, to: Some("b".to_owned()) },
        },
        Event::SessionAsked { session: SessionId(1), wish: Wish::StopRenewing },
        Event::Withdrawn {
            session: SessionId(3),
            serial: Serial(4),
            election: "jobs".to_owned(),
            why: EndReason::Removed,
        },
    ];
    let told = convert::observed_events(header(), "jobs", &events).unwrap();
    let expected = observe_event::Kind::Elected(observe_event::Elected {
        leader: Some(convert::grant(&grant())),
        previous_token: token.get(),
        why: "expired".to_owned(),
    });
    assert_eq!(told.events, [v1::ObserveEvent { kind: Some(expected) }]);
    assert_eq!(told.header, Some(header()));
    assert_eq!(convert::observed_events(header(), "nobody", &events), None);

    let concerned: Vec<_> = events.iter().filter_map(|event| convert::session_event(header(), event)).collect();
    assert!(matches!(&concerned[0], (SessionId(9), server_frame::Body::Ended(ended)) if ended.why == "expired"));
    assert!(matches!(&concerned[1], (SessionId(1), server_frame::Body::Granted(_))));
    assert!(matches!(&concerned[2], (SessionId(1), server_frame::Body::EndRequested(asked)) if asked.to == "b"));
    let wish = v1::session_asked::Wish::StopRenewing;
    assert!(matches!(&concerned[3], (_, server_frame::Body::SessionAsked(asked)) if asked.wish() == wish));
    assert!(matches!(&concerned[4], (SessionId(3), server_frame::Body::Withdrawn(gone)) if gone.why == "removed"));
    assert_eq!(concerned.len(), 5);
}

#[test]
fn the_descriptors_name_the_services() {
    let has = |name: &str| palisade_wire::FILE_DESCRIPTOR_SET.windows(name.len()).any(|it| it == name.as_bytes());
    assert!(has("SessionService") && has("KvService") && has("ElectionService") && has("ClusterService"));
}

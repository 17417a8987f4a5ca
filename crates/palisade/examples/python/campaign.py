#!/usr/bin/env python3
"""Leads an election from Python: campaigns, observes, writes with a fence, loses and regains leadership.

It is an example to read. It keeps the rules of proto/README.md: what it believes counts from when a keep-alive was sent, every write
carries the token, and nothing whose outcome is unknown is sent twice without a request id.
"""

import argparse
import importlib
import json
import pathlib
import queue
import sys
import tempfile
import threading
import time

import grpc
from grpc_status import rpc_status
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[4]
TTL_MS = 3_000


def stubs():
    """The messages and services, generated into a folder that goes away."""
    out = tempfile.TemporaryDirectory()
    sources = [str(path) for path in sorted((ROOT / "proto/palisade/coord/v1").glob("*.proto"))]
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out.name}", f"--grpc_python_out={out.name}"]
    if protoc.main(arguments + sources) != 0:
        sys.exit("the .proto files cannot be compiled")
    sys.path.insert(0, out.name)
    names = ("common", "session", "election", "kv")
    modules = [importlib.import_module(f"palisade.coord.v1.{name}_pb2") for name in names]
    services = [importlib.import_module(f"palisade.coord.v1.{name}_pb2_grpc") for name in names[1:]]
    out.cleanup()
    return modules, services


(common, session_pb, election_pb, kv_pb), (session_grpc, election_grpc, kv_grpc) = stubs()


def say(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def now():
    """A clock that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def detail(error):
    """What the store says is known; None: the outcome is unknown."""
    status = rpc_status.from_call(error)
    for carried in status.details if status is not None else ():
        found = common.ErrorDetail()
        if carried.Unpack(found):
            return found
    return None


def is_kind(error, name):
    found = detail(error)
    return found is not None and found.kind == common.ErrorDetail.Kind.Value(name)


class Lost(Exception):
    """The leadership, or the session with it, is over."""


class Store:
    """Whichever node answers. One that breaks is left for the next."""

    def __init__(self, endpoints):
        self.endpoints = endpoints
        self.turn = -1
        self.next()

    def next(self):
        self.turn += 1
        self.channel = grpc.insecure_channel(self.endpoints[self.turn % len(self.endpoints)])
        self.sessions = session_grpc.SessionServiceStub(self.channel)
        self.elections = election_grpc.ElectionServiceStub(self.channel)
        self.kv = kv_grpc.KvServiceStub(self.channel)

    def until(self, give_up_at, call):
        """Repeats what may be repeated, at one node after the other."""
        while True:
            try:
                return call(self)
            except grpc.RpcError as error:
                found = detail(error)
                final = found is not None and error.code() not in (
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    grpc.StatusCode.ABORTED,
                )
                if final or now() >= give_up_at:
                    raise
                time.sleep(0.05)
                self.next()


class Session:
    """Liveness: one stream that the store sends on, and keep-alives."""

    def __init__(self, store, release_after_ms):
        self.store = store
        self.events = queue.Queue()
        self.serial = 0
        on_disconnect = session_pb.OnDisconnect(release_after_ms=release_after_ms)
        how = session_pb.OpenSession(ttl_ms=TTL_MS, on_disconnect=on_disconnect)
        sent = now()
        self.stream = store.until(sent + 30, lambda it: self.begin(it, session_pb.AttachRequest(open=how)))
        self.id = self.first.opened.session
        self.believed_until = self.believable(sent)
        self.over = threading.Event()
        threading.Thread(target=self.listen, daemon=True).start()
        threading.Thread(target=self.renew, daemon=True).start()
        say("opened", session=self.id)

    @staticmethod
    def believable(sent):
        """From when it was sent, less what two clocks may differ."""
        return sent + TTL_MS / 1_000 * 0.99 - 0.002

    def begin(self, store, request):
        stream = store.sessions.Attach(request)
        self.first = next(stream)
        return stream

    def listen(self):
        """Reads events; a stream that breaks is attached again."""
        while not self.over.is_set():
            try:
                for frame in self.stream:
                    self.events.put(frame)
            except grpc.RpcError:
                pass
            if self.over.is_set():
                return
            say("suspect", session=self.id)
            again = session_pb.AttachRequest(attach=session_pb.AttachSession(session=self.id))
            try:
                # With "release after N ms" nobody waits longer than max(N, 3 s).
                self.stream = self.store.until(now() + 3, lambda it: self.begin(it, again))
                self.events.put(self.first)
            except grpc.RpcError:
                self.end()

    def renew(self):
        keep_alive = session_pb.KeepAlive(sessions=[self.id])
        while not self.over.wait(TTL_MS / 3_000):
            sent = now()
            try:
                kept = self.store.sessions.KeepAlive(keep_alive, timeout=TTL_MS / 1_000)
                if self.id in kept.sessions:
                    self.believed_until = max(self.believed_until, self.believable(sent))
            except grpc.RpcError as error:
                if is_kind(error, "SESSION_ENDED"):
                    self.end()

    def end(self):
        self.over.set()
        self.events.put(None)

    def is_alive(self):
        return not self.over.is_set() and now() < self.believed_until

    def close(self):
        """Breaking the stream is the disconnect; the session is released after the time that was asked for."""
        self.over.set()
        self.stream.cancel()

    def next_serial(self):
        self.serial += 1
        return self.serial

    def campaign(self, election, candidate):
        """Waits for as long as it takes, across failovers of the store, and gives the token."""
        serial = self.next_serial()
        value = common.LeaderValue(address=f"{candidate}:0")
        campaign = session_pb.Campaign(
            session=self.id, serial=serial, election=election, candidate_id=candidate, value=value
        )
        grant = None
        while grant is None:
            try:
                # The same serial is the same place in the line, however often it is sent.
                reply = self.store.sessions.Campaign(campaign, timeout=5)
                if reply.HasField("grant"):
                    return serial, reply.grant.token
                break
            except grpc.RpcError as error:
                if is_kind(error, "SESSION_ENDED"):
                    raise Lost("the session ended") from error
                if not self.is_alive():
                    raise Lost("the session is no longer believed in") from error
                time.sleep(0.05)
        say("waiting", election=election)
        while True:
            frame = self.events.get()
            if frame is None or frame.HasField("ended"):
                raise Lost("the session ended")
            if frame.HasField("granted") and frame.granted.grant.serial == serial:
                return serial, frame.granted.grant.token
            if frame.HasField("attached"):
                for held in frame.attached.held:
                    if held.serial == serial:
                        return serial, held.token

    def lost(self, token):
        """Whether the store has said that this leadership is over, or nothing for too long."""
        while True:
            try:
                frame = self.events.get_nowait()
            except queue.Empty:
                break
            if frame is None or frame.HasField("ended"):
                return "the session ended"
            if frame.HasField("revoked") and frame.revoked.token == token:
                return frame.revoked.why
            if frame.HasField("attached") and token not in [held.token for held in frame.attached.held]:
                return "it ended while the stream was broken"
        return None if self.is_alive() else "no word of the store for a TTL"


def write(store, session, election, token, key, value):
    """A write that takes effect once, and only while this leader leads."""
    request_id = common.RequestId(session=session.id, serial=session.next_serial())
    put = kv_pb.PutRequest(
        key=key.encode(),
        value=value.encode(),
        fence=common.Fence(election=election, token=token),
        request_id=request_id,
    )
    return store.until(now() + 10, lambda it: it.kv.Put(put, timeout=5))


def observe(endpoints, election):
    """Everybody's view: the present state first, then every change."""
    store, seen = Store(endpoints), 0
    while True:
        try:
            for news in store.elections.Observe(election_pb.ObserveRequest(election=election)):
                if news.header.seq < seen:
                    continue
                seen = news.header.seq
                for event in news.events:
                    kind = event.WhichOneof("kind")
                    leader = getattr(event, kind).leader if kind != "vacant" else None
                    token = leader.token if leader is not None and leader.token else None
                    say("observed", kind=kind, token=token, seq=news.header.seq)
        except grpc.RpcError:
            pass
        time.sleep(0.1)
        store.next()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("endpoints", help="HOST:PORT of some nodes, with commas between them")
    parser.add_argument("--election", default="example")
    parser.add_argument("--id", default="python")
    parser.add_argument("--writes", type=int, default=0, help="stop after so many writes; 0: never")
    parser.add_argument("--every", type=float, default=0.2, help="seconds between writes")
    options = parser.parse_args()
    endpoints = options.endpoints.split(",")
    store = Store(endpoints)
    threading.Thread(target=observe, args=(endpoints, options.election), daemon=True).start()

    session, writes, stale = None, 0, None
    while options.writes == 0 or writes < options.writes:
        if session is None or not session.is_alive():
            session = Session(store, release_after_ms=0)
        try:
            _, token = session.campaign(options.election, options.id)
        except Lost as why:
            say("lost", why=str(why))
            session.close()
            session = None
            continue
        say("elected", token=token)
        if stale is not None:
            # The old self of this very process is fenced as anybody else would be.
            try:
                write(store, session, options.election, stale, f"{options.election}/last", "from the past")
                sys.exit("a stale token was accepted")
            except grpc.RpcError as error:
                found = detail(error)
                assert found is not None and is_kind(error, "STALE_TOKEN"), error
                say("stale", token=stale, current=found.current_token)
        while options.writes == 0 or writes < options.writes:
            why = session.lost(token)
            if why is None:
                try:
                    reply = write(store, session, options.election, token, f"{options.election}/last", str(writes))
                    writes += 1
                    say("wrote", count=writes, revision=reply.header.revision)
                except grpc.RpcError as error:
                    why = "the token is stale" if is_kind(error, "STALE_TOKEN") else error.code().name
            if why is not None:
                say("lost", why=why, token=token)
                stale = token
                break
            time.sleep(options.every)
    # First stop, then resign.
    resign = election_pb.ResignRequest(election=options.election, token=token, session=session.id)
    store.until(now() + 10, lambda it: it.elections.Resign(resign, timeout=5))
    session.close()


if __name__ == "__main__":
    main()

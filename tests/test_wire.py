"""The wire, over real sockets: whole frames arrive however they are cut, and nothing else does."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import wire
from harness.wire import Channel, Message, WireClosed, WireTimeout, WireViolation

SOON = 5.0
plain = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
values = st.recursive(
    plain | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
messages = st.dictionaries(text, values, max_size=3)


@contextlib.contextmanager
def connected(limit: int = 1 << 20) -> Iterator[tuple[Channel, socket.socket]]:
    """A channel that accepts frames of ``limit`` bytes, and the raw socket that it reads from."""
    channel, peer = Channel.pair(limit=limit)
    try:
        yield channel, peer
    finally:
        channel.close()
        peer.close()


@contextlib.contextmanager
def both() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = Channel.pair()
    other = Channel(theirs)
    try:
        yield ours, other
    finally:
        ours.close()
        other.close()


def framed(body: bytes) -> bytes:
    return struct.pack("!I", len(body)) + body


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# ---- frames ------------------------------------------------------------------------------------


@given(st.lists(messages, min_size=1, max_size=3))
@settings(max_examples=40)
def test_messages_arrive_whole_and_in_order(sent: list[Message]) -> None:
    with both() as (ours, theirs):
        for message in sent:
            ours.send(message)
        assert [theirs.receive(SOON) for _ in sent] == [(message, []) for message in sent]
        assert not theirs.pending()


@given(sent=st.lists(messages, min_size=1, max_size=3), data=st.data())
@settings(max_examples=40)
def test_messages_survive_every_way_of_cutting_the_stream(
    sent: list[Message], data: st.DataObject
) -> None:
    stream = b"".join(framed(json.dumps(m).encode()) for m in sent)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream)), max_size=12)))
    with connected() as (channel, peer):
        got: list[Message] = []
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            peer.sendall(stream[start:end])
            with contextlib.suppress(WireTimeout):
                while True:
                    got.append(channel.receive(0)[0])
        assert got == sent


def test_a_message_larger_than_every_socket_buffer_arrives() -> None:
    with both() as (ours, theirs):
        message = {"text": "x" * (5 << 20)}
        sender = in_thread(lambda: ours.send(message))
        assert theirs.receive(SOON)[0] == message
        sender.join(SOON)


@given(length=st.integers(0, 200), limit=st.integers(0, 200))
def test_a_frame_is_refused_exactly_where_it_is_longer_than_the_limit(
    length: int, limit: int
) -> None:
    body = b"{" + b" " * (length - 2) + b"}" if length >= 2 else b"0" * length
    with connected(limit) as (channel, peer):
        peer.sendall(framed(body))
        if length > limit:
            with pytest.raises(WireViolation, match="bytes"):
                channel.receive(SOON)
        elif length >= 2:
            assert channel.receive(SOON) == ({}, [])
        else:
            with pytest.raises(WireViolation):
                channel.receive(SOON)


def test_a_length_alone_is_enough_to_refuse_a_frame() -> None:
    with connected() as (channel, peer):
        peer.sendall(b"\xff\xff\xff\xff")
        with pytest.raises(WireViolation, match="4294967295"):
            channel.receive(SOON)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_json_object_are_refused(body: bytes) -> None:
    try:
        read = json.loads(body.decode())
    except (ValueError, RecursionError):
        read = None
    with connected() as (channel, peer):
        peer.sendall(framed(body))
        if isinstance(read, dict):
            assert channel.receive(SOON)[0] == read
        else:
            with pytest.raises(WireViolation):
                channel.receive(SOON)


@given((plain | text | st.lists(values, max_size=3)).map(json.dumps))
def test_json_that_is_no_object_is_refused(body: str) -> None:
    with connected() as (channel, peer):
        peer.sendall(framed(body.encode()))
        with pytest.raises(WireViolation):
            channel.receive(SOON)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"a": 1' + b"0" * 10_000 + b"}",
        b'{"a": "\xff"}',
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-32-le"),
        b'{"a": "\\ud800"}',
        b'{"\\uDC00": 1}',
        b"{'a': 1}",
        b'{"a": 1}{"b": 2}',
        b"",
    ],
    ids=lambda b: repr(b[:16]),
)
def test_hostile_bodies_are_refused(body: bytes) -> None:
    with connected() as (channel, peer):
        sender = in_thread(lambda: peer.sendall(framed(body)))
        with pytest.raises(WireViolation):
            channel.receive(SOON)
        sender.join(SOON)


def test_text_beyond_the_basic_plane_arrives() -> None:
    with both() as (ours, theirs):
        ours.send({"smile": "\U0001f600", "backslash": "\\ud800 as text"})
        assert theirs.receive(SOON)[0] == {"smile": "\U0001f600", "backslash": "\\ud800 as text"}


# ---- peers that go, or wait --------------------------------------------------------------------


@given(st.integers(0, 11))
def test_a_peer_that_closes_within_a_frame_is_gone(sent: int) -> None:
    with connected() as (channel, peer):
        peer.sendall(framed(b'{"a": 1}')[:sent])
        peer.close()
        with pytest.raises(WireClosed):
            channel.receive(SOON)


def test_what_a_peer_said_before_it_closed_is_heard() -> None:
    with connected() as (channel, peer):
        peer.sendall(framed(b'{"last": true}'))
        peer.close()
        assert channel.receive(SOON)[0] == {"last": True}
        with pytest.raises(WireClosed):
            channel.receive(SOON)


def test_sending_to_a_peer_that_is_gone_says_so() -> None:
    with connected() as (channel, peer):
        peer.close()
        with pytest.raises(WireClosed):
            channel.send({})


@pytest.mark.parametrize("sent", [b"", b"\0\0", framed(b'{"a": 1}')[:-1]])
def test_a_frame_that_does_not_come_in_time_times_out_and_may_come_later(sent: bytes) -> None:
    whole = framed(b'{"a": 1}')
    with connected() as (channel, peer):
        peer.sendall(sent)
        begun = time.monotonic()
        with pytest.raises(WireTimeout):
            channel.receive(0.1)
        assert 0.09 <= time.monotonic() - begun < 2
        peer.sendall(whole[len(sent) :])
        assert channel.receive(SOON)[0] == {"a": 1}


def test_bytes_that_trickle_do_not_extend_the_time() -> None:
    with connected() as (channel, peer):
        stop = threading.Event()

        def trickle() -> None:
            peer.sendall(struct.pack("!I", 1000))
            while not stop.wait(0.02):
                peer.sendall(b" ")

        sender = in_thread(trickle)
        begun = time.monotonic()
        with pytest.raises(WireTimeout):
            channel.receive(0.3)
        assert time.monotonic() - begun < 2
        stop.set()
        sender.join(SOON)


def test_a_peer_that_does_not_read_cannot_hold_up_the_sender(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "SEND_SECONDS", 0.2)
    with connected() as (channel, peer):
        with pytest.raises(WireClosed):
            channel.send({"text": "x" * (8 << 20)})
        with pytest.raises(WireClosed):  # half a frame is out: nothing may follow it
            channel.send({})
        assert peer.recv(4) == struct.pack("!I", len('{"text":""}') + (8 << 20))


def test_pending_tells_bytes_that_nobody_asked_for() -> None:
    with connected() as (channel, peer):
        assert not channel.pending()
        peer.sendall(framed(b"{}") + b"\0")
        assert channel.receive(SOON)[0] == {}
        assert channel.pending()


# ---- descriptors -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 8])
def test_descriptors_arrive_in_order_as_new_ones(count: int) -> None:
    pipes = [os.pipe() for _ in range(count)]
    with both() as (ours, theirs):
        ours.send({"n": count}, [write for _, write in pipes])
        message, fds = theirs.receive(SOON)
        assert message == {"n": count}
        assert len(set(fds) | {end for pipe in pipes for end in pipe}) == 3 * count
        for i, ((read, write), fd) in enumerate(zip(pipes, fds, strict=True)):
            os.close(write)
            os.write(fd, bytes([i]))
            os.close(fd)
            assert os.read(read, 10) == bytes([i])
            assert os.read(read, 10) == b"", "the last writer is closed"
            os.close(read)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=5))
def test_descriptors_come_with_their_own_message(counts: list[int]) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    with both() as (ours, theirs):
        for number, count in enumerate(counts):
            ours.send({"n": number}, [null] * count)
        for number, count in enumerate(counts):
            message, fds = theirs.receive(SOON)
            assert (message["n"], len(fds)) == (number, count)
            for fd in fds:
                os.close(fd)
    os.close(null)


def test_descriptors_come_with_a_message_that_needs_many_reads() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    with both() as (ours, theirs):
        sender = in_thread(lambda: ours.send({"text": "x" * (3 << 20)}, [null]))
        message, fds = theirs.receive(SOON)
        sender.join(SOON)
        assert len(message["text"]) == 3 << 20
        assert len(fds) == 1
        os.close(fds[0])
    os.close(null)


def test_close_closes_descriptors_that_nobody_took() -> None:
    read, write = os.pipe()
    before = open_descriptors()
    channel, peer = Channel.pair()
    socket.send_fds(peer, [framed(b'{"a": 1}')[:6]], [write])
    os.close(write)
    with pytest.raises(WireTimeout):
        channel.receive(0.05)
    assert open_descriptors() == before + 2, "two sockets and the new one, less the sent one"
    channel.close()
    peer.close()
    assert open_descriptors() == before - 1
    assert os.read(read, 1) == b"", "no writer is left"
    os.close(read)


def test_a_frame_cannot_smuggle_in_more_descriptors_than_a_message_may_have() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    before = open_descriptors()
    with connected() as (channel, peer):
        peer.sendall(struct.pack("!I", 4000))
        for _ in range(20):
            socket.send_fds(peer, [b" "], [null] * 8)
        with pytest.raises(WireViolation, match="descriptors"):
            channel.receive(SOON)
        assert open_descriptors() <= before + 2 + 16
    assert open_descriptors() == before
    os.close(null)


def test_descriptors_that_the_kernel_cut_off_are_not_passed_over() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    before = open_descriptors()
    with connected() as (channel, peer):
        socket.send_fds(peer, [framed(b"{}")], [null] * 12)
        with pytest.raises(WireViolation, match="descriptors"):
            channel.receive(SOON)
    assert open_descriptors() == before
    os.close(null)


def test_an_end_that_another_thread_closed_is_closed_for_who_reads_next() -> None:
    with connected() as (channel, _):
        channel.close()
        with pytest.raises(WireClosed):
            channel.receive(SOON)

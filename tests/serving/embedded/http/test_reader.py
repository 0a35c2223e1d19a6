"""Bytes become the same requests however they are cut, and nothing else becomes one."""

import itertools
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nanocv_cli.serving.embedded.budget import Budget
from nanocv_cli.serving.embedded.faults import Fault
from nanocv_cli.serving.embedded.http.messages import HttpRequest
from nanocv_cli.serving.embedded.http.reader import CHUNKS_OF_A_TURN, LARGEST_HEAD, PIECE, RequestReader, body_length

LARGEST_BODY = 5000
Told = tuple[str, bytes, tuple[tuple[str, str], ...], bytes]


def read(parts: list[bytes]) -> tuple[list[Told], int]:
    """The requests in a stream that comes in parts, and 0, or the status of what ended it."""
    found: list[Told] = []

    def done(request: HttpRequest) -> None:
        headers = tuple(sorted(request.headers.items()))
        found.append((request.method, request.target, headers, bytes(request.body)))

    budget = Budget(1 << 20)
    reader = RequestReader(budget, LARGEST_BODY, lambda request: None, done)
    try:
        for part in parts:
            assert reader.parse(part, lambda: True) == b""
    except Fault as fault:
        return found, fault.status.http
    return found, 0


def cut(content: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(content), *(place % (len(content) + 1) for place in places)})
    return [content[a:b] for a, b in itertools.pairwise(edges)]


def plain(body: bytes) -> tuple[bytes, str, bytes]:
    return b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body), "POST", body


def chunked(parts: list[bytes]) -> tuple[bytes, str, bytes]:
    head = b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return head + chunks + b"0\r\nHost: y\r\nX-Trailer: z\r\n\r\n", "POST", b"".join(parts)


GET = (b"GET /c?d=e HTTP/1.1\r\nHost: x\r\nX-Long: %b\r\n\r\n" % (b"y" * 900), "GET", b"")
bodies = st.binary(max_size=700)
requests = st.one_of(bodies.map(plain), st.lists(bodies.filter(bool), max_size=3).map(chunked), st.just(GET))
# Heads that come again, with another body, are read by another way.
again = st.builds(
    lambda body, more: [plain(body), *more, plain(body[::-1]), plain(body)], bodies, st.lists(requests, max_size=1)
)
streams = st.one_of(st.lists(requests, min_size=1, max_size=4), again)
places = st.lists(st.integers(0, 10_000), max_size=12)


@given(streams, places)
def test_a_stream_is_read_alike_however_it_is_cut(stream: list[tuple[bytes, str, bytes]], where: list[int]) -> None:
    found, status = read(cut(b"".join(sent for sent, _, _ in stream), where))
    assert status == 0
    assert [(method, body) for method, _, _, body in found] == [(method, body) for _, method, body in stream]
    for _, _, headers, _ in found:
        # What stands after a body in chunks is no header.
        assert dict(headers)["host"] == "x"
        assert "x-trailer" not in dict(headers)


mutations = st.lists(
    st.tuples(
        st.integers(0, 10_000), st.integers(0, 20), st.sampled_from([b"", b"\0", b"\n", b"\r\n", b" ", b":", b"9"])
    ),
    max_size=4,
)


@settings(max_examples=300)
@given(streams, mutations, places)
def test_a_damaged_stream_is_read_alike_however_it_is_cut(
    stream: list[tuple[bytes, str, bytes]], changes: list[tuple[int, int, bytes]], where: list[int]
) -> None:
    content = b"".join(sent for sent, _, _ in stream)
    for place, length, instead in changes:
        place %= len(content) + 1
        content = content[:place] + instead + content[place + length :]
    whole, status = read([content])
    found, status_of_parts = read(cut(content, where))
    assert status_of_parts in (0, 400, 413, 501, 505)
    assert (found, status_of_parts) == (whole, status)


@given(st.binary(max_size=300))
@example(b"GET / HTTP/1.1\n\n")
@example(b"GET /\r\n\r\n")
def test_rubbish_is_no_request(content: bytes) -> None:
    assert read([content])[0] == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Host: a", "Host: a"], 400),
        (["Host: a", "host: b"], 400),
        ([], 400),
        (["Host: a", "Content-Length: 3", "Content-Length: 3"], 400),
        (["Host: a", "Content-Length: 3, 3"], 400),
        (["Host: a", "Content-Length: +3"], 400),
        (["Host: a", "Content-Length: 0x3"], 400),
        (["Host: a", "Content-Length: \u00b3"], 400),
        (["Host: a", f"Content-Length: {LARGEST_BODY + 1}"], 413),
        (["Host: a", "Content-Length: 99999999999999999999999999"], 400),
        (["Host: a", "Content-Length: 3", "Transfer-Encoding: chunked"], 400),
        (["Host: a", "Transfer-Encoding: chunked", "Content-Length: 3"], 400),
        (["Host: a", "Transfer-Encoding: gzip"], 501),
        (["Host: a", "Transfer-Encoding: gzip, chunked"], 501),
        (["Host: a", "Transfer-Encoding: chunked, chunked"], 501),
        (["Host: a", "Transfer-Encoding: identity"], 501),
        (["Host: a", "Transfer-Encoding: xchunked"], 501),
        (["Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], 400),
        (["Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip"], 400),
        (["Host: a", "Transfer-Encoding : chunked"], 400),
        (["Host: a", "Origin: a", "Origin: b"], 400),
        (["Host: a", "Content-Encoding: gzip", "Content-Encoding: gzip"], 400),
        (["Host: a", "X: a\r\n b"], 400),
        (["Host: a", "X: a\0b"], 400),
        (["Host: a", "X: " + "a" * LARGEST_HEAD], 400),
        (["Host: a", *(f"X{number}: a" for number in range(200))], 400),
    ],
)
def test_heads_that_two_could_read_differently(headers: list[str], status: int) -> None:
    content = "\r\n".join(["POST / HTTP/1.1", *headers, "", ""]).encode("latin-1") + b"0\r\n\r\n"
    found, refused = read([content])
    # llhttp finds some of these out by itself, as what is no HTTP.
    assert refused in (status, 400)
    assert found == []


@pytest.mark.parametrize("version", ["0.9", "2.0", "1.2"])
def test_other_versions(version: str) -> None:
    found, refused = read([f"GET / HTTP/{version}\r\nHost: a\r\n\r\n".encode()])
    assert refused in (400, 505)
    assert found == []


@given(
    st.dictionaries(st.sampled_from(["host", "content-length", "transfer-encoding"]), st.text(max_size=8)),
    st.sampled_from(["1.1", "1.0", "0.9"]),
)
def test_a_length_is_found_in_plain_heads_only(headers: dict[str, str], version: str) -> None:
    try:
        length = body_length(headers, version)
    except Fault:
        return
    assert version != "0.9"
    assert version == "1.0" or "host" in headers
    if length is None:
        assert headers["transfer-encoding"].strip().lower() == "chunked"
        assert "content-length" not in headers
    else:
        assert str(length) == headers.get("content-length", "0").lstrip("0") or length == 0


@pytest.mark.parametrize(
    "endless",
    [
        b"\r\n",
        b"GET /aaaa",
        b"GET / HTTP/1.1\r\nX: aaaa",
        b"GET / HTTP/1.1\r\nX: a\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x=aaaa",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: aaaa",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\r\n",
    ],
)
def test_what_never_ends_is_ended(endless: bytes) -> None:
    """The last four bytes again and again, ten times what a head may hold."""
    found, status = read([endless, *[endless[-4:] * 100] * (LARGEST_HEAD // 40)])
    assert (found, status) == ([], 400)


def test_a_head_that_comes_again_is_checked_again() -> None:
    """It is not parsed: the check sees the same headers, and its refusal holds."""
    checked: list[dict[str, str]] = []
    found: list[tuple[bytes, bytes]] = []

    def check(request: HttpRequest) -> None:
        checked.append(request.headers)
        if len(checked) == 4:
            raise Fault("no more")

    def done(request: HttpRequest) -> None:
        found.append((request.target, bytes(request.body)))

    reader = RequestReader(Budget(1 << 20), LARGEST_BODY, check, done)
    sent = [plain(body)[0] for body in (b"abc", b"def", b"ghi", b"jkl")]
    reader.parse(sent[0] + sent[1][:-1], lambda: True)
    reader.parse(sent[1][-1:], lambda: True)
    assert reader.parse(sent[2], lambda: True) == b""
    with pytest.raises(Fault, match="no more"):
        reader.parse(sent[3], lambda: True)
    assert found == [(b"/a", b"abc"), (b"/a", b"def"), (b"/a", b"ghi")]
    assert all(headers is checked[0] for headers in checked)


@pytest.mark.parametrize("last", [b"POST /z HTTP/1.0\r\n", b"POST /z HTTP/1.1\r\nConnection: close\r\n"])
def test_nothing_follows_the_last_request_not_even_a_head_that_is_known(last: bytes) -> None:
    known = plain(b"abc")[0]
    stream = known + last + b"Host: x\r\nContent-Length: 1\r\n\r\n!" + known
    found, status = read([stream])
    assert [(path, body) for _, path, _, body in found] == [(b"/a", b"abc"), (b"/z", b"!")]
    assert (found, status) == read([stream[place : place + 1] for place in range(len(stream))])
    assert status == 400


def test_one_read_begins_few_requests() -> None:
    """Reading stops when that is wanted, in the middle of what is here, and goes on there."""
    found: list[Any] = []
    reader = RequestReader(Budget(1 << 20), LARGEST_BODY, lambda request: None, found.append)
    one = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    rest = one * 5000
    reads = 0
    while rest:
        before = len(found)
        rest, reads = reader.parse(rest, lambda before=before: len(found) < before + 8), reads + 1
        assert len(found) - before <= 8 + PIECE // len(one)
    assert len(found) == 5000
    assert reads > 100


def test_one_turn_parses_few_chunks() -> None:
    """A hundred times as many may come at once, and each takes as long as a large one."""
    found: list[Any] = []
    reader = RequestReader(Budget(1 << 20), 1 << 20, lambda request: None, found.append)
    rest, turns = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n",
        0,
    )
    while rest:
        before = reader.received
        rest, turns = reader.parse(rest, lambda: True), turns + 1
        assert reader.received - before <= CHUNKS_OF_A_TURN + PIECE // len(b"1\r\nx\r\n")
    assert turns >= 40
    assert bytes(found[0].body) == b"x" * 50_000


@pytest.mark.parametrize("size", [1, 6])
def test_a_body_in_many_parts_takes_little_more_than_its_bytes(size: int) -> None:
    """However small the parts are: a list of them would take up to thirty times as much."""
    total, found = 60_000, list[Any]()
    reader = RequestReader(Budget(1 << 20), total, lambda request: None, found.append)
    reader.parse(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", lambda: True)
    chunks = b"%x\r\n%b\r\n" % (size, b"x" * size) * 100
    tracemalloc.start()
    for _ in range(total // (100 * size)):
        reader.parse(chunks, lambda: True)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    reader.parse(b"0\r\n\r\n", lambda: True)
    assert taken < 1.5 * total
    assert bytes(found[0].body) == b"x" * total

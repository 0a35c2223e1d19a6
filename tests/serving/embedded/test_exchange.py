"""Ids: which of a client's are taken, and what goes back."""

import pytest

from nanocv_cli.serving.embedded.exchange import Exchange

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def begun(request_id: str | None = None, trace_parent: str | None = None) -> Exchange:
    exchange = Exchange()
    exchange.begin(request_id, trace_parent)
    return exchange


@pytest.mark.parametrize("sent", ["7", "req-1.2_3:4/5+6=@", "x" * 128, "0d9e4ed4-31b5-4d8f-a5ea-2f6a90d8a1f2"])
def test_a_sane_id_is_taken(sent: str) -> None:
    assert dict(begun(sent).told) == {"x-request-id": sent}


@pytest.mark.parametrize(
    "sent", [None, "", " ", "a b", "x" * 129, "a\nb", "a\r\nSet-Cookie: b", "\x1b[31m", "é", "'$(id)'"]
)
def test_any_other_is_replaced_by_one_that_no_other_has(sent: str | None) -> None:
    one, other = begun(sent).request_id, begun(sent).request_id
    assert one not in (sent, other)
    assert dict(begun(one).told) == {"x-request-id": one}


def test_a_traced_request_is_answered_with_a_child_of_the_span_that_asked() -> None:
    exchange = begun("7", f"00-{TRACE}-{SPAN}-01")
    assert exchange.trace is not None
    span = exchange.trace.span
    assert dict(exchange.told) == {"x-request-id": "7", "traceresponse": f"00-{TRACE}-{span}-01"}
    assert exchange.trace.parent == SPAN != span
    following = exchange.next()
    assert following.request_id == "7"
    assert following.trace is not None
    assert (following.trace.trace, following.trace.parent) == (TRACE, SPAN)
    assert following.trace.span not in (span, SPAN)


@pytest.mark.parametrize(
    ("sent", "sampled"),
    [(f"00-{TRACE}-{SPAN}-00", False), (f"00-{TRACE}-{SPAN}-03", True), (f"cc-{TRACE}-{SPAN}-01-more", True)],
)
def test_flags_and_later_versions_are_read(sent: str, sampled: bool) -> None:
    trace = begun(None, sent).trace
    assert trace is not None
    assert (trace.trace, trace.parent, trace.sampled) == (TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "sent",
    [
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        "x" * 60_000,
    ],
)
def test_what_w3c_does_not_allow_is_passed_over(sent: str) -> None:
    exchange = begun("7", sent)
    assert exchange.trace is None
    assert dict(exchange.told) == {"x-request-id": "7"}

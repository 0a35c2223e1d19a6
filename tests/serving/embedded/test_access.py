"""Who may ask: names that are the server's own, pages that are not another site's."""

import ipaddress
import re
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocv_cli.serving.embedded.access import Access
from nanocv_cli.serving.embedded.faults import Fault, Status

OWN = Access("127.0.0.1", ["gpubox", "Images.Example:8000"], "explicit")


def check(access: Access, method: str = "POST", local: str = "127.0.0.1", **headers: str) -> int:
    """200, or the status of the refusal."""
    try:
        access.check(method, {name.replace("_", "-"): value for name, value in headers.items()}, lambda: local)
    except Fault as fault:
        return fault.status.http
    return 200


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LOCALHOST:1",
        "127.0.0.1:8000",
        "[::1]:8000",
        "[0:0::1]",
        "gpubox:9",
        "GPUBOX.",
        "images.example:8000",
        "images.example",
    ],
)
def test_names_of_the_server(host: str) -> None:
    assert check(OWN, host=host) == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("evil.example:8000", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("10.0.0.7", 421),
        ("[::2]", 421),
        ("", 400),
        ("localhost@evil.example", 400),
        ("localhost/../x", 400),
        ("localhost, evil.example", 400),
        ("localhost:port", 400),
        ("a" * 50_000, 400),
        ("lōcalhost", 400),
    ],
)
def test_other_names(host: str, status: int) -> None:
    for method in ("GET", "HEAD", "POST"):
        assert check(OWN, method, host=host) == status


@given(st.text(max_size=40) | st.from_regex(r"[a-z.\[\]:0-9@/]{1,20}(localhost|gpubox|127\.0\.0\.1)[a-z.:@0-9]{0,9}"))
def test_no_other_name_passes(host: str) -> None:
    if check(OWN, host=host) == 200:
        name = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?", host.lower())
        assert name
        known = {"localhost", "127.0.0.1", "gpubox", "images.example", socket.gethostname().lower()}
        assert name[1].rstrip(".") in known or ipaddress.ip_address(name[1].strip("[]")).is_loopback


def test_the_address_by_which_it_was_reached_is_a_name_of_it() -> None:
    everywhere = Access("0.0.0.0")
    assert check(everywhere, host="192.168.1.7:8000", local="192.168.1.7") == 200
    assert check(everywhere, host="192.168.1.7:8000", local="::ffff:192.168.1.7") == 200
    assert check(Access("::"), host="[fe80::1]:8000", local="fe80::1%eth0") == 200
    assert check(everywhere, host="192.168.1.8:8000", local="192.168.1.7") == 421
    assert check(everywhere, host="localhost:8000", local="127.0.0.1") == 200


def test_any_name_where_that_is_asked_for() -> None:
    assert check(Access("0.0.0.0", ["*"]), host="whatever.example") == 200


def test_old_clients_name_no_host() -> None:
    assert check(OWN) == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8000", 200),
        ("https://localhost:8000", 200),
        ("HTTP://LocalHost:8000", 200),
        ("http://localhost:3000", 403),
        ("http://localhost", 403),
        ("http://127.0.0.1:8000", 403),
        ("http://evil.example", 403),
        ("http://localhost:8000.evil.example", 403),
        ("null", 403),
        ("", 403),
        ("file://", 403),
        ("chrome-extension://abcdef", 403),
    ],
)
def test_origins(origin: str, status: int) -> None:
    assert check(OWN, host="localhost:8000", origin=origin) == status


@pytest.mark.parametrize(
    ("site", "status"), [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)]
)
def test_what_browsers_say_of_a_request(site: str, status: int) -> None:
    assert check(OWN, "POST", host="localhost", sec_fetch_site=site) == status
    # A link on another site's page may lead here.
    assert check(OWN, "GET", host="localhost", sec_fetch_site=site) == 200


@pytest.mark.parametrize("control", ["none", "poll"])
def test_models_are_changed_under_explicit_control_only(control: str) -> None:
    with pytest.raises(Fault, match="explicit model load / unload is not allowed") as refused:
        Access("localhost", control=control).check_control()  # type: ignore[arg-type]
    assert refused.value.status is Status.UNAVAILABLE
    OWN.check_control()


@pytest.mark.parametrize("kind", ["text/plain", "Text/Plain; charset=utf-8", "multipart/form-data; boundary=x"])
def test_no_form_changes_a_model(kind: str) -> None:
    with pytest.raises(Fault) as refused:
        OWN.check_control({"content-type": kind})
    assert refused.value.status is Status.WRONG_TYPE
    OWN.check_control({"content-type": "application/json"})

"""The page to try the models with: static files, which ask the server that they came from like any other client.

They hold no secret and know no model, so whoever reaches the server may have them; what they ask needs a key where
everything does. The page shows names that others chose. So nothing in it may become markup, a script or a request
elsewhere: the policy has the browser refuse that even where the page's own care should fail.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from types import MappingProxyType

from nanocv_cli.serving.embedded.exchange import Exchange
from nanocv_cli.serving.embedded.http.messages import HttpAnswer

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
INDEX = "index.html"
POLICY = "; ".join((
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' blob:",  # the image that is tried, as the browser holds it
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",  # no text becomes markup,
    "trusted-types 'none'",  # and nobody may say that it is safe to
))  # fmt: skip
HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Permissions-Policy", "camera=(self), microphone=(), geolocation=()"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-cache"),  # a newer nanocv has a newer page
)
OF_BROWSERS = "sec-fetch-mode"  # a header that they send with every request, and nothing else does
NO_PAGE: Mapping[bytes, HttpAnswer] = MappingProxyType({})


def page_answers() -> dict[bytes, HttpAnswer]:
    """The answer at each path of the page: `/` and a file's name below it."""
    answers = {}
    for file in (files("nanocv_cli.serving") / "page").iterdir():
        kind = TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            path = "/" if file.name == INDEX else f"/{file.name}"
            answers[path.encode()] = HttpAnswer(file.read_bytes(), content_type=kind, headers=HEADERS)
    return answers


def timed(answer: HttpAnswer, exchange: Exchange) -> HttpAnswer:
    """An inference's answer with a header that says where its time went, in the words of W3C's Server Timing."""
    if not exchange.arrived:
        return answer
    durations = {
        "queue": exchange.queue_ns,
        "compute": exchange.compute_ns,
        "total": time.monotonic_ns() - exchange.began,
    }
    told = ", ".join(f"{name};dur={nanoseconds / 1e6:.3f}" for name, nanoseconds in durations.items())
    return replace(answer, headers=(*answer.headers, ("Server-Timing", told)))

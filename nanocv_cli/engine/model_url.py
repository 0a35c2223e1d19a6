"""Where a model is served, as one URL: `http://127.0.0.1:8000/lenet`."""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from nanocv_cli.errors import RequestError
from nanocv_cli.untrusted import first_line, is_plain, printable

EXAMPLE = "as in http://127.0.0.1:8000/lenet or http://[::1]:8000/lenet/versions/2"
VERSION = re.compile(r"[1-9]\d{0,17}", re.ASCII)


@dataclass(frozen=True)
class ModelUrl:
    """Where a model is served.

    Attributes:
        secure: https.
        host: a name or an address, without brackets.
        port: of the server's HTTP side.
        model: its name.
        version: empty: the newest that is served.
    """

    secure: bool
    host: str
    port: int
    model: str
    version: str

    @property
    def address(self) -> str:
        """Host and port, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def server(self) -> str:
        """The server's part of the URL."""
        return f"{'https' if self.secure else 'http'}://{self.address}"

    @property
    def path(self) -> str:
        """The model's path as KServe has it."""
        return f"/v2/models/{quote(self.model, safe='')}" + (f"/versions/{self.version}" if self.version else "")

    def __str__(self) -> str:
        return f"{self.server}/{self.model}" + (f"/versions/{self.version}" if self.version else "")


def parse_model_url(text: str) -> ModelUrl:
    """`http://host:port/model`, also with https, an IPv6 address in brackets, and `/versions/N` behind it.

    Raises:
        RequestError: it is something else, or holds a name and a password, which would end in logs.
    """
    shown = printable(text, 120)
    try:
        parts = urlsplit(text)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError as error:
        raise RequestError(f"{shown} is no URL of a served model: {first_line(error, 80)}", EXAMPLE) from error
    if scheme not in ("http", "https"):
        raise RequestError(f"{shown}: models are asked by http or https, not {printable(scheme, 20)}", EXAMPLE)
    if "@" in parts.netloc:
        raise RequestError(f"a URL of {printable(host, 60)} with a name or a password is not taken", EXAMPLE)
    steps = [unquote(step) for step in parts.path.split("/") if step]
    model, version = (steps[0] if steps else ""), ""
    if len(steps) == 3 and steps[1] == "versions" and VERSION.fullmatch(steps[2]):
        version = steps[2]
    fits = (len(steps) == 1 or version) and is_plain(model) and "/" not in model
    if not fits or not host.isprintable() or not host or " " in host or port == 0 or parts.query or parts.fragment:
        raise RequestError(f"{shown} names no model on a server", EXAMPLE)
    return ModelUrl(scheme == "https", host, port or (443 if scheme == "https" else 80), model, version)

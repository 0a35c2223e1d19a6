"""What a request's head must look like beyond being HTTP: nothing in it that two readers could read differently."""

from nanocv_cli.serving.embedded.faults import Fault, Status

LARGEST_HEAD = 1 << 16
MOST_HEADERS = 128
# Each says something about the request that can only be said once.
ONCE = {
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "inference-header-content-length",
    "origin",
    "sec-fetch-site",
    "transfer-encoding",
}


def body_length(headers: dict[str, str], version: str) -> int | None:
    """How long the body is, from a head that came whole; None for one in chunks.

    Args:
        headers: by lower-case name.
        version: of HTTP, as `1.1`.

    Raises:
        Fault: the head is not one that this server takes.
    """
    if version not in ("1.0", "1.1"):
        raise Fault(f"HTTP/{version} is not spoken here; HTTP/1.1 is", Status.NO_VERSION)
    if version == "1.1" and "host" not in headers:
        raise Fault("a request needs exactly one Host header")
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is None:
        if length is None:
            return 0
        if not (length.isascii() and length.isdigit()):
            raise Fault("Content-Length is not a number")
        return int(length)
    if length is not None or version == "1.0":
        raise Fault("Transfer-Encoding stands beside Content-Length, or in a request of HTTP/1.0")
    if coding.strip().lower() != "chunked":
        raise Fault("Transfer-Encoding other than chunked is not supported", Status.UNSUPPORTED)
    return None

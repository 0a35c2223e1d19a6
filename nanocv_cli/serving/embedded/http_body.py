"""A request's body as it was before `Content-Encoding`."""

import zlib

from nanocv_cli.serving.embedded.aside import SMALL, Aside
from nanocv_cli.serving.embedded.faults import Fault, TooLarge, shown
from nanocv_cli.serving.embedded.http_messages import Body, HttpRequest

STEP_IN, STEP_OUT = 1 << 16, 1 << 20  # bytes


async def uncompressed(request: HttpRequest, limit: int, aside: Aside) -> Body:
    """The body inflated, in steps, each of which is counted among the request's bytes before the next.

    Args:
        request: with its body as sent.
        limit: bytes of the result.
        aside: where all steps but a small first one are done.

    Raises:
        Fault: an encoding other than gzip and deflate, a damaged body, more than `limit` bytes, or no room for them.
    """
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        return request.body
    if encoding not in ("gzip", "deflate"):
        raise Fault(f"Content-Encoding '{shown(encoding)}' is not supported; gzip and deflate are")
    # 32 more than the window's bits: zlib finds out by itself which of the two it is.
    inflate, sent, found = zlib.decompressobj(zlib.MAX_WBITS | 32), memoryview(request.body), bytearray()
    place = 0
    while not inflate.eof:
        piece = inflate.unconsumed_tail or sent[place : place + STEP_IN]
        place += 0 if inflate.unconsumed_tail else len(piece)
        most = min(STEP_OUT if found else SMALL, limit + 1 - len(found))
        try:
            part = await aside.run(most, inflate.decompress, piece, most)
        except zlib.error as error:
            raise Fault(f"the {encoding} body is damaged: {error}") from error
        if not part and not piece:
            raise Fault(f"the {encoding} body is damaged: it ends too early")
        request.holding.add(len(part))
        found += part
        if len(found) > limit:
            raise TooLarge(limit)
    if inflate.unused_data or place < len(sent):
        raise Fault(f"the {encoding} body is damaged: something follows its end")
    return found

"""What a client sent compressed becomes what it was, in steps, each counted before the next: a bomb gains nothing."""

import zlib

from nanocv_cli.serving.embedded.background import SMALL, SmallestFirstExecutor
from nanocv_cli.serving.embedded.budget import Holding
from nanocv_cli.serving.embedded.faults import Fault, TooLarge

STEP_IN, STEP_OUT = 1 << 16, 1 << 20  # bytes that are inflated, and made, at once
EITHER = zlib.MAX_WBITS | 32  # zlib finds out by itself whether it is gzip or deflate
GZIP, DEFLATE = 0x1F8B, 0x7800  # the first two bytes of each; of deflate the second is a check of the first
CHECKED_BY = 31


async def inflated(
    sent: bytes | bytearray | memoryview, limit: int, holding: Holding, executor: SmallestFirstExecutor, what: str
) -> bytearray:
    """A text in gzip or deflate, inflated.

    Args:
        sent: all of it.
        limit: bytes of the result.
        holding: where they are counted.
        executor: where all steps but a small first one are done.
        what: it is, as in `the gzip body`.

    Raises:
        Fault: it is damaged or too large, or there is no room for it.
    """
    inflate, view, found = zlib.decompressobj(EITHER), memoryview(sent), bytearray()
    place = 0
    while not inflate.eof:
        piece = inflate.unconsumed_tail or view[place : place + STEP_IN]
        place += 0 if inflate.unconsumed_tail else len(piece)
        most = min(STEP_OUT if found else SMALL, limit + 1 - len(found))
        try:
            part = await executor.run(most, inflate.decompress, piece, most)
        except zlib.error as error:
            raise Fault(f"{what} is damaged: {error}") from error
        if not part and not piece:
            raise Fault(f"{what} is damaged: it ends too early")
        holding.add(len(part))
        found += part
        if len(found) > limit:
            raise TooLarge(limit)
    if inflate.unused_data or place < len(view):
        raise Fault(f"{what} is damaged: something follows its end")
    return found


def is_deflated(message: bytes) -> bool:
    """Whether a message of protobuf is one that was compressed: gRPC does not tell.

    gzip begins with what no message can, a field of type 7; deflate, as zlib and gRPC write it, with a number in field
    15, which no request of the protocol has, and with two bytes that check each other.
    """
    begins = int.from_bytes(message[:2], "big")
    return begins == GZIP or (begins >> 8 == DEFLATE >> 8 and begins % CHECKED_BY == 0)

"""Bytes that were right, made wrong at random."""

import random


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Some bytes replaced, inserted, repeated or cut away."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(changed) + 1)
        kind = chance.randrange(4)
        if kind == 0 and place < len(changed):
            changed[place] = chance.randrange(256)
        elif kind == 1:
            changed[place:place] = chance.randbytes(chance.randint(1, 8))
        elif kind == 2:
            del changed[place : place + chance.randint(1, 20)]
        else:
            changed[place:place] = changed[max(0, place - 10) : place]
    return bytes(changed)

"""Every target takes its corpus and thousands of mutations of it, with no fuzzer at hand; `make fuzz` looks further."""

import random

import pytest

from tests.fuzz.targets import TARGETS, Target
from tests.serving.mutations import mutated

MUTATIONS = 300


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_corpus_and_what_is_near_it(target: Target) -> None:
    chance, seeds = random.Random(target.name), [path.read_bytes() for path in target.seeds()]
    assert seeds
    for content in [b"", *seeds, *(mutated(chance.choice(seeds), chance) for _ in range(MUTATIONS))]:
        target.act(content)

"""The table of targets."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import documents, requests

CORPUS = Path(__file__).with_name("corpus")


@dataclass(frozen=True)
class Target:
    """One door for bytes.

    Attributes:
        act: takes any bytes; raises what is a fault of ours.
        longest: bytes worth trying.
    """

    act: Callable[[bytes], None]
    longest: int = 4096

    @property
    def name(self) -> str:
        """As in commands, and of its folder in the corpus."""
        return self.act.__name__

    def seeds(self) -> list[Path]:
        """Inputs that are kept: some that are right, and all that once were a fault."""
        return sorted((CORPUS / self.name).iterdir())


TARGETS = [
    Target(requests.http, 2048),
    Target(requests.http_json),
    Target(requests.grpc),
    Target(requests.tensor, 512),
    Target(requests.inflate, 1024),
    Target(documents.pbtxt),
    Target(documents.card),
    Target(documents.keys, 1024),
    Target(documents.image, 8192),
    Target(documents.labels),
]

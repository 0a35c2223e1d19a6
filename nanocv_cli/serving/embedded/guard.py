"""Who may do what, where a server has keys: a request is let in by the key it carries, if that has the role it needs.

What needs no key is named one by one; all else is denied to who has none, be there such a path or not.
"""

import hmac
import math
import os
import time
from collections.abc import Mapping

from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.key_file import ROLES, Key, Role, digest_of, salt_of

Roles = frozenset[Role] | None
OPEN: Roles = None  # no key is needed
INFER: Roles = frozenset({"infer"})
CONTROL: Roles = frozenset({"control"})
METRICS: Roles = frozenset({"metrics"})
LOOK: Roles = frozenset({"infer", "control"})  # what models there are, how they are described and counted
ANY: Roles = frozenset(ROLES)

SCHEME = "bearer "
MOST_KNOWN = 1024
CHALLENGE = ("WWW-Authenticate", 'Bearer realm="nanocv"')
# What a key is compared with that belongs to no line, so that it takes as long: nothing has this hash.
NOBODY = Key("", frozenset(), None, "", os.urandom(32))


class Bucket:
    """What a key may still ask for: it fills by its rate, up to what a second gives, and each request takes one.

    Args:
        rate: requests per second.
    """

    def __init__(self, rate: float) -> None:
        self.rate, self._most = rate, max(1.0, rate)
        self._left, self._at = self._most, time.monotonic()

    def take(self) -> float:
        """Takes one; how many seconds are missing to it, 0 where it was there."""
        now = time.monotonic()
        self._left, self._at = min(self._most, self._left + (now - self._at) * self.rate), now
        if self._left < 1.0:
            return (1.0 - self._left) / self.rate
        self._left -= 1.0
        return 0.0


class Guard:
    """The keys of one server.

    Args:
        keys: by their salts; None where it has none and lets everybody in.
    """

    def __init__(self, keys: Mapping[str, Key] | None = None) -> None:
        self._keys = keys
        self._buckets: dict[str, Bucket] = {}
        # By the number of the object, which nobody else has for as long as it is kept: no text is compared.
        self._known: dict[int, tuple[str, Key]] = {}
        self.replace(keys)

    def replace(self, keys: Mapping[str, Key] | None) -> None:
        """From the next request on these are the keys; who has used up his rate has not got it back by that."""
        former, self._keys = self._buckets, keys
        self._known.clear()
        self._buckets = {}
        for key in (keys or {}).values():
            if key.rate is not None:
                bucket = former.get(key.name)
                self._buckets[key.name] = bucket if bucket and bucket.rate == key.rate else Bucket(key.rate)

    @property
    def has_keys(self) -> bool:
        """Whether there is anything to show a key for."""
        return self._keys is not None

    def check(self, authorization: str | None, roles: Roles) -> str:
        """Lets a request in, or does not.

        Args:
            authorization: `Bearer KEY`, as the request has it.
            roles: of which the key must have one; None where none is needed.

        Returns:
            The name of the key; empty where none was needed.

        Raises:
            Fault: it has no key of this server, or one that does not open this.
        """
        if self._keys is None or roles is None:
            return ""
        if not authorization:
            raise Fault("a key is needed: Authorization: Bearer KEY", Status.UNAUTHENTICATED, headers=(CHALLENGE,))
        known = self._known.get(id(authorization))
        key = known[1] if known and known[0] is authorization else self._found(authorization, self._keys)
        if key.roles.isdisjoint(roles):
            needed = " or ".join(role for role in ROLES if role in roles)
            raise Fault(f"the key of {key.name} does not open this; it needs the role {needed}", Status.FORBIDDEN)
        return key.name

    def _found(self, authorization: str, keys: Mapping[str, Key]) -> Key:
        """The key that a text shows; kept with that very object, which a connection that repeats its head shows again.

        Raises:
            Fault: it is none.
        """
        given = authorization[len(SCHEME) :].strip() if authorization[: len(SCHEME)].lower() == SCHEME else ""
        key = keys.get(salt_of(given), NOBODY)
        if not hmac.compare_digest(digest_of(given), key.digest):
            raise Fault("this is no key of this server", Status.UNAUTHENTICATED, headers=(CHALLENGE,))
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[id(authorization)] = authorization, key
        return key

    def count(self, name: str) -> None:
        """Counts a request against its key's rate.

        Args:
            name: of the key, as `check` returned it.

        Raises:
            Fault: the key has used up its rate.
        """
        if (bucket := self._buckets.get(name)) and (missing := bucket.take()):
            seconds = math.ceil(missing)
            raise Fault(
                f"the key of {name} may ask {bucket.rate:g} times a second; try again in {seconds} s",
                Status.TOO_MANY,
                headers=(("Retry-After", str(seconds)),),
            )

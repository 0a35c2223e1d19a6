"""A server's keys, as they lie in a file: a line for each, which tells who has it and what it opens, and not the key.

A key is 256 random bits, so nobody finds it by trying, and one round of SHA-256 is enough to hide it: what makes hashes
of passwords slow is there because people choose passwords that can be guessed. The salt, which stands in the key as
well, tells which line it belongs to: a server makes one hash for a request, however many keys there are.
"""

import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from nanocv_cli.errors import ConfigError, RequestError, StorageError
from nanocv_cli.files import atomic_path, expect_file
from nanocv_cli.untrusted import open_regular, printable

Role = Literal["infer", "control", "metrics"]
ROLES: tuple[Role, ...] = get_args(Role)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
HASH = re.compile(r"sha256:([0-9a-f]{16}):([0-9a-f]{64})", re.ASCII)
RATE = re.compile(r"\d{1,9}(\.\d{1,6})?", re.ASCII)
PREFIX = "nanocv_"  # by it, scanners of public code find a key that was published
SALT_BYTES, SECRET_BYTES = 8, 32
UNBOUNDED = "-"
LARGEST_FILE = 1 << 20  # bytes
SLOWEST, FASTEST = 1e-6, 1e8  # requests per second
RATES = f"{SLOWEST:.6f} to {FASTEST:,.0f}"
HEADER = "# name, roles, requests per second (- for any number), hash of the key; a server reads it again on SIGHUP\n"
ADVICE = "nanocv serve key makes a key and its line; a line that is removed takes its key away"


@dataclass(frozen=True)
class Key:
    """One line of the file.

    Attributes:
        name: who has the key.
        roles: what it opens.
        rate: requests per second, from `SLOWEST` to `FASTEST`; None for any number.
        salt: 16 hexadecimal digits.
        digest: 32 bytes, of the whole key.
    """

    name: str
    roles: frozenset[Role]
    rate: float | None
    salt: str
    digest: bytes

    def line(self) -> str:
        """As it stands in the file."""
        roles = ",".join(role for role in ROLES if role in self.roles)
        rate = UNBOUNDED if self.rate is None else f"{self.rate:.6f}".rstrip("0").rstrip(".")
        return f"{self.name} {roles} {rate} sha256:{self.salt}:{self.digest.hex()}\n"


def salt_of(key: str) -> str:
    """The part of a key that tells which line it belongs to; of what is no key, anything."""
    return key[len(PREFIX) : len(PREFIX) + 2 * SALT_BYTES]


def digest_of(key: str) -> bytes:
    """The hash of a key, its salt in front: 32 bytes."""
    return hashlib.sha256(key.encode(errors="replace")).digest()


def add_key(path: Path, name: str, roles: Iterable[Role], rate: float | None) -> str:
    """Makes a key, appends its line to the file, and returns the key.

    Args:
        path: of the file. It is made where it is not there, for its owner alone; else who may read it stays as it is,
            and a link stays a link.
        name: whose key it is.
        roles: what it opens.
        rate: requests per second, from `SLOWEST` to `FASTEST`; None for any number.

    Raises:
        RequestError: the name is none, or has a key already; the rate is none; or the file is no regular one.
        ConfigError: the file is not one of keys.
        StorageError: it cannot be written.
    """
    if not NAME.fullmatch(name):
        raise RequestError(
            f"{printable(name, 80)!r} is no name of a key", "letters, digits, dots, hyphens and underscores, 64 at most"
        )
    expect_file(path)
    path = path.resolve() if path.is_symlink() else path
    salt = secrets.token_hex(SALT_BYTES)
    key = f"{PREFIX}{salt}_{secrets.token_hex(SECRET_BYTES)}"
    line = Key(name, frozenset(roles), rate, salt, digest_of(key)).line()
    try:  # what a server would not read is not written
        _parsed(line)
    except ValueError as error:
        raise RequestError(
            f"{path} can hold no such key: {error}", f"a rate is from {RATES}; without one it is any number"
        ) from None
    with _alone(path):
        known = read_keys(path) if path.exists() else {}
        former = _content(path) if path.exists() else HEADER.encode()
        if name in {one.name for one in known.values()}:
            raise RequestError(f"{path} has a key of {name} already", "choose another name, or remove its line first")
        separator = b"" if former.endswith(b"\n") else b"\n"
        with atomic_path(path) as temporary:
            temporary.chmod(0o600)
            temporary.write_bytes(former + separator + line.encode())
            if path.exists():
                _hand_over(path.stat(), temporary)
    return key


def _hand_over(former: os.stat_result, path: Path) -> None:
    """Gives a file the owner, group and mode of the one that it replaces; the server may run as another user."""
    for owner in (former.st_uid, -1):
        with suppress(OSError):  # only root gives files away; a group takes those of its members
            os.chown(path, owner, former.st_gid)
            break
    mode = stat.S_IMODE(former.st_mode)
    if path.stat().st_gid != former.st_gid:
        mode &= ~stat.S_IRWXG  # it was meant for another group
    path.chmod(mode)


def read_keys(path: Path) -> Mapping[str, Key]:
    """The keys of a file, by their salts.

    Raises:
        ConfigError: it cannot be read, others than its owner may write it, or a line is no key's; the message names it.
    """
    content = _content(path)
    found: dict[str, Key] = {}
    names: set[str] = set()
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            key = _parsed(line)
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: {error}", ADVICE) from None
        if key.name in names or key.salt in found:
            raise ConfigError(f"{path}:{number}: {key.name} stands here twice", ADVICE)
        names.add(key.name)
        found[key.salt] = key
    return found


def _parsed(line: str) -> Key:
    """A line's key; what stands in it is not repeated, it may be a key in the clear.

    Raises:
        ValueError: it is none; the message says what is wrong.
    """
    fields = line.split()
    if len(fields) != 4:
        raise ValueError(f"expected four fields, name, roles, rate and hash, got {len(fields)}")
    name, roles, rate, hashed = fields
    if not NAME.fullmatch(name):
        raise ValueError("the first field is no name of a key")
    wanted = roles.split(",")
    if not set(wanted) <= set(ROLES):
        raise ValueError(f"the roles are none of {', '.join(ROLES)}, separated by commas")
    if rate != UNBOUNDED and not (RATE.fullmatch(rate) and SLOWEST <= float(rate) <= FASTEST):
        raise ValueError(f"the rate is no number of requests per second from {RATES}, nor {UNBOUNDED}")
    if not (parts := HASH.fullmatch(hashed)):
        raise ValueError("the last field is no hash of a key")
    opened = frozenset(role for role in ROLES if role in wanted)
    return Key(name, opened, None if rate == UNBOUNDED else float(rate), parts[1], bytes.fromhex(parts[2]))


def _content(path: Path) -> bytes:
    """What stands in the file; its rights are those of the very file that is read.

    Raises:
        ConfigError: it cannot be read, or others than its owner may write it.
    """
    try:
        with open_regular(path) as file:
            mode, content = os.fstat(file.fileno()).st_mode, file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the keys in {path}: {error.strerror or error}", ADVICE) from error
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"{path} can be written by others than its owner", f"chmod go-w {path}")
    if len(content) > LARGEST_FILE:
        raise ConfigError(f"cannot read the keys in {path}: larger than {LARGEST_FILE:,} bytes", ADVICE)
    return content


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Inside the block nobody else adds a key there: two at once would lose one."""
    try:
        descriptor = os.open(path.absolute().parent, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}", "name a folder that is there") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

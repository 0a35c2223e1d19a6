"""What a server knows its clients by, and shows itself by: read from files at its start, and again on SIGHUP."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nanocv_cli.errors import NanocvError
from nanocv_cli.serving.embedded.certificates import Certificates, TlsFiles
from nanocv_cli.serving.embedded.guard import Guard
from nanocv_cli.serving.key_file import read_keys


@dataclass(frozen=True)
class CredentialFiles:
    """Where they lie.

    Attributes:
        keys: by which requests are let in; None: all are.
        tls: what connections are secured by; None: they are not.
    """

    keys: Path | None = None
    tls: TlsFiles | None = None

    @property
    def are_there(self) -> bool:
        """Whether there is anything to read, and to read again."""
        return self != CredentialFiles()


class Credentials:
    """The credentials of one server.

    Args:
        files: where they lie.
        say: takes a line about what was read again, or could not be.

    Attributes:
        guard: asks for keys.
        certificates: secure connections, where there are any.

    Raises:
        NanocvError: a file cannot be read, or is not what it should be.
    """

    def __init__(self, files: CredentialFiles, say: Callable[[str], None]) -> None:
        self._files, self._say = files, say
        keys = read_keys(files.keys) if files.keys else None
        self.guard = Guard(keys)
        if keys is not None and not keys:
            say(f"{files.keys} holds no keys, so nobody is let in; nanocv serve key adds one, SIGHUP has it read")
        self.certificates = Certificates(files.tls) if files.tls else None

    def reload(self) -> None:
        """Reads all of them again; what cannot be read, or is wrong, leaves in force what was read before."""
        if self._files.keys:
            self._try(self._reload_keys, self._files.keys)
        if self._files.tls:
            self._try(self._reload_certificates, self._files.tls.certificate)

    def _reload_keys(self, path: Path) -> str:
        keys = read_keys(path)
        self.guard.replace(keys)
        return f"{len(keys)} {'key' if len(keys) == 1 else 'keys'}"

    def _reload_certificates(self, path: Path) -> str:
        assert self.certificates is not None
        self.certificates.reload()
        return "who connects from now on is shown this certificate"

    def _try(self, act: Callable[[Path], str], path: Path) -> None:
        try:
            self._say(f"{path} was read again: {act(path)}")
        except NanocvError as error:
            self._say(f"{error.message}; what was read before stays in force")

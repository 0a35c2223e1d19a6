"""Follows a repository's folder: new, changed and removed entries, as Triton's poll mode does."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from nanocv_cli.errors import NanocvError
from nanocv_cli.serving.embedded.faults import Fault, Status
from nanocv_cli.serving.embedded.library import Library
from nanocv_cli.untrusted import first_line

Print = tuple[tuple[str, int, int, int], ...]


async def watch(library: Library, seconds: float, known: dict[str, Print], say: Callable[[str], None]) -> None:
    """Looks at the repository every `seconds` and loads or unloads what changed; runs until cancelled.

    Args:
        library: what is served.
        seconds: between two looks.
        known: `prints` of before the library was first loaded, so that nothing that came since is overlooked.
        say: takes a line about each change.
    """
    while True:
        await asyncio.sleep(seconds)
        try:
            found = await asyncio.to_thread(prints, library)
            for name in sorted(known.keys() - found.keys()):
                await library.unload(name)
                say(f"{name} was removed")
            for name in sorted(name for name, mark in found.items() if known.get(name) != mark):
                try:
                    await library.load(name)
                    say(f"{name} was loaded again" if name in known else f"{name} was loaded")
                except Fault as fault:
                    say(f"{fault.message}; what was served before goes on")
                    if fault.status is Status.UNAVAILABLE:  # the server was busy: to be tried again
                        found[name] = known.get(name, ())
            known = found
        except (NanocvError, Fault) as error:
            say(error.message)
        except Exception as error:  # a look that fails, whatever the reason, is not the last one
            say(f"the repository could not be looked at: {first_line(error)}")


def prints(library: Library) -> dict[str, Print]:
    """What tells a changed entry: every file's name, inode, size and time."""
    return {name: _print(library.repository / name) for name in library.entries()}


def _print(entry: Path) -> Print:
    marks = []
    for path in sorted(entry.rglob("*")):
        try:
            status = path.stat()
        except OSError:  # replaced while we look: the next look sees the new one
            continue
        marks.append((str(path.relative_to(entry)), status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(marks)

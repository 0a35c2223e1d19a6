"""Tar shards written by tests, and a loopback server that sends parts of them."""

import io
import re
import tarfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def write_shard(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """A tar file of these names and contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def shards_of(folder: Path, target: Path, per_shard: int) -> Path:
    """The class folders of each split as shards, images in the order in which class folders list them."""
    for split in sorted(part.name for part in folder.iterdir()):
        files = sorted((folder / split).glob("*/*"))
        for number, first in enumerate(range(0, len(files), per_shard)):
            members = [
                (f"{file.parent.name}-{file.stem}{suffix}", content)
                for file in files[first : first + per_shard]
                for suffix, content in ((file.suffix, file.read_bytes()), (".cls", file.parent.name.encode()))
            ]
            write_shard(target / f"{split}-{number:06d}.tar", members)
    return target


@contextmanager
def served(folder: Path, ranges: bool = True, is_silent: bool = False) -> Iterator[tuple[str, list[str]]]:
    """A folder on loopback: its URL, and the ranges that were asked for.

    Args:
        folder: what is served.
        ranges: whether a part of a file is sent where one is asked for.
        is_silent: whether nothing is answered for as long as the folder is served.
    """
    asked: list[str] = []
    is_over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(is_body=False)

        def do_GET(self) -> None:
            self._answer(is_body=True)

        def _answer(self, is_body: bool) -> None:
            if is_silent:
                is_over.wait()
                return
            path = folder / self.path.lstrip("/")
            if not path.is_file():
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = path.read_bytes()
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            is_part = ranges and wanted is not None
            self.send_response(206 if is_part else 200)
            if wanted and is_part:
                asked.append(wanted[0])
                first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
                content = content[first : last + 1]
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
            self.end_headers()
            if is_body:
                with suppress(OSError):  # who asked has heard enough
                    self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        is_over.set()
        server.shutdown()
        server.server_close()

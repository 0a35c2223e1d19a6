"""ONNX Runtime for browsers: npm's package of it, brought here once, held against its hash before it is opened."""

import base64
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path, PurePosixPath

from nanocv_cli.data.tar import BLOCK, DamagedArchiveError, UnsafeArchiveError, members
from nanocv_cli.errors import ModelError, RequestError, ServingError
from nanocv_cli.files import write_bytes
from nanocv_cli.output import say
from nanocv_cli.untrusted import printable, read_regular

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
# As the registry publishes it with the package; a version is changed together with it.
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# What is used of it, and what it is called in the folder. Some static hosts do not know what `.mjs` is.
USED = {
    PurePosixPath("package/dist/ort.wasm.bundle.min.mjs"): "onnxruntime.js",
    PurePosixPath("package/dist/ort-wasm-simd-threaded.wasm"): "onnxruntime.wasm",
}
LARGEST_PACKAGE = 64 << 20  # bytes
FETCH_SECONDS = 600


def runtime_files(cache: Path, package: Path | None = None) -> dict[str, bytes]:
    """The runtime's files by name: a module, and what it runs as WebAssembly, with SIMD.

    Args:
        cache: folder of what can be fetched again; the package is kept in `web/`.
        package: the package's file as `npm pack` writes it; None: from the cache, else by npm, as the user has set
            that up. npm runs no script of the package.

    Raises:
        RequestError: the file that is named is another one, or there is neither a package nor npm.
        ServingError: npm cannot bring it.
        ModelError: npm brought something else than was published.
        StorageError: it cannot be kept.
    """
    if package is not None:
        content = _read(package)
        if content is None:
            raise RequestError(
                f"{package} is not {PACKAGE} {VERSION} as it was published", f"npm pack {PACKAGE}@{VERSION} fetches it"
            )
        return _used(content)
    kept = cache / "web" / f"{PACKAGE}-{VERSION}.tgz"
    content = _read(kept) if kept.is_file() else None
    if content is None:
        content = _fetch()
        write_bytes(kept, content)
        say(f"{PACKAGE} {VERSION}: {len(content) / 1e6:.1f} MB by npm, kept in {kept}")
    return _used(content)


def _read(package: Path) -> bytes | None:
    """The package's content; None where it is not what was published."""
    try:
        content = read_regular(package, LARGEST_PACKAGE)
    except OSError as error:
        raise RequestError(
            f"{package} cannot be read: {error.strerror or error}", "name the file that npm pack wrote"
        ) from error
    return content if base64.b64encode(hashlib.sha512(content).digest()).decode() == INTEGRITY else None


def _fetch() -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise RequestError(
            f"{PACKAGE} {VERSION} is not here, and no npm that fetches it",
            f"install Node.js; or run npm pack {PACKAGE}@{VERSION} elsewhere, and name its file by --runtime",
        )
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [npm, "pack", "--ignore-scripts", "--pack-destination", folder, f"{PACKAGE}@{VERSION}"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=FETCH_SECONDS,
                check=False,
                env={**os.environ, "npm_config_update_notifier": "false"},
            )
        except subprocess.TimeoutExpired as error:
            raise ServingError(f"npm had not brought {PACKAGE} {VERSION} after {FETCH_SECONDS} s", AGAIN) from error
        found = sorted(Path(folder).glob("*.tgz"))
        if done.returncode or len(found) != 1:
            raise ServingError(f"npm cannot bring {PACKAGE} {VERSION}: {_said(done.stderr)}", AGAIN)
        content = _read(found[0])
    if content is None:
        raise ModelError(
            f"what npm brought is not {PACKAGE} {VERSION} as it was published", "ask whoever runs your registry"
        )
    return content


AGAIN = "try it again, or name a file that you have by --runtime"


def _said(stderr: bytes) -> str:
    """What npm names as the reason."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("npm error", "npm ERR!"))]
    return printable((errors or lines or ["it says nothing"])[0], 200)


def _used(content: bytes) -> dict[str, bytes]:
    files = {}
    try:
        with io.BufferedReader(gzip.GzipFile(fileobj=io.BytesIO(content))) as archive:
            for member in members(archive):
                size = member.size or 0
                held = archive.read(size + -size % BLOCK)[:size]
                if name := USED.get(member.name):
                    files[name] = held
                if len(files) == len(USED):
                    break
    except (OSError, EOFError, zlib.error, DamagedArchiveError, UnsafeArchiveError) as error:
        raise ModelError(f"{PACKAGE} {VERSION} cannot be unpacked: {error}", AGAIN) from error
    return files

"""As many connections as the process may open files."""

import subprocess
import sys

import pytest

CODE = """
import resource
from nanocv_cli.serving.embedded.limits import OTHER_FILES, Limits, fitting
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
found = fitting(Limits())
allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
assert OTHER_FILES + 2 * found.connections + found.grpc_connections <= max(allowed, OTHER_FILES + 4), (found, allowed)
print(found.connections, found.grpc_connections)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have further limits")
@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (64, 64, "1 2"),
        (256, 1024, "192 384"),
        (1024, 1024, "192 384"),
        (1024, 4096, "960 1920"),
        (4096, 16384, "2048 12032"),
    ],
)
def test_connections_fit_the_files_that_may_be_open(soft: int, hard: int, expected: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE.format(soft=soft, hard=hard)], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (expected, "")

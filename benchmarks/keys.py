"""What keys, TLS and the access log cost a server: processor time of its process for each request, of four in turn.

    python -m benchmarks.keys

The servers differ in nothing else: one has none of them, one asks for a key, one for a key by TLS, one writes a line of
JSON for each request. All serve a graph that costs next to nothing. In each round all take their short turn by HTTP and
by gRPC, over one kept connection each. A thousand other keys stand in the file. Processor time does not count what else
the machine does, but that shares caches and cores: so the lowest tenth of the rounds is printed beside their median.
Two servers that do not differ at all are 1.5 % apart. Needs Linux, which tells a process's time in nanoseconds, and the
command `openssl` to make a certificate.
"""

import argparse
import contextlib
import os
import secrets
import statistics
import subprocess
import tempfile
from pathlib import Path

import onnx

from nanocv_cli.bench.load import Connection
from nanocv_cli.bench.payload import build_payload
from nanocv_cli.bench.server_api import ServerApi
from nanocv_cli.bench.sweep import Target
from nanocv_cli.engine.identity import AUTHORITIES, KEY
from nanocv_cli.serving.key_file import SALT_BYTES, SECRET_BYTES, Key, add_key
from nanocv_cli.serving.launch import Server, started

OTHERS = 1000
MODEL = "identity"


def write_identity(repository: Path) -> None:
    """An entry whose graph gives back four bytes."""
    entry = repository / MODEL
    (entry / "1").mkdir(parents=True)
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, ["batch", 4]) for name in "xy"]
    nodes = [onnx.helper.make_node("Identity", ["x"], ["y"])]
    graph = onnx.helper.make_graph(nodes, MODEL, values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(entry / "1" / "model.onnx"))
    (entry / "config.pbtxt").write_text(f'name: "{MODEL}"\nbackend: "onnxruntime"\nmax_batch_size: 1\n')


def write_keys(path: Path) -> str:
    """A file of many keys; returns the one that is shown."""
    lines = [
        Key(f"n{number}", frozenset({"infer"}), None, secrets.token_hex(SALT_BYTES), secrets.token_bytes(SECRET_BYTES))
        for number in range(OTHERS)
    ]
    path.write_text("".join(one.line() for one in lines))
    return add_key(path, "mine", ["infer"], 1e6)


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine's loopback that has signed itself, and its key."""
    certificate, key = folder / "server.crt", folder / "server.key"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key)]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run(
        ["openssl", "req", "-x509", *curve, *name, "-out", str(certificate)], check=True, capture_output=True
    )
    return certificate, key


def spent(server: Server) -> float:
    """Processor time of a server so far, in microseconds."""
    tasks = Path(f"/proc/{server.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e3


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--requests", type=int, default=100)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="nanocv-keys-")))
        write_identity(folder / "models")
        os.environ[KEY] = write_keys(folder / "keys.txt")
        certificate, key = write_certificate(folder)
        os.environ[AUTHORITIES] = str(certificate)
        keys = ("--key-file", str(folder / "keys.txt"))
        tls = ("--tls-cert", str(certificate), "--tls-key", str(key))
        connections: dict[tuple[str, str], tuple[Server, Connection]] = {}
        told = ("--access-log", "json")
        for name, options in (("none", ()), ("a key", keys), ("a key by TLS", (*keys, *tls)), ("access log", told)):
            server = running.enter_context(started(folder / "models", "embedded", "none", *options))
            api = ServerApi(f"{'https' if '--tls-cert' in options else 'http'}://{server.http}")
            payload = build_payload(api.metadata(MODEL), MODEL, 1, "random", {}, batched=True)
            for protocol in ("http", "grpc"):
                opened = Target(api, MODEL, protocol, server.grpc).connector([payload])()
                connections[protocol, name] = server, opened
                running.callback(opened.close)
        costs: dict[tuple[str, str], list[float]] = {case: [] for case in connections}
        for turn in range(arguments.rounds + 1):
            for case, (server, connection) in connections.items():
                before = spent(server)
                for _ in range(arguments.requests):
                    connection.infer()
                if turn:  # the first warms up
                    costs[case].append((spent(server) - before) / arguments.requests)
    print(f"processor time of the server for each request, {arguments.rounds} rounds")
    for (protocol, name), found in costs.items():
        least, middle = statistics.quantiles(found, n=10)[0], statistics.median(found)
        more = least - statistics.quantiles(costs[protocol, "none"], n=10)[0]
        print(f"{protocol:>5}  {name:<13} {least:6.1f} us  {more:+6.1f} us   median {middle:6.1f} us")


if __name__ == "__main__":
    main()

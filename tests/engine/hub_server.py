"""A Hugging Face hub on loopback, as `huggingface_hub` calls it, as honest or as hostile as a test says."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

LARGE = 10_000  # bytes, from which on a file is kept apart, as LFS does


@dataclass
class Hub:
    """What the hub has, what it was asked, and how it lies.

    Attributes:
        files: of its one repository `repository`, by name.
        private: whether a token is needed.
        announced: sizes that it tells in place of the true ones.
        forged: content that it sends in place of the announced one.
        store: address to which it sends those who want a large file; empty: its own.
        answer: what it answers to a question for the model in place of the truth; status 500 where that is empty.
        asked: method and path of each request, with the token that came along.
        commits: what was sent to be committed: name and content.
    """

    repository: str = "me/lenet"
    files: dict[str, bytes] = field(default_factory=dict)
    private: bool = False
    announced: dict[str, int] = field(default_factory=dict)
    forged: dict[str, bytes] = field(default_factory=dict)
    store: str = ""
    answer: str | None = None
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    commits: list[dict[str, bytes]] = field(default_factory=list)
    uploaded: dict[str, bytes] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        """Of what it has now."""
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()

    def model_info(self) -> dict[str, Any]:
        siblings = []
        for name, content in self.files.items():
            entry: dict[str, Any] = {
                "rfilename": name,
                "size": self.announced.get(name, len(content)),
                "blobId": hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest(),
            }
            if len(content) >= LARGE:
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha256, "size": entry["size"], "pointerSize": 130}
            siblings.append(entry)
        return {"_id": "1", "id": self.repository, "modelId": self.repository, "sha": self.commit,
                "private": self.private, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings}  # fmt: skip


@contextmanager
def hub_server(hub: Hub) -> Iterator[str]:
    """Serves until the context ends; yields the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def _serve(self) -> None:
            path = urlsplit(self.path).path
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            hub.asked.append((self.command, path, token))
            if hub.private and not token:
                self._refuse(401, "RepoNotFound", "Invalid username or password.")
            elif self.command == "GET":
                self._read(path)
            else:
                self._write(path, body)

        do_GET = do_POST = do_PUT = _serve

        def _read(self, path: str) -> None:
            model = f"/api/models/{hub.repository}"
            resolve = f"/{hub.repository}/resolve/{hub.commit}/"
            if path.startswith(f"{model}/revision/") and hub.answer is not None:
                self._send(200 if hub.answer else 500, hub.answer.encode())
            elif path in (f"{model}/revision/main", f"{model}/revision/{hub.commit}"):
                self._send(200, json.dumps(hub.model_info()).encode())
            elif path.startswith(f"{model}/revision/"):
                self._refuse(404, "RevisionNotFound", "Invalid rev id")
            elif path.startswith(resolve) and path.removeprefix(resolve) in hub.files:
                self._send_file(path.removeprefix(resolve))
            elif path.startswith("/store/"):
                name = path.removeprefix("/store/")
                self._send(200, hub.forged.get(name, hub.files[name]))
            else:
                self._refuse(404, "RepoNotFound", "Repository not found")

        def _send_file(self, name: str) -> None:
            """A large file is sent from elsewhere."""
            if len(hub.files[name]) >= LARGE:
                store = hub.store or f"http://127.0.0.1:{server.server_port}/store"
                self._send(302, b"", {"Location": f"{store}/{name}", "X-Repo-Commit": hub.commit})
            else:
                self._send(200, hub.forged.get(name, hub.files[name]), {"X-Repo-Commit": hub.commit})

        def _write(self, path: str, body: bytes) -> None:
            home = f"http://127.0.0.1:{server.server_port}"
            if path == "/api/repos/create":
                self._send(200, json.dumps({"url": f"{home}/{hub.repository}"}).encode())
            elif path == "/api/validate-yaml":
                self._send(200, json.dumps({"errors": [], "warnings": []}).encode())
            elif path.endswith("/preupload/main"):
                modes = [{"path": entry["path"], "uploadMode": "lfs" if entry["size"] >= LARGE else "regular",
                          "shouldIgnore": False} for entry in json.loads(body)["files"]]  # fmt: skip
                self._send(200, json.dumps({"files": modes}).encode())
            elif path.endswith("/info/lfs/objects/batch"):
                objects = [
                    {**entry, "actions": {"upload": {"href": f"{home}/upload/{entry['oid']}", "header": {}}}}
                    for entry in json.loads(body)["objects"]
                ]
                self._send(200, json.dumps({"transfer": "basic", "objects": objects}).encode())
            elif path.startswith("/upload/"):
                hub.uploaded[path.removeprefix("/upload/")] = body
                self._send(200, b"")
            elif path == f"/api/models/{hub.repository}/commit/main":
                self._commit([json.loads(line) for line in body.splitlines()], home)
            else:
                self._refuse(404, "RepoNotFound", "Repository not found")

        def _commit(self, entries: list[dict[str, Any]], home: str) -> None:
            made = {}
            for entry in entries:
                value = entry["value"]
                if entry["key"] == "file":
                    made[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    made[value["path"]] = hub.uploaded[value["oid"]]
            hub.commits.append(made)
            hub.files.update(made)
            answer = {
                "commitUrl": f"{home}/{hub.repository}/commit/{hub.commit}",
                "commitOid": hub.commit,
                "success": True,
            }
            self._send(200, json.dumps(answer).encode())

        def _refuse(self, status: int, code: str, message: str) -> None:
            self._send(
                status, json.dumps({"error": message}).encode(), {"X-Error-Code": code, "X-Error-Message": message}
            )

        def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()

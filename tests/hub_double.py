"""A Hugging Face Hub on this machine: as much of its HTTP interface as the real client needs to push and to pull.

The client reads its environment when it is imported, so a test that uses this runs its client in a process of its own,
with ``environment()``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class HubDouble:
    """Repositories of models in memory. As a context manager it serves them."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.blobs: dict[str, bytes] = {}
        self.fetched: list[str] = []
        """Paths of the files that were downloaded, in their order."""

    def __enter__(self) -> HubDouble:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def environment(self, home: Path) -> dict[str, str]:
        """For a process whose Hub this is, with its cache in ``home``."""
        root = Path(__file__).parents[1]
        switches = {f"HF_HUB_DISABLE_{name}": "1" for name in ("XET", "PROGRESS_BARS", "TELEMETRY")}
        client = {"HF_ENDPOINT": self.url, "HF_TOKEN": "hf_dummy", "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
        return os.environ | switches | client | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}

    def add(self, name: str, folder: Path) -> None:
        """A repository with the files of a folder."""
        files = (path for path in folder.rglob("*") if path.is_file())
        self.repositories[name] = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    def sha(self, name: str) -> str:
        """The commit at which a repository stands."""
        parts = [path.encode() + content for path, content in sorted(self.repositories[name].items())]
        return hashlib.sha1(b"".join(parts)).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubDouble

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for key, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0].strip("/")
        if path == "api/whoami-v2":
            token = {"auth": {"accessToken": {"displayName": "t", "role": "write"}, "type": "access_token"}}
            return self.answer({"type": "user", "name": "me", "orgs": []} | token)
        if path == "api/agent-harnesses":
            return self.answer({})
        name = "/".join(path.removeprefix("api/models/").split("/")[:2])
        if name not in self.hub.repositories:
            return self.answer({"error": "none"}, 404, X_Error_Code="RepoNotFound")
        files, sha, rest = self.hub.repositories[name], self.hub.sha(name), path.split(name, 1)[1].strip("/").split("/")
        if len(rest) > 1 and rest[1] not in ("main", sha):
            return self.answer({"error": "none"}, 404, X_Error_Code="RevisionNotFound")
        if rest[0] == "resolve":
            content = files.get("/".join(rest[2:]))
            if content is None:
                return self.answer({"error": "none"}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
            if self.command == "GET":
                self.hub.fetched.append("/".join(rest[2:]))
            return self.answer(content, X_Repo_Commit=sha, ETag=f'"{hashlib.sha1(content).hexdigest()}"')
        if rest[0] == "tree":
            oids = {path: hashlib.sha1(content).hexdigest() for path, content in files.items()}
            return self.answer([{"type": "file", "path": p, "size": len(files[p]), "oid": oids[p]} for p in files])
        info = {"_id": name, "id": name, "modelId": name, "sha": sha, "private": name in self.hub.private, "tags": []}
        return self.answer(info | {"gated": False, "disabled": False, "siblings": [{"rfilename": p} for p in files]})

    def do_PUT(self) -> None:
        self.hub.blobs[self.path.split("/")[-1]] = self.body()
        self.answer({})

    def do_POST(self) -> None:
        path, body = self.path.split("?")[0].strip("/"), self.body()
        if path == "api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
            self.hub.repositories.setdefault(name, {})
            if wanted.get("visibility") == "private" or wanted.get("private"):
                self.hub.private.add(name)
            return self.answer({"url": f"{self.hub.url}/{name}", "name": name})
        if path == "api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if "/preupload/" in path:
            files = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular"}
                for f in json.loads(body)["files"]
            ]
            return self.answer({"files": [f | {"shouldIgnore": False, "oid": None} for f in files]})
        if path.endswith("info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            actions = [{"upload": {"href": f"{self.hub.url}/lfs/{o['oid']}", "header": {}}} for o in objects]
            pairs = zip(objects, actions, strict=True)
            return self.answer({"transfer": "basic", "objects": [o | {"actions": action} for o, action in pairs]})
        if "/commit/" in path:
            name = "/".join(path.split("/")[2:4])
            for line in body.splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    self.hub.repositories[name][item["value"]["path"]] = base64.b64decode(item["value"]["content"])
                elif item["key"] == "lfsFile":
                    self.hub.repositories[name][item["value"]["path"]] = self.hub.blobs[item["value"]["oid"]]
            sha = self.hub.sha(name)
            url = f"{self.hub.url}/{name}/commit/{sha}"
            done = {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": "", "pullRequestUrl": None}
            return self.answer(done)
        return self.answer({"error": path}, 404)

"""A Hugging Face Hub on this machine: as much of its HTTP interface as the real client needs to push and to pull.

The client reads its environment when it is imported, so it runs in a process of its own, ``HubClient``, which takes
programs one after another: its imports take longer than they do.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import yaml


class HubDouble:
    """Repositories in memory, by their name: ``me/ada`` a model's, ``spaces/me/page`` a Space's. Serves in a ``with``.

    Tokens: "hf_me" may write what is me's, "hf_reader" may read that, "hf_you" is somebody else's; others are unknown.
    """

    TOKENS: ClassVar = {"hf_me": ("me", "write"), "hf_reader": ("me", "read"), "hf_you": ("you", "write")}

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Resets the Hub to its first state."""
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        """Files of each repository at each commit."""
        self.private: set[str] = set()
        self.blobs: dict[str, bytes] = {}
        self.fetched: list[str] = []
        """Paths of the files that were downloaded, in their order."""
        self.stored: list[str] = []
        """Hashes of the large files that arrived, in their order."""
        self.requests: list[str] = []
        self.breaks: list[str] = []
        """Where the connection breaks in the middle, once each: "PUT", "GET <path>" or "commit"."""
        self.corrupt: set[str] = set()
        """Paths whose last byte is not what was pushed."""
        self.variables: dict[str, dict[str, str]] = {}
        """Variables of each Space, by its name."""
        self.silent = 0.0
        """Seconds for which questions wait for their answer."""
        self.loses = False
        """Whether large files arrive damaged."""

    def __enter__(self) -> HubDouble:
        self.serve(0)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        for connection in self.connections:  # the client keeps them for its next request
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def serve(self, port: int) -> None:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.connections: list[socket.socket] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    @contextmanager
    def out_of_reach(self) -> Iterator[None]:
        """Within: nobody answers."""
        self.__exit__()
        try:
            yield
        finally:
            self.serve(self.server.server_port)

    def add(self, name: str, folder: Path) -> None:
        """A repository with the files of a folder."""
        files = (path for path in folder.rglob("*") if path.is_file())
        self.repositories[name] = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    def sha(self, name: str) -> str:
        """The commit at which a repository stands."""
        parts = [path.encode() + content for path, content in sorted(self.repositories[name].items())]
        sha = hashlib.sha1(b"".join(parts)).hexdigest()
        self.commits.setdefault(name, {})[sha] = dict(self.repositories[name])
        return sha


CLIENT = """
import contextlib, io, json, os, sys, traceback
for line in sys.stdin:
    said, error, given = io.StringIO(), "", json.loads(line)
    os.environ["HF_TOKEN"] = "hf_me"
    with contextlib.redirect_stdout(said):
        try:
            exec(given["program"], dict(given["names"], __name__="program"))
        except BaseException:
            error = traceback.format_exc()
    print(json.dumps({"said": said.getvalue(), "error": error}), flush=True)
"""


class HubClient:
    """A process whose Hub is the double, and whose user is logged in as "me". To be used in a ``with``."""

    def __init__(self, hub: HubDouble, home: Path) -> None:
        root = Path(__file__).parents[1]
        switches = {f"HF_HUB_DISABLE_{name}": "1" for name in ("XET", "PROGRESS_BARS", "TELEMETRY")}
        client = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home / "cache"), "HF_HUB_OFFLINE": "0"}
        path = {"PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")]), "OMP_NUM_THREADS": "1"}
        self.log = (home / "client.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT],
            env=os.environ | switches | client | path,
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )

    def __enter__(self) -> HubClient:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
        self.log.close()

    def run(self, program: str, **names: Any) -> list[str]:
        """The lines that a program prints, in which ``names`` have these values. An exception in it is one here."""
        assert self.process.stdin and self.process.stdout
        named = {name: str(value) if isinstance(value, Path) else value for name, value in names.items()}
        self.process.stdin.write(json.dumps({"program": program, "names": named}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, Path(self.log.name).read_text()
        answer = json.loads(line)
        assert not answer["error"], answer["error"]
        return answer["said"].splitlines()


def is_large(path: str) -> bool:
    """Whether the Hub keeps a file beside git."""
    return path.endswith((".safetensors", ".mp4", ".jpg"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubDouble

    def setup(self) -> None:
        super().setup()
        self.hub.connections.append(self.connection)

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

    def breaks(self, what: str) -> bool:
        """Whether this is where the connection breaks; it is closed after the answer then."""
        if what not in self.hub.breaks:
            return False
        self.hub.breaks.remove(what)
        self.close_connection = True
        return True

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def user(self) -> tuple[str, str]:
        """Whose token it is, and what it may do."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return self.hub.TOKENS.get(token, ("", ""))

    def may_not(self, owner: str) -> bool:
        """Whether the user may not write what is ``owner``'s; says so."""
        if not self.user()[0]:
            self.answer({"error": "Invalid username or password."}, 401)
        elif self.user() != (owner, "write"):
            message = f"You don't have the rights to write under the namespace {owner}"
            self.answer({"error": message}, 403, X_Error_Message=message)
        else:
            return False
        return True

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.split("?")[0].strip("/"))
        self.hub.requests.append(f"{self.command} {path}")
        time.sleep(self.hub.silent)
        if path == "api/agent-harnesses":
            return self.answer({})
        if self.headers.get("Authorization") and not self.user()[0]:
            message = "Invalid credentials in Authorization header"
            return self.answer({"error": message}, 401, X_Error_Message=message)
        if path == "api/whoami-v2":
            name, role = self.user()
            return self.answer({"type": "user", "name": name, "orgs": [], "auth": {"accessToken": {"role": role}}})
        space = "spaces/" if path.startswith(("api/spaces/", "spaces/")) else ""
        path = path.removeprefix("api/").removeprefix("models/").removeprefix("spaces/")
        owner, short = [*path.split("/"), ""][:2]
        name = f"{space}{owner}/{short}"
        if name not in self.hub.repositories or (name in self.hub.private and self.user()[0] != owner):
            return self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        sha, rest = self.hub.sha(name), path.split("/")[2:]
        if len(rest) > 1 and rest[1] != "main":
            sha = rest[1]
        files = self.hub.commits[name].get(sha)
        if files is None:
            return self.answer({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
        if rest[:1] == ["resolve"]:
            return self.resolve(files, sha, "/".join(rest[2:]))
        if rest[:1] == ["tree"]:
            return self.answer([self.row(path, content) for path, content in files.items()])
        info = {"_id": name, "id": f"{owner}/{short}", "sha": sha, "private": name in self.hub.private, "tags": []}
        return self.answer(info | {"gated": False, "disabled": False, "siblings": [{"rfilename": p} for p in files]})

    def row(self, path: str, content: bytes) -> dict[str, Any]:
        row = {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        if is_large(path):
            row["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return row

    def resolve(self, files: dict[str, bytes], sha: str, path: str) -> None:
        content = files.get(path)
        if content is None:
            return self.answer({"error": "none"}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
        headers = {"X_Repo_Commit": sha, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        if is_large(path):
            headers |= {"X_Linked_Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X_Linked_Size": str(len(content))}
        if path in self.hub.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 255])
        if self.command == "HEAD":
            return self.answer(content, **headers)
        self.hub.fetched.append(path)
        first, status = 0, 200
        if "Range" in self.headers:
            first, status = int(self.headers["Range"].removeprefix("bytes=").split("-")[0]), 206
            headers["Content_Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        content = content[first:]
        if self.breaks(f"GET {path}"):
            self.send_response(status)
            for key, text in (headers | {"Content_Length": str(len(content))}).items():
                self.send_header(key.replace("_", "-"), text)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            return None
        return self.answer(content, status, **headers)

    def do_PUT(self) -> None:
        oid = self.path.split("/")[-1]
        if self.breaks("PUT"):
            self.rfile.read(100)
            return
        content = self.body()
        self.hub.blobs[oid] = content[:-1] if self.hub.loses else content
        self.hub.stored.append(oid)
        self.answer({})

    def do_POST(self) -> None:
        path, body = unquote(self.path.split("?")[0].strip("/")), self.body()
        self.hub.requests.append(f"POST {path}")
        if path == "api/repos/create":
            return self.create(json.loads(body))
        if path == "api/validate-yaml":
            return self.validate(json.loads(body)["content"])
        if path.startswith("lfs/"):
            wanted = json.loads(body)["oid"]
            if hashlib.sha256(self.hub.blobs[wanted]).hexdigest() != wanted:
                return self.answer({"error": "the hash of this object is another one"}, 422)
            return self.answer({})
        space = "spaces/" if path.startswith(("api/spaces/", "spaces/")) else ""
        path = path.removeprefix("api/").removeprefix("models/").removeprefix("spaces/")
        owner, short, rest = path.split("/", 2)
        name = f"{space}{owner}/{short.removesuffix('.git')}"
        if self.may_not(owner):
            return None
        if space and rest == "variables":
            wanted = json.loads(body)
            self.hub.variables.setdefault(name, {})[wanted["key"]] = wanted["value"]
            return self.answer({key: {"value": value} for key, value in self.hub.variables[name].items()})
        if rest.startswith("preupload/"):
            stored, answers = self.hub.repositories[name], []
            for file in json.loads(body)["files"]:
                large, content = is_large(file["path"]), stored.get(file["path"])
                oid = None if content is None else hashlib.sha256(content).hexdigest() if large else git_hash(content)
                mode = "lfs" if large else "regular"
                answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
            return self.answer({"files": answers})
        if rest == "info/lfs/objects/batch":
            objects = json.loads(body)["objects"]
            for wanted in objects:
                if wanted["oid"] not in self.hub.blobs:
                    href = f"{self.hub.url}/lfs/{wanted['oid']}"
                    wanted["actions"] = {"upload": {"href": href, "header": {}}, "verify": {"href": href}}
            return self.answer({"transfer": "basic", "objects": objects})
        if rest.startswith("commit/"):
            return self.commit(name, [json.loads(line) for line in body.splitlines()])
        return self.answer({"error": path}, 404)

    def create(self, wanted: dict[str, Any]) -> None:
        owner = wanted.get("organization") or self.user()[0]
        if self.may_not(owner):
            return None
        space = wanted.get("type") == "space"
        if space and wanted["sdk"] != "gradio":
            return self.answer({"error": "no such sdk"}, 400)
        name = f"{'spaces/' * space}{owner}/{wanted['name']}"
        if name in self.hub.repositories:
            return self.answer({"error": "You already created this repo", "url": f"{self.hub.url}/{name}"}, 409)
        self.hub.repositories[name] = {".gitattributes": b"*.safetensors filter=lfs\n"}
        if wanted.get("visibility") == "private":
            self.hub.private.add(name)
        return self.answer({"url": f"{self.hub.url}/{name}", "name": name})

    def validate(self, content: str) -> None:
        try:
            data = yaml.safe_load(content.split("---\n")[1])
            for entry in data.get("model-index", ()):
                for result in entry["results"]:
                    _ = entry["name"], result["task"]["type"], result["dataset"]["name"], result["dataset"]["type"]
                    assert all(isinstance(metric["value"], float) and metric["type"] for metric in result["metrics"])
        except (IndexError, KeyError, AssertionError, yaml.YAMLError) as error:
            return self.answer({"errors": [{"message": repr(error)}], "warnings": []}, 400)
        return self.answer({"errors": [], "warnings": []})

    def commit(self, name: str, items: list[dict[str, Any]]) -> None:
        if self.breaks("commit"):
            return None
        files = self.hub.repositories[name]
        for item in items:
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        sha = self.hub.sha(name)
        url = f"{self.hub.url}/{name}/commit/{sha}"
        done = {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": "", "pullRequestUrl": None}
        return self.answer(done)


def git_hash(content: bytes) -> str:
    """As git names a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

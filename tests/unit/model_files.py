"""A web server, a registry file and packages for tests of the model cache."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple


class Asked(NamedTuple):
    path: str
    range: str | None
    if_range: str | None


class Files:
    """Serves bytes, and misbehaves as told."""

    def __init__(self) -> None:
        self.bytes: dict[str, bytes] = {}
        self.tag: str | None = '"one"'
        self.ranges = True
        self.drop_after: list[int] = []
        """After how many bytes of the body the next answers break off."""
        self.status: list[int] = []
        """Errors that the next requests get instead of an answer."""
        self.gate = threading.Event()
        """What comes after the first `hold_after` bytes of a file waits for it."""
        self.gate.set()
        self.hold_after = 0
        self.endless = False
        self.shift = 0
        """By how much a range that is sent differs from the one asked for."""
        self.password: str | None = None
        self.asked: list[Asked] = []
        self.arrived = threading.Event()
        files = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                files.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = Asked(request.path[1:], request.headers["Range"], request.headers["If-Range"])
        self.asked.append(asked)
        self.arrived.set()
        if self.password and self.password not in request.headers.get("Authorization", ""):
            request.send_response(401)
            request.send_header("WWW-Authenticate", 'Basic realm="a"')
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body = self.bytes.get(asked.path)
        if self.status or body is None:
            request.send_error(self.status.pop(0) if self.status else 404)
            return
        start = 0
        if self.ranges and asked.range and asked.if_range in (None, self.tag):
            start = int(asked.range.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                request.send_error(416)
                return
            start -= self.shift
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        request.send_header("Content-Type", "text/html" if asked.path.endswith("/") else "application/octet-stream")
        if self.tag:
            request.send_header("ETag", self.tag)
        if not self.endless:
            request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        rest = body[start:]
        if self.drop_after:
            rest = rest[: self.drop_after.pop(0)]
        try:
            now = max(0, self.hold_after - start)
            request.wfile.write(rest[:now])
            self.gate.wait(30)
            request.wfile.write(rest[now:])
            while self.endless:
                request.wfile.write(bytes(1 << 16))
        except OSError:
            pass  # the client has heard enough, or was killed

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@contextmanager
def serving() -> Iterator[Files]:
    files = Files()
    try:
        yield files
    finally:
        files.close()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def declare(path: Path, files: Mapping[str, bytes], *sources: str, name: str = "toy") -> Path:
    """A registry file with one model."""
    lines = [f'[{name}]\nkind = "voice"\ntitle = "Toy"\npurpose = "tests"\nlicence = "MIT"\nlanguage = "en"']
    lines += [
        f'[[{name}.file]]\npath = "{each}"\nsize = {len(data)}\nsha256 = "{sha256(data)}"'
        for each, data in files.items()
    ]
    lines += [f"[[{name}.source]]\n{source}" for source in sources]
    path.write_text("\n".join(lines))
    return path


def at(address: str) -> str:
    return f'kind = "url"\naddress = "{address}"\nprefix = ""'


def packages(kind: str, archives: Mapping[str, bytes], members: Mapping[str, list[str]]) -> str:
    """A source of packages, all of version 1.0."""
    listed = ", ".join(
        f'{{ name = "{name}", version = "1.0", size = {len(data)}, sha256 = "{sha256(data)}" }}'
        for name, data in archives.items()
    )
    named = ", ".join(f'"{path}" = {names!r}' for path, names in members.items())
    return f'kind = "{kind}"\npackages = [{listed}]\nmembers = {{ {named} }}'


def wheel(folder: Path, name: str, members: Mapping[str, bytes]) -> bytes:
    """A wheel that pip believes, in `folder`."""
    path = folder / f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    described = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    path.write_bytes(zipped({**members, **described}))
    return path.read_bytes()


def zipped(members: Mapping[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            entry = zipfile.ZipInfo(member)  # without the time of day: the same bytes every time
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return data.getvalue()


def tgz(members: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for member, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()

"""The server under test: our own as a subprocess, or any that is already running."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from greenroom.api import AccessToken, VideoGrants

from . import process

__all__ = ["Options", "Target", "TargetError", "livekit_server", "target"]

START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0
ROOT = Path(__file__).resolve().parents[1]


class TargetError(Exception):
    """The server cannot be started or measured."""


@dataclass(frozen=True)
class Options:
    """What the command line says. `url` empty: start our own server, a fresh one for each benchmark."""

    url: str = ""
    api_key: str = "devkey"
    api_secret: str = "secret"
    pid: int | None = None
    quick: bool = False
    seconds: float | None = None
    coalesce: bool = True
    rows: tuple[str, ...] = ()
    beside: str = ""
    """A livekit-server executable to measure in the same run."""
    rounds: int | None = None
    """How often each load is measured, each time by fresh servers."""
    pace: str = "runs"
    uplink_mbps: float = 10.0
    table: bool = False
    """Tables to read instead of JSON lines, where a benchmark has them."""


@dataclass(frozen=True)
class Target:
    """A running server. `pid` None: its CPU time and memory cannot be read."""

    url: str
    api_key: str
    api_secret: str
    pid: int | None
    metrics_url: str = ""
    """Empty: its own counters cannot be read."""

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    def token(self, identity: str, room: str, **grants: bool) -> str:
        allowed = VideoGrants(room_join=True, room=room, can_update_own_metadata=True, **grants)
        return AccessToken(self.api_key, self.api_secret).with_identity(identity).with_grants(allowed).to_jwt()

    def cpu_seconds(self) -> float:
        if self.pid is None:
            raise TargetError("give --pid to measure the CPU time of a server given by --url")
        return process.cpu_seconds(self.pid)

    async def media(self) -> dict[str, float]:
        """Counters of our server's media threads since its start, empty of another server."""
        if not self.metrics_url:
            return {}
        async with aiohttp.ClientSession() as http, http.get(self.metrics_url) as response:
            text = await response.text()
        found = re.findall(r"^greenroom_media_(\w+)(?:\{.*\})? (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def memory(self) -> process.Memory:
        if self.pid is None:
            raise TargetError("give --pid to measure the memory of a server given by --url")
        return process.memory(self.pid)


@asynccontextmanager
async def target(options: Options, config: str = "") -> AsyncIterator[Target]:
    """The server to measure, for one benchmark. `config`: YAML that our own server is started with."""
    if options.url:
        if config:
            raise TargetError(f"a server given by --url cannot be told: {config}")
        yield Target(options.url.rstrip("/"), options.api_key, options.api_secret, options.pid)
        return
    port, udp_port, metrics_port = (
        free_port(kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_STREAM)
    )
    with tempfile.TemporaryFile() as log:
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "greenroom", "server", "--dev", "--bind", "127.0.0.1"),
            *("--port", str(port), "--udp-port", str(udp_port), "--log-level", "warning"),
            *("--config-body", f"prometheus: {{port: {metrics_port}}}\n{config}"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        async with _running(server, log):
            await _ready(server, log)
            yield Target(
                f"http://127.0.0.1:{port}", "devkey", "secret", server.pid, f"http://127.0.0.1:{metrics_port}/metrics"
            )


@asynccontextmanager
async def livekit_server(executable: str) -> AsyncIterator[Target]:
    """A livekit-server (Go) as it comes, all media on one UDP port."""
    port, udp_port, tcp_port = (
        free_port(socket.SOCK_STREAM),
        free_port(socket.SOCK_DGRAM),
        free_port(socket.SOCK_STREAM),
    )
    # On several interfaces it sometimes answers no check on the one that it names.
    addresses = "node_ip: 127.0.0.1, enable_loopback_candidate: true, interfaces: {includes: [lo]}"
    rtc = f"rtc: {{udp_port: {udp_port}, tcp_port: {tcp_port}, use_external_ip: false, {addresses}}}"
    with tempfile.TemporaryFile() as log:
        server = await asyncio.create_subprocess_exec(
            *(executable, "--dev", "--bind", "127.0.0.1"),
            *("--config-body", f"port: {port}\n{rtc}\nlogging: {{level: error}}"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        async with _running(server, log):
            await _listening(port, server, log)
            yield Target(f"http://127.0.0.1:{port}", "devkey", "secret", server.pid)


@asynccontextmanager
async def _running(
    server: asyncio.subprocess.Process, log: tempfile._TemporaryFileWrapper[bytes]
) -> AsyncIterator[None]:
    """Ends the server at the end; TargetError when it has ended by itself."""
    try:
        yield
        if server.returncode is not None:
            raise TargetError(f"the server ended during the benchmark (code {server.returncode}): {_tail(log)}")
    finally:
        await process.end(server, STOP_TIMEOUT)


async def _listening(port: int, server: asyncio.subprocess.Process, log: tempfile._TemporaryFileWrapper[bytes]) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + START_TIMEOUT
    while server.returncode is None and loop.time() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return
    raise TargetError(f"the server did not start: {_tail(log)}")


async def _ready(server: asyncio.subprocess.Process, log: tempfile._TemporaryFileWrapper[bytes]) -> None:
    assert server.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT):
            while line := await server.stdout.readline():
                if b"ready at" in line:
                    return
    except TimeoutError:
        raise TargetError(f"the server was not ready within {START_TIMEOUT:g} s: {_tail(log)}") from None
    raise TargetError(f"the server did not start: {_tail(log)}")


def _tail(log: tempfile._TemporaryFileWrapper[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")[-2000:].strip() or "(it said nothing)"


def free_port(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

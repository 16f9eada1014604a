"""`greenroom server` and `greenroom token` as an operator meets them: real processes, exit codes, one line each."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys

import aiohttp
import pytest

from greenroom.api import LiveKitAPI, TokenVerifier

WAIT = 30.0
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith("LIVEKIT_")}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "greenroom", *arguments]
    return subprocess.run(command, env=CLEAN | environment, capture_output=True, text=True, timeout=WAIT)


class Server:
    """A server process that became ready."""

    def __init__(self, process: asyncio.subprocess.Process, line: str) -> None:
        self.process = process
        self.line = line
        self.url = line.split()[-1]

    @classmethod
    async def start(cls, *arguments: str, **environment: str) -> Server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "greenroom", "server", "--port", "0", "--udp-port", "0", *arguments),
            env=CLEAN | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        line = (await asyncio.wait_for(process.stdout.readline(), WAIT)).decode().strip()
        return cls(process, line)

    async def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit code, and what it printed after it was ready."""
        self.process.send_signal(number)
        out, _ = await asyncio.wait_for(self.process.communicate(), WAIT)
        return self.process.returncode, out.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_one_line_serves_and_stops_cleanly(number):
    server = await Server.start("--dev")
    try:
        assert "http://localhost:" in server.line
        async with aiohttp.ClientSession() as session, session.get(server.url) as response:
            assert (response.status, await response.text()) == (200, "OK")
    finally:
        code, more = await server.stop(number)
    assert (code, more) == (0, "")


async def test_keys_come_from_the_environment():
    server = await Server.start("--bind", "127.0.0.1", LIVEKIT_KEYS=f"mykey: {'s' * 32}")
    try:
        async with LiveKitAPI(server.url, "mykey", "s" * 32) as api:
            assert list((await api.room.list_rooms()).rooms) == []
    finally:
        code, _ = await server.stop()
    assert code == 0


async def test_a_configuration_file_is_used(tmp_path):
    path = tmp_path / "server.yaml"
    path.write_text(f"keys: {{filekey: {'f' * 32}}}\nbind_addresses: [127.0.0.1]\nturn: {{enabled: true}}\n")
    server = await Server.start("--config", str(path))
    try:
        async with LiveKitAPI(server.url, "filekey", "f" * 32) as api:
            assert list((await api.room.list_rooms()).rooms) == []
    finally:
        await server.stop()


def test_without_keys_it_refuses_in_one_sentence():
    done = run("server")
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "no API keys" in done.stderr and "--dev" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--keys", "nonsense"), 'keys must look like "key: secret"'),
        (("--keys", "prod: short"), "the secret of key 'prod' has 5 bytes, it needs 32"),
        (("--keys", "devkey: secret"), "the secret of key 'devkey' has 6 bytes, it needs 32"),
        (("--config", "/nowhere/server.yaml"), "cannot read /nowhere/server.yaml"),
        (("--config-body", "port: many"), "port must be a whole number"),
        (("--dev", "--port", "99999"), "port is 99999"),
        (("--dev", "--shards", "0"), "shards is 0"),
        (("--dev", "--log-level", "loud"), "logging.level is 'loud'"),
    ],
)
def test_what_cannot_work_is_one_sentence(arguments, message):
    done = run("server", *arguments)
    assert done.returncode == 1 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["http", "media"])
def test_a_port_in_use_is_one_sentence(kind):
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = str(taken.getsockname()[1])
        ports = (
            ("--port", port, "--udp-port", "0") if kind == socket.SOCK_STREAM else ("--port", "0", "--udp-port", port)
        )
        done = run("server", "--dev", *ports)
    assert done.returncode == 1 and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert port in line and "in use" in line


def test_the_help_names_every_command():
    done = run("--help")
    assert done.returncode == 0
    for command in ("dev", "server", "call", "token", "doctor"):
        assert command in done.stdout
    assert "--node-ip" in run("server", "--help", COLUMNS="120").stdout


def test_a_token_from_the_command_line():
    done = run(
        "token", "create", "--join", "--room", "den", "--identity", "ann", "--valid-for", "2h", "--agent", "kitt"
    )
    claims = TokenVerifier("devkey", "secret").verify(done.stdout.strip())
    assert (claims.identity, claims.video.room, claims.video.room_join) == ("ann", "den", True)
    assert claims.room_config.agents[0].agent_name == "kitt"
    assert run("token", "create", "--join", "--room", "den").returncode == 2
    assert run("token", "create", "--valid-for", "soon").returncode == 2


def test_importing_the_api_is_light():
    code = (
        "import sys, greenroom.api; print([m for m in ('aiohttp', 'google.protobuf', 'livekit') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT)
    assert done.stdout.strip() == "[]", done.stderr

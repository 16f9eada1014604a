"""A model's process is one for all who connect, ends with its users, and is replaced when it died."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenroom.agents.speech.protocols import ProviderError
from greenroom.plugins import shared_process

SERVER = """
import os
from greenroom.plugins.shared_process import accept, begin, end, ready

control, configuration = begin()
if configuration.get("broken"):
    raise SystemExit("no such model")
if configuration.get("slow"):
    import time
    time.sleep(60)
if configuration.get("busy"):
    import threading, time
    threading.Thread(target=time.sleep, args=(60,)).start()
ready()
for number, connection in enumerate(accept(control)):
    connection.sendall(f"{os.getpid()} {number} {configuration['word']}".encode())
    connection.close()
end(0)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"model_{os.getpid()}_{time.monotonic_ns()}"
    (tmp_path / f"{name}.py").write_text(SERVER)
    path = os.pathsep.join([str(tmp_path), *(entry for entry in sys.path if entry)])
    monkeypatch.setenv("PYTHONPATH", path)
    yield name


def read(connection: socket.socket) -> list[str]:
    with connection:
        connection.settimeout(10)
        return b"".join(iter(lambda: connection.recv(100), b"")).decode().split()


def wait_gone(pid: int) -> None:
    """Until it ended, reaped or not."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.01)
    pytest.fail("the process goes on")


def test_all_who_ask_are_served_by_one_process_of_a_configuration(module: str) -> None:
    configuration = {"word": "one"}
    pid = shared_process.start("test", module, configuration).pid
    assert shared_process.start("test", module, dict(configuration)).pid == pid
    assert read(shared_process.connect("test", module, configuration)) == [str(pid), "0", "one"]
    assert read(shared_process.connect("test", module, configuration)) == [str(pid), "1", "one"]
    other = read(shared_process.connect("test", module, {"word": "two"}))
    assert other[0] != str(pid) and other[1:] == ["0", "two"]


def test_one_that_died_is_replaced(module: str) -> None:
    configuration = {"word": "again"}
    pid = shared_process.start("test", module, configuration).pid
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)
    answer = read(shared_process.connect("test", module, configuration))
    assert answer[0] != str(pid) and answer[2] == "again"


def test_jobs_that_are_forked_use_their_parents(module: str) -> None:
    configuration = {"word": "forked"}
    pid = shared_process.start("test", module, configuration).pid
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, " ".join(read(shared_process.connect("test", module, configuration))).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as answer:
        assert answer.read() == f"{pid} 0 forked"


def test_it_ends_with_the_last_who_could_ask(module: str) -> None:
    process = shared_process.SharedProcess("test", module, {"word": "bye"})
    process.wait_ready()
    process.close()
    wait_gone(process.pid)


def test_an_interrupt_while_it_imports_is_not_meant_for_it(module: str, tmp_path: Path) -> None:
    """A Ctrl-C goes to all processes of the terminal."""
    interrupt = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / f"{module}.py").write_text(interrupt + SERVER)
    process = shared_process.SharedProcess("test", module, {"word": "on"})
    process.wait_ready()
    assert read(process.connect())[2] == "on"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    process.close()
    wait_gone(process.pid)


def test_it_ends_whatever_its_threads_do(module: str) -> None:
    process = shared_process.SharedProcess("test", module, {"busy": True})
    process.wait_ready()
    process.close()
    wait_gone(process.pid)


def test_one_that_cannot_load_says_so(module: str) -> None:
    process = shared_process.SharedProcess("little", module, {"broken": True})
    with pytest.raises(ProviderError, match="the little process ended while loading its model"):
        process.wait_ready()


def test_one_that_could_not_load_is_not_taken_for_ready_afterwards(module: str) -> None:
    for _ in range(2):
        with pytest.raises(ProviderError, match="ended while loading"):
            shared_process.start("little", module, {"broken": True})


def test_one_that_never_loads_is_ended(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_process, "LOAD_TIMEOUT", 0.2)
    process = shared_process.SharedProcess("slow", module, {"slow": True})
    with pytest.raises(ProviderError, match="did not load its model within"):
        process.wait_ready()
    wait_gone(process.pid)

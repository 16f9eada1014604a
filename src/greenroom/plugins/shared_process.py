"""A process that holds a model for all jobs of a worker.

The warm image starts it in `load`; the jobs forked from that image inherit the control socket and send the process one end of
a socket pair each time they want a connection. So a model is in memory once, however many jobs run, and its work is done on
processors of its own. A process that died is started anew by the next who connects.

The other side is a module that is run as `python -m MODULE CONTROL_FD`: it reads its configuration as JSON from standard
input, loads, writes `ready` and a line end to standard output, and then receives connections (`accept`) until the control
socket is closed, which happens when the last process that could ask for one is gone. Then it leaves with `end`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from greenroom.agents.speech.protocols import ProviderError

__all__ = ["SharedProcess", "accept", "begin", "connect", "end", "ready", "start"]

MAX_DESCRIPTORS = 4
LOAD_TIMEOUT = 120.0
"""Seconds for a model to be loaded; on a busy machine the largest take ten."""


class SharedProcess:
    """One running process. `name` is for errors."""

    def __init__(self, name: str, module: str, configuration: Any) -> None:
        self.name = name
        self.module = module
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        with theirs, _without_interrupts():
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
            )
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(configuration).encode())
            self._process.stdin.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> None:
        """Block until it has loaded. Raises ProviderError when it ended instead; its standard error says why."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], LOAD_TIMEOUT)[0]:
            self._process.kill()
            raise ProviderError(f"the {self.name} process did not load its model within {LOAD_TIMEOUT:g} s")
        if self._process.stdout.readline().strip() != b"ready":
            raise ProviderError(f"the {self.name} process ended while loading its model")

    def connect(self) -> socket.socket:
        """A stream socket to it. OSError when the process is gone."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [b"c"], [theirs.fileno()])
            except OSError:
                ours.close()
                raise
        return ours

    def close(self) -> None:
        self._control.close()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """What is started meanwhile never sees a Ctrl-C, not even while it imports; ours comes when this is over."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_running: dict[tuple[str, str], SharedProcess] = {}
_lock = threading.Lock()


def start(name: str, module: str, configuration: Any) -> SharedProcess:
    """The process of that module and configuration, started if need be and ready. Blocking. Raises ProviderError."""
    key = (module, json.dumps(configuration, sort_keys=True))
    with _lock:
        process = _running.get(key)
        if process is None:
            process = SharedProcess(name, module, configuration)
            try:
                process.wait_ready()
            except ProviderError:
                process.close()
                raise
            _running[key] = process
    return process


def connect(name: str, module: str, configuration: Any) -> socket.socket:
    """A connection to that process, which is started, and started anew once if it has died. Blocking. Raises ProviderError."""
    key = (module, json.dumps(configuration, sort_keys=True))
    with _lock:
        for _ in range(2):
            process = _running.get(key)
            if process is None:
                process = _running[key] = SharedProcess(name, module, configuration)
            try:
                return process.connect()
            except OSError:
                process.close()
                del _running[key]
    raise ProviderError(f"the {name} process ends as soon as it starts")


# --- the other side ----------------------------------------------------------------------------------------------------


def begin() -> tuple[socket.socket, Any]:
    """The control socket and the configuration of the process that this is."""
    control = socket.socket(fileno=int(sys.argv[1]))
    configuration = json.load(sys.stdin)
    # Whoever stops the agent does so by closing the sockets; a Ctrl-C at the terminal is not meant for us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return control, configuration


def ready() -> bool:
    """Say that the model is loaded. False when whoever wanted it went meanwhile."""
    try:
        os.write(sys.stdout.fileno(), b"ready\n")
    except BrokenPipeError:
        return False
    return True


def end(status: int) -> NoReturn:
    """Leave the process, whatever its threads do. For the end of the module, instead of `sys.exit`.

    A thread in the middle of a library's work does not like the interpreter to end around it: onnxruntime then aborts, and
    the C++ library writes "terminate called" on the terminal of who stopped.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def accept(control: socket.socket) -> Iterator[socket.socket]:
    """Connections as they are asked for, until nobody is left who could."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 16, MAX_DESCRIPTORS)
        if not message:
            return
        for descriptor in descriptors:
            yield socket.socket(fileno=descriptor)

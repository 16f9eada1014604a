"""The warm image: a single-threaded process in which the app and its models are loaded, and which forks job processes.

The worker forks it before its event loop starts, so the app's functions are simply there: nothing is pickled, nothing
imported twice, and an idle job process costs only the pages it writes to. It never runs a job itself, so a crash of a
job cannot take it along.

Control protocol (one JSON object per datagram of a SOCK_SEQPACKET pair):
    worker -> image   {"op": "fork", "id": N} with one descriptor: the job process's end of its channel
    image -> worker   {"op": "warm"} | {"op": "error", "text": ...} once
                      {"op": "forked", "id": N, "pid": P} with one descriptor: the process's pidfd, by which the
                      worker sees its end also when the image is gone
                      {"op": "exit", "id": N, "status": wait status}
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from greenroom.processes import die_with_parent, outlive_parent

from .job import JobProcess
from .options import WorkerOptions
from .tracebacks import users_traceback

logger = logging.getLogger("greenroom.agents")

DATAGRAM = 65536


def start(
    options: WorkerOptions, job_main: Callable[[socket.socket, WorkerOptions, JobProcess], int], job_limit: float
) -> tuple[int, socket.socket]:
    """Fork the warm image. Returns its pid and the worker's end of the control socket.

    `job_limit`: seconds that a job process may go on without its worker before it is killed.

    Must be called before the process has threads or an event loop.
    """
    if threading.active_count() > 1:
        logger.warning("threads are running before the warm image is made; job processes will not have them")
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, mine
    mine.close()
    code = 1
    try:
        _serve(theirs, options, job_main, job_limit)
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)


def _serve(control: socket.socket, options: WorkerOptions, job_main: Callable[..., int], job_limit: float) -> None:
    # The terminal sends Ctrl-C to the whole group; the worker decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # The control socket tells of the worker's end as well, but not to an app that is busy loading.
    die_with_parent()
    process = JobProcess()
    try:
        _load_code()
        before = _threads()
        options.prewarm_fnc(process)
    except (Exception, SystemExit) as error:
        from .speech.protocols import ProviderError

        if isinstance(error, ProviderError):  # it says in a sentence what is missing on this machine
            text = str(error)
        else:
            print(users_traceback(error), file=sys.stderr, flush=True)
            text = f"prewarm_fnc failed: {type(error).__name__}: {error}"
        _tell(control, {"op": "error", "text": text})
        return
    if (started := _threads() - before) > 0:
        logger.warning("prewarm_fnc left %d thread(s) running; job processes will not have them", started)
    # Objects made so far are never freed in the children: keep the collector from touching (and so copying) their pages.
    gc.collect()
    gc.freeze()
    _tell(control, {"op": "warm"})
    # From here on the control socket is listened to, and somebody has to see the jobs' end when the worker is gone.
    outlive_parent()

    children: dict[int, tuple[int, int]] = {}  # pidfd -> (id, pid)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd in children:
                child, pid = children.pop(fd)
                poll.unregister(fd)
                os.close(fd)
                _, status = os.waitpid(pid, 0)
                _tell(control, {"op": "exit", "id": child, "status": status})
                continue
            try:
                data, descriptors, _, _ = socket.recv_fds(control, DATAGRAM, 1)
            except ConnectionError:  # it went without reading what was told last
                data = b""
            if not data:
                _await_end(children, job_limit)
                return
            child = json.loads(data)["id"]
            pid = os.fork()
            if pid == 0:
                control.close()
                for other in children:
                    os.close(other)
                _run_job(descriptors[0], options, process, job_main)
            os.close(descriptors[0])
            pidfd = os.pidfd_open(pid)
            children[pidfd] = (child, pid)
            poll.register(pidfd, select.POLLIN)
            _tell(control, {"op": "forked", "id": child, "pid": pid}, pidfd)


def _await_end(children: dict[int, tuple[int, int]], seconds: float) -> None:
    """The worker is gone. Job processes notice it by their own channels, but for one whose code keeps all of Python from
    running: it is killed in the end."""
    deadline = time.monotonic() + seconds
    while children and (left := deadline - time.monotonic()) > 0:
        for pidfd in select.select(list(children), (), (), left)[0]:
            os.waitpid(children.pop(pidfd)[1], 0)
    for pidfd in children:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def _load_code() -> None:
    """Import what every job needs, so that its pages are shared. Nothing here opens a connection."""
    # A pool of linear-algebra threads would not survive the fork, and audio frames are too small to gain from one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for name in (
        "aiohttp",
        "google.protobuf",
        "livekit.protocol.rtc",
        "numpy",
        "uvloop",
        "greenroom.rtc",
        "greenroom._native",
    ):
        importlib.import_module(name)


def _run_job(descriptor: int, options: WorkerOptions, process: JobProcess, job_main: Callable[..., int]) -> NoReturn:
    code = 1
    try:
        code = job_main(socket.socket(fileno=descriptor), options, process)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _tell(control: socket.socket, message: dict[str, object], *descriptors: int) -> None:
    try:
        socket.send_fds(control, [json.dumps(message).encode()], descriptors)
    except (BrokenPipeError, ConnectionResetError):
        logger.debug("the worker is gone")

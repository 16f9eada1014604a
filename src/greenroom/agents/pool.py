"""Job processes: a few forked ahead of need, each used for one job, every end explained."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable

from livekit.protocol import agent

from greenroom.tasks import Tasks

from . import job_main, warm
from .ipc import Channel
from .job import RunningJob
from .options import WorkerOptions

logger = logging.getLogger("greenroom.agents")

PING_INTERVAL = 2.5
"""Seconds between questions to a running job."""
PING_TIMEOUT = 60.0
"""Seconds without an answer after which a job's process is killed."""
REFILL_DELAY = 1.0
"""Seconds after a job's start at the latest, until a process is made in place of the one it took."""
EXIT_TIMEOUT = 5.0
"""Seconds between SIGKILL and the news of the end."""
STATUS_TIMEOUT = 1.0
"""Seconds the warm image has to tell how a process ended, once it is known that it did."""
IMAGE_EXIT_TIMEOUT = 2.0
"""Seconds the warm image has to end by itself."""

JobEnded = Callable[["JobHandle", "agent.JobStatus", str], None]
"""Called once per job: the handle, `agent.JobStatus`, the error's text."""
JobRaised = Callable[["JobHandle", str], None]
"""Called once at most: something of the app's raised, and the job goes on."""


class JobHandle:
    """One job process, idle or running."""

    def __init__(self, number: int, channel: Channel) -> None:
        self.number = number
        self.channel = channel
        self.pid = 0
        self.pidfd = -1
        """Readable once the process has ended, whoever its parent is."""
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The wait status, which only the warm image can know."""
        self.running: RunningJob | None = None
        self.ready = asyncio.Event()
        self.connected = asyncio.Event()
        self.exited = asyncio.Event()
        self.result: tuple[agent.JobStatus, str] | None = None
        self.killed_because = ""
        self.last_pong = time.monotonic()

    def kill(self, because: str) -> None:
        """SIGKILL. The reason becomes the job's error."""
        if self.exited.is_set() or self.pidfd < 0:
            return
        self.killed_because = self.killed_because or because
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


class PoolError(RuntimeError):
    """The warm image could not be made, or is gone."""


class ProcessPool:
    """Keeps `num_idle_processes` warm processes and turns one into a job on request."""

    def __init__(self, options: WorkerOptions, on_ended: JobEnded, on_raised: JobRaised) -> None:
        self._options = options
        self._on_ended = on_ended
        self._on_raised = on_raised
        self._image_pid, self._control = warm.start(
            options, job_main.main, job_main.limit_without_worker(options) + IMAGE_EXIT_TIMEOUT
        )
        self._control.setblocking(False)
        self._numbers = 0
        self._handles: dict[int, JobHandle] = {}
        self._idle: deque[JobHandle] = deque()
        self._tasks = Tasks(logger)
        self._warm: asyncio.Future[None] | None = None
        self._refilling = asyncio.Lock()
        self._closing = False
        self.failed: asyncio.Event = asyncio.Event()

    async def start(self) -> None:
        """Wait for the warm image. PoolError when `prewarm_fnc` fails or takes too long."""
        loop = asyncio.get_running_loop()
        self._warm = loop.create_future()
        loop.add_reader(self._control, self._on_control)
        try:
            await asyncio.wait_for(asyncio.shield(self._warm), self._options.initialize_process_timeout)
        except TimeoutError:
            raise PoolError(
                f"prewarm_fnc took longer than {self._options.initialize_process_timeout:g} s (initialize_process_timeout)"
            ) from None
        await self._refill()

    @property
    def jobs(self) -> list[JobHandle]:
        """The processes that run a job."""
        return [handle for handle in self._handles.values() if handle.running is not None]

    async def launch(self, running: RunningJob) -> JobHandle:
        """Give the job to a warm process; fork one when none is left. PoolError when that fails."""
        handle = None
        while self._idle and handle is None:
            candidate = self._idle.popleft()
            handle = None if candidate.exited.is_set() else candidate
        if handle is None:
            handle = await self._fork()
        handle.running = running
        handle.last_pong = time.monotonic()
        handle.channel.send(job_main.encode_job(running))
        self._tasks.start(self._watch(handle), f"watch job {running.job.id}")
        self._tasks.start(self._replace(handle), "refill")
        return handle

    async def terminate(self, handle: JobHandle, reason: str) -> None:
        """Ask a job to end; kill its process when it does not within `shutdown_process_timeout`."""
        handle.channel.send({"op": "shutdown", "reason": reason})
        # The job's own close runs within the same time, so leave room for it and for the process to exit.
        running = handle.running is not None
        limit = self._options.shutdown_process_timeout + 2 * job_main.ENTRYPOINT_GRACE if running else EXIT_TIMEOUT
        if await _happens(handle.exited, limit):
            return
        handle.kill(f"did not end within {limit:g} s of being asked to ({reason})")
        if not await _happens(handle.exited, EXIT_TIMEOUT):
            logger.error("process %d does not even end when killed", handle.pid)
            self._finish(handle, None)

    async def close(self) -> None:
        """End every process. Twice is fine."""
        if self._closing:
            return
        self._closing = True
        await asyncio.gather(*(self.terminate(handle, "the worker stops") for handle in list(self._handles.values())))
        self._tasks.cancel()
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        # It ends by itself when its control socket closes, unless the app's code holds it up while loading.
        await asyncio.to_thread(self._reap_image)

    def _reap_image(self) -> None:
        pidfd = os.pidfd_open(self._image_pid)  # our own child, not reaped yet: the number is still its
        try:
            if not select.select((pidfd,), (), (), IMAGE_EXIT_TIMEOUT if self._is_warm else 0.0)[0]:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                if not select.select((pidfd,), (), (), EXIT_TIMEOUT)[0]:
                    logger.error("the warm image %d does not even end when killed", self._image_pid)
                    return
            os.waitpid(self._image_pid, 0)
        finally:
            os.close(pidfd)

    @property
    def _is_warm(self) -> bool:
        return self._warm is not None and self._warm.done() and self._warm.exception() is None

    # --- inside -------------------------------------------------------------------------------------------------------
    async def _fork(self) -> JobHandle:
        if self.failed.is_set():
            raise PoolError("the warm image is gone, so no job process can be made")
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._numbers += 1
        number = self._numbers
        with theirs:
            handle = JobHandle(number, await Channel.open(mine))
            self._handles[number] = handle
            try:
                socket.send_fds(self._control, [json.dumps({"op": "fork", "id": number}).encode()], [theirs.fileno()])
            except OSError as error:  # it died this moment, or does not read
                del self._handles[number]
                handle.channel.close()
                raise PoolError(f"the warm image cannot be asked for a process: {error}") from None
        self._tasks.start(self._listen(handle), f"listen to process {number}")
        try:
            await asyncio.wait_for(handle.ready.wait(), self._options.initialize_process_timeout)
        except TimeoutError:
            handle.kill("did not get ready")
            raise PoolError("a job process did not get ready in time") from None
        if handle.exited.is_set():
            raise PoolError("a job process ended before it was ready")
        return handle

    async def _replace(self, handle: JobHandle) -> None:
        # A new process costs a tenth of a second of processor time, which the job needs now to join its room.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(handle.connected.wait(), REFILL_DELAY)
        await self._refill()

    async def _refill(self) -> None:
        async with self._refilling:  # one at a time, or two would each make the last one
            while not self._closing and len(self._idle) < self._options.num_idle_processes:
                try:
                    handle = await self._fork()
                except PoolError as error:
                    logger.error("%s", error)
                    return
                self._idle.append(handle)

    async def _listen(self, handle: JobHandle) -> None:
        while (message := await handle.channel.receive()) is not None:
            match message["op"]:
                case "ready":
                    handle.ready.set()
                case "pong":
                    handle.last_pong = time.monotonic()
                case "connected" if handle.running is not None:
                    handle.connected.set()
                    logger.debug("job %s connected in %s ms", handle.running.job.id, message["ms"])
                case "raised":
                    self._on_raised(handle, message["error"])
                case "done":
                    handle.result = (message["status"], message["error"])

    async def _watch(self, handle: JobHandle) -> None:
        while not handle.exited.is_set():
            handle.channel.send({"op": "ping", "sent": time.monotonic()})
            try:
                await asyncio.wait_for(handle.exited.wait(), PING_INTERVAL)
            except TimeoutError:
                if time.monotonic() - handle.last_pong > PING_TIMEOUT:
                    handle.kill(f"did not answer for {PING_TIMEOUT:g} s")

    def _on_control(self) -> None:
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._control, warm.DATAGRAM, 1)
            except BlockingIOError:
                return
            except ConnectionError:
                data, descriptors = b"", []
            if not data:
                self._image_gone()
                return
            message = json.loads(data)
            match message["op"]:
                case "warm":
                    self._settle(None)
                case "error":
                    self._settle(PoolError(message["text"]))
                case "forked":
                    self._forked(message["id"], message["pid"], descriptors[0])
                case "exit":
                    handle = self._handles.get(message["id"])
                    if handle is not None and not handle.status.done():
                        handle.status.set_result(message["status"])

    def _forked(self, number: int, pid: int, pidfd: int) -> None:
        handle = self._handles[number]
        handle.pid, handle.pidfd = pid, pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._process_gone, handle)

    def _process_gone(self, handle: JobHandle) -> None:
        asyncio.get_running_loop().remove_reader(handle.pidfd)
        self._tasks.start(self._exited(handle), "process exit")

    async def _exited(self, handle: JobHandle) -> None:
        # What the process said last may still be in its channel.
        for task in [task for task in self._tasks if task.get_name() == f"listen to process {handle.number}"]:
            await asyncio.wait((task,), timeout=STATUS_TIMEOUT)
        if not self.failed.is_set():
            image = asyncio.ensure_future(self.failed.wait())
            await asyncio.wait((handle.status, image), timeout=STATUS_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            image.cancel()
        self._finish(handle, handle.status.result() if handle.status.done() else None)

    def _finish(self, handle: JobHandle, status: int | None) -> None:
        if self._handles.pop(handle.number, None) is None:
            return
        handle.channel.close()
        if handle.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(handle.pidfd)
            os.close(handle.pidfd)
            handle.pidfd = -1
        handle.exited.set()
        handle.ready.set()
        if handle in self._idle:
            self._idle.remove(handle)
            if not self._closing:
                logger.error("an idle job process %s", _describe(status))
        if handle.running is not None:
            job_status, error = handle.result or (agent.JS_FAILED, "")
            if handle.result is None:
                error = f"the job process {handle.killed_because or _describe(status)}"
            self._on_ended(handle, job_status, error)

    def _image_gone(self) -> None:
        asyncio.get_running_loop().remove_reader(self._control)
        self._settle(PoolError("the process that loads the app ended before it was ready"))
        self.failed.set()
        for handle in [handle for handle in self._handles.values() if handle.pidfd < 0]:
            self._finish(handle, None)  # asked for, and never made
        if not self._closing:
            logger.error("the warm image is gone; running jobs go on, new ones cannot start")

    def _settle(self, error: PoolError | None) -> None:
        if self._warm is not None and not self._warm.done():
            self._warm.set_exception(error) if error else self._warm.set_result(None)


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _describe(status: int | None) -> str:
    """A wait status in words."""
    if status is None:
        return "ended without a result"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"was killed by {signal.Signals(number).name}"
    return f"exited with code {os.WEXITSTATUS(status)} without a result"

"""A worker: registers at a LiveKit-compatible server, answers offers, runs each job in a process of its own.

Protocol: WebSocket `/agent`, `livekit.WorkerMessage` and `livekit.ServerMessage` in binary frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
from collections.abc import Sequence
from typing import cast
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from livekit.protocol import agent, models

from greenroom.api import AccessToken, VideoGrants
from greenroom.processes import tell_ready
from greenroom.tasks import Tasks

from .job import JobRequest, RunningJob
from .load import ProcessorLoad
from .options import WorkerOptions
from .pool import JobHandle, PoolError, ProcessPool
from .reports import Reports
from .tracebacks import users_traceback

logger = logging.getLogger("greenroom.agents")

ASSIGNMENT_TIMEOUT = 7.5
STATUS_INTERVAL = 2.5
LOAD_INTERVAL = 0.5
ANSWER_TIMEOUT = 5.0
"""Seconds `request_fnc` has to answer an offer; the server itself waits 10."""
STOP_PATIENCE = 0.7
"""Seconds of stopping after which is said what is waited for."""
LAST_WORD = 2.0
"""Seconds the server has at the end to confirm the last states."""


class WorkerError(RuntimeError):
    """The worker cannot serve: wrong keys, no server, no warm image."""


class Worker:
    """One worker. `run()` serves until `drain()` or `close()`; construct it before the event loop starts."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._pool = ProcessPool(options, self._job_ended, self._job_raised)
        self._load = ProcessorLoad()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._assignments: dict[str, asyncio.Future[agent.JobAssignment]] = {}
        self._handles: dict[str, JobHandle] = {}
        self._launching: dict[str, str] = {}
        """Jobs that were assigned and have no process yet, and why they were terminated meanwhile, if so."""
        self._reports = Reports()
        self._closing = False
        self._tasks = Tasks(logger)
        self._draining = False
        self._changed = asyncio.Event()
        """A job ended, or an offer was settled."""
        self._stopped = asyncio.Event()
        self._reserved = 0
        self._level = logging.INFO
        """Of the words about its own life; lower when whoever started it finds words of its own."""
        self.registered = asyncio.Event()
        self.worker_id = ""

    @property
    def active_jobs(self) -> int:
        return len(self._pool.jobs)

    async def run(self) -> None:
        """Serve until closed. Raises WorkerError with a sentence that says what to do."""
        try:
            await self._pool.start()
        except PoolError as error:
            await self._pool.close()
            raise WorkerError(str(error)) from None
        samples = asyncio.create_task(self._sample_load(), name="load")
        failed = asyncio.create_task(self._pool.failed.wait(), name="warm image")
        serve = asyncio.create_task(self._serve(), name="serve")
        stopped = asyncio.create_task(self._stopped.wait(), name="stopped")
        try:
            await asyncio.wait((serve, stopped, failed), return_when=asyncio.FIRST_COMPLETED)
            if failed.done() and not self._stopped.is_set():
                await self.drain(self._options.drain_timeout)
                raise WorkerError("the process that holds the app's code is gone; start the worker again")
            if serve.done():
                serve.result()
        finally:
            for task in (samples, failed, stopped, serve):
                task.cancel()
            await asyncio.gather(samples, failed, stopped, serve, return_exceptions=True)
            await self._tasks.aclose()
            await self._pool.close()

    async def drain(self, timeout: float) -> None:
        """Take no more jobs, wait for the running ones, then stop. After `timeout` seconds they are ended."""
        self._draining = True
        await self._send_status()
        await self._jobs_end(timeout)
        await self.close()

    async def _jobs_end(self, timeout: float) -> None:
        if self._handles:
            self._say_waited_for()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                # An offer that was accepted before the drain may still become a job.
                while self._handles or self._reserved:
                    self._changed.clear()
                    await self._changed.wait()

    async def close(self) -> None:
        """Stop now. Running jobs are asked to end. Twice is fine."""
        self._draining = True
        await self._send_status()
        # Their last states have to reach the server before the socket closes.
        ends = [self._pool.terminate(handle, "the worker stops") for handle in list(self._handles.values())]
        ended = asyncio.gather(*ends, return_exceptions=True)
        await asyncio.wait((ended,), timeout=STOP_PATIENCE)
        if self._handles:
            self._say_waited_for()
        await ended
        self._closing = True
        await self._flush()
        if self._socket is not None and not self._socket.closed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._reports.confirmed.wait(), LAST_WORD)
            await self._socket.close()
        self._stopped.set()

    def _say_waited_for(self) -> None:
        jobs = [handle.running.job for handle in self._handles.values() if handle.running is not None]
        logger.log(
            self._level,
            "waiting for %s to end; a second Ctrl-C or SIGTERM does not wait",
            ", ".join(f"the job {job.id} in room {job.room.name}" for job in jobs),
        )

    # --- the connection -----------------------------------------------------------------------------------------------
    async def _serve(self) -> None:
        retries = 0
        async with aiohttp.ClientSession() as http:
            while not self._stopped.is_set():
                try:
                    async with http.ws_connect(
                        _agent_url(self._options.ws_url),
                        headers={"Authorization": f"Bearer {self._token()}"},
                        heartbeat=30.0,
                        autoping=True,
                        max_msg_size=4 * 1024 * 1024,
                    ) as socket:
                        await self._register(socket)
                        retries = 0
                        await self._receive(socket)
                except aiohttp.WSServerHandshakeError as error:
                    if error.status == 401:
                        raise WorkerError(
                            f"{self._options.ws_url} refused the worker's key (401). Check LIVEKIT_API_KEY and LIVEKIT_API_SECRET."
                        ) from None
                    reason = f"HTTP {error.status}"
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    reason = str(error) or type(error).__name__
                    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
                        reason = os.strerror(error.os_error.errno)
                else:
                    reason = "the connection closed"
                self._socket = None
                self.registered.clear()
                if self._closing:
                    return
                retries += 1
                if retries > self._options.max_retry:
                    raise WorkerError(
                        f"no server at {self._options.ws_url}: {reason}. Gave up after {retries - 1} tries."
                    )
                # The first tries come quickly: the server gives jobs away whose worker stays away for seconds.
                delay = 0.0 if retries == 1 else min(0.25 * 2 ** (retries - 2), 10.0)
                soon = f"in {delay:g} s" if delay else "at once"
                logger.warning("not connected to %s (%s); next try %s", self._options.ws_url, reason, soon)
                await asyncio.sleep(delay)

    def _token(self) -> str:
        grants = VideoGrants(agent=True)
        return AccessToken(self._options.api_key, self._options.api_secret).with_grants(grants).to_jwt()

    async def _register(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        allowed = self._options.permissions
        request = agent.RegisterWorkerRequest(
            type=cast("agent.JobType", int(self._options.worker_type)),
            agent_name=self._options.agent_name,
            version=_version(),
            allowed_permissions=models.ParticipantPermission(
                can_publish=allowed.can_publish,
                can_subscribe=allowed.can_subscribe,
                can_publish_data=allowed.can_publish_data,
                can_update_metadata=allowed.can_update_metadata,
                can_publish_sources=cast("Sequence[models.TrackSource]", allowed.can_publish_sources),
                hidden=allowed.hidden,
                agent=True,
            ),
        )
        await socket.send_bytes(agent.WorkerMessage(register=request).SerializeToString())
        answer = await socket.receive(timeout=10.0)
        if answer.type is not aiohttp.WSMsgType.BINARY:
            raise aiohttp.ClientError("the server closed the connection instead of answering the registration")
        message = agent.ServerMessage.FromString(answer.data)
        if message.WhichOneof("message") != "register":
            raise aiohttp.ClientError("the server did not answer the registration")
        self.worker_id = message.register.worker_id
        self._reports.send_again()
        self._socket = socket
        # Before anything else: what this worker still has is nobody else's, and reports count from the job's worker only.
        if kept := list(dict.fromkeys((*self._launching, *self._handles, *self._reports.jobs))):
            await self._send(agent.WorkerMessage(migrate_job=agent.MigrateJobRequest(job_ids=kept)))
        await self._send_status()
        await self._flush()
        self.registered.set()
        if tell_ready(self.worker_id):
            self._level = logging.DEBUG
        logger.log(
            self._level,
            "registered as %s at %s%s",
            self.worker_id,
            self._options.ws_url,
            f' for agent "{self._options.agent_name}"' if self._options.agent_name else "",
        )

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        status = asyncio.create_task(self._push_status(), name="status")
        try:
            async for frame in socket:
                if frame.type is not aiohttp.WSMsgType.BINARY:
                    continue
                message = agent.ServerMessage.FromString(frame.data)
                match message.WhichOneof("message"):
                    case "availability":
                        self._tasks.start(self._consider(message.availability), f"offer {message.availability.job.id}")
                    case "assignment":
                        waiting = self._assignments.get(message.assignment.job.id)
                        if waiting is not None and not waiting.done():
                            self._launching[message.assignment.job.id] = ""
                            waiting.set_result(message.assignment)
                    case "termination":
                        self._terminate(message.termination.job_id, "ended by the server")
                    case "pong":
                        self._reports.confirm(message.pong.last_timestamp)
        finally:
            status.cancel()

    # --- jobs ---------------------------------------------------------------------------------------------------------
    def _terminate(self, job_id: str, reason: str) -> None:
        if job_id in self._launching:
            self._launching[job_id] = reason
        elif (handle := self._handles.get(job_id)) is not None:
            self._tasks.start(self._pool.terminate(handle, reason), f"terminate {job_id}")

    async def _consider(self, offer: agent.AvailabilityRequest) -> None:
        job = offer.job
        request = JobRequest(job)
        if not self._available():
            await self._send(
                agent.WorkerMessage(availability=agent.AvailabilityResponse(job_id=job.id, available=False))
            )
            return
        self._reserved += 1
        try:
            try:
                await asyncio.wait_for(self._request(request), ANSWER_TIMEOUT)
            except Exception as error:
                logger.error("request_fnc failed; the job %s is refused:\n%s", job.id, users_traceback(error))
            accepted = request.answer
            if accepted is None:
                refusal = agent.AvailabilityResponse(job_id=job.id, available=False, terminate=request.terminate)
                await self._send(agent.WorkerMessage(availability=refusal))
                return
            assignment: asyncio.Future[agent.JobAssignment] = asyncio.get_running_loop().create_future()
            self._assignments[job.id] = assignment
            yes = agent.AvailabilityResponse(
                job_id=job.id,
                available=True,
                participant_name=accepted.name,
                participant_identity=accepted.identity,
                participant_metadata=accepted.metadata,
                participant_attributes={**accepted.attributes, "lk.agent.name": self._options.agent_name},
            )
            await self._send(agent.WorkerMessage(availability=yes))
            try:
                assigned = await asyncio.wait_for(assignment, ASSIGNMENT_TIMEOUT)
            except TimeoutError:
                logger.warning("the job %s was accepted but not assigned within %g s", job.id, ASSIGNMENT_TIMEOUT)
                return
            finally:
                self._assignments.pop(job.id, None)
            await self._launch(
                RunningJob(
                    job=assigned.job,
                    url=assigned.url or self._options.ws_url,
                    token=assigned.token,
                    worker_id=self.worker_id,
                    accepted=accepted,
                    api_key=self._options.api_key,
                    api_secret=self._options.api_secret,
                )
            )
        finally:
            self._launching.pop(job.id, None)
            self._reserved -= 1
            self._changed.set()

    async def _request(self, request: JobRequest) -> None:
        try:
            await self._options.request_fnc(request)
        except SystemExit as error:  # it would take the worker along, and with it the jobs of others
            request.answer = None
            logger.error("request_fnc failed; the job %s is refused:\n%s", request.id, users_traceback(error))

    async def _launch(self, running: RunningJob) -> None:
        job_id = running.job.id
        try:
            handle = await self._pool.launch(running)
        except PoolError as error:
            await self._report(job_id, agent.JS_FAILED, str(error))
            return
        if handle.exited.is_set():
            return  # it is over and reported already
        self._handles[job_id] = handle
        reason = self._launching.pop(job_id, "")
        logger.info("job %s in room %s runs in process %d", job_id, running.job.room.name, handle.pid)
        await self._report(job_id, agent.JS_RUNNING, "")
        if reason:
            self._terminate(job_id, reason)

    def _job_ended(self, handle: JobHandle, status: agent.JobStatus, error: str) -> None:
        assert handle.running is not None
        job_id = handle.running.job.id
        self._handles.pop(job_id, None)
        self._changed.set()
        if status != agent.JS_FAILED:
            logger.info("job %s ended", job_id)
        elif handle.result is None:
            logger.error("job %s failed: %s", job_id, error)
        else:
            logger.debug("job %s failed: %s", job_id, error)  # its process has said so, with the traceback
        self._reports.add(job_id, status, error)
        self._tasks.start(self._flush(), f"report {job_id}")

    def _job_raised(self, handle: JobHandle, error: str) -> None:
        assert handle.running is not None
        self._tasks.start(self._report(handle.running.job.id, agent.JS_RUNNING, error), "report an error")

    async def _report(self, job_id: str, status: agent.JobStatus, error: str) -> None:
        self._reports.add(job_id, status, error)
        await self._flush()

    # --- load and status ----------------------------------------------------------------------------------------------
    def _available(self) -> bool:
        return not self._draining and not self._pool.failed.is_set() and self.load < self._options.load_threshold

    @property
    def load(self) -> float:
        """0..1, as `load_fnc` says; else the use of the processors. Accepted jobs that have not begun count a little."""
        if self._options.load_fnc is None:
            return self._load.value + 0.05 * self._reserved
        takes_worker = len(inspect.signature(self._options.load_fnc).parameters) > 0
        try:
            return float(self._options.load_fnc(self) if takes_worker else self._options.load_fnc())
        except (Exception, SystemExit) as error:
            # A worker that cannot tell how busy it is must not be given more, and must not vanish either.
            logger.error("load_fnc failed; the worker counts as full:\n%s", users_traceback(error))
            return 1.0

    async def _sample_load(self) -> None:
        while True:
            self._load.sample()
            await asyncio.sleep(LOAD_INTERVAL)

    async def _push_status(self) -> None:
        while True:
            await asyncio.sleep(STATUS_INTERVAL)
            await self._send_status()

    async def _send_status(self) -> None:
        status = agent.WS_AVAILABLE if self._available() else agent.WS_FULL
        update = agent.UpdateWorkerStatus(status=status, load=self.load, job_count=self.active_jobs)
        await self._send(agent.WorkerMessage(update_worker=update))

    async def _send(self, message: agent.WorkerMessage) -> None:
        """To the server, or nowhere: what must not be lost goes through the outbox."""
        if self._socket is not None and not self._socket.closed:
            try:
                await self._socket.send_bytes(message.SerializeToString())
            except (ConnectionError, aiohttp.ClientError) as error:
                logger.debug("not sent: %s", error)

    async def _flush(self) -> None:
        """Send the states that the server has not seen, and ask it to confirm them."""
        sent = False
        while self._socket is not None and not self._socket.closed and (message := self._reports.next()):
            sent = True
            await self._send(message)
        if sent:
            await self._send(agent.WorkerMessage(ping=agent.WorkerPing(timestamp=self._reports.mark())))


def _agent_url(url: str) -> str:
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/agent", "", ""))


def _version() -> str:
    from greenroom import __version__

    return __version__

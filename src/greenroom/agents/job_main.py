"""The job process: wait for a job, run its entrypoint, tell the truth about how it ended, exit.

One process serves one job. Messages from the worker: start, shutdown, ping. To the worker: ready, connected, pong, done.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import signal
import socket
import time
import traceback
from typing import Any

from livekit.protocol import agent

from .ipc import Channel, Message
from .job import JobAcceptArguments, JobContext, JobProcess, RunningJob
from .options import WorkerOptions

logger = logging.getLogger("greenroom.agents")

ENTRYPOINT_GRACE = 5.0
"""Seconds an entrypoint may go on after its job has ended, before it is cancelled."""


def encode_job(running: RunningJob) -> Message:
    """The `start` message for a job."""
    accepted = running.accepted
    return {
        "op": "start",
        "job": base64.b64encode(running.job.SerializeToString()).decode(),
        "url": running.url,
        "token": running.token,
        "worker_id": running.worker_id,
        "api_key": running.api_key,
        "api_secret": running.api_secret,
        "accepted": [accepted.name, accepted.identity, accepted.metadata, accepted.attributes],
    }


def decode_job(message: Message) -> RunningJob:
    """The inverse of `encode_job`."""
    return RunningJob(
        job=agent.Job.FromString(base64.b64decode(message["job"])),
        url=message["url"],
        token=message["token"],
        worker_id=message["worker_id"],
        accepted=JobAcceptArguments(*message["accepted"]),
        api_key=message["api_key"],
        api_secret=message["api_secret"],
    )


def main(sock: socket.socket, options: WorkerOptions, process: JobProcess) -> int:
    """Run in the forked process. Returns its exit code: 0 unless the process itself is broken."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        runner.run(_serve(sock, options, process))
    return 0


async def _serve(sock: socket.socket, options: WorkerOptions, process: JobProcess) -> None:
    from greenroom import rtc
    from greenroom.rtc.engine import get_engine

    channel = await Channel.open(sock)
    # Made while the process idles, so that a job finds its media threads and certificate there.
    get_engine()
    room = rtc.Room()
    channel.send({"op": "ready"})
    job: asyncio.Task[None] | None = None
    context: list[JobContext] = []
    try:
        while (message := await _next(channel, job)) is not None:
            match message["op"]:
                case "start":
                    job = asyncio.create_task(
                        _run(channel, options, process, room, decode_job(message), context), name="job"
                    )
                case "shutdown":
                    if not context:
                        return
                    context[0].shutdown(message.get("reason", ""))
                case "ping":
                    channel.send({"op": "pong", "sent": message["sent"]})
    finally:
        if job is not None and not job.done():
            # The worker is gone: nobody would know about this job any more.
            if context:
                context[0].shutdown("the worker is gone")
            await asyncio.wait((job,), timeout=options.shutdown_process_timeout)
        await channel.drain()
        channel.close()


async def _next(channel: Channel, job: asyncio.Task[None] | None) -> Message | None:
    """The next message; None when the job is over or the worker is gone."""
    receive = asyncio.ensure_future(channel.receive())
    waiting = {receive} if job is None else {receive, job}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if receive.done():
        return receive.result()
    receive.cancel()
    return None


async def _run(
    channel: Channel,
    options: WorkerOptions,
    process: JobProcess,
    room: Any,
    running: RunningJob,
    context: list[JobContext],
) -> None:
    ctx = JobContext(running, process, room)
    context.append(ctx)
    began = time.monotonic()
    room.on("connection_state_changed", lambda state: int(state) == 1 and _connected(channel, began))
    entrypoint = asyncio.create_task(_call(options, ctx), name="entrypoint")
    ended = asyncio.create_task(ctx.ended(), name="end of job")
    failure: BaseException | None = None
    try:
        await asyncio.wait((entrypoint, ended), return_when=asyncio.FIRST_COMPLETED)
        if entrypoint.done() and entrypoint.exception() is None and not ended.done() and room.isconnected():
            await ended  # the entrypoint has set things up; the job lasts as long as the room
        elif not entrypoint.done():
            await asyncio.wait((entrypoint,), timeout=ENTRYPOINT_GRACE)
        if not entrypoint.done():
            entrypoint.cancel()
            await asyncio.wait((entrypoint,), timeout=ENTRYPOINT_GRACE)
        if entrypoint.done() and not entrypoint.cancelled():
            failure = entrypoint.exception()
        reason = ended.result() if ended.done() else "the entrypoint returned"
        await ctx.close(f"{type(failure).__name__}: {failure}" if failure else reason, options.shutdown_process_timeout)
    except Exception as error:
        failure = failure or error
    finally:
        ended.cancel()
    if failure is None:
        channel.send({"op": "done", "status": agent.JS_SUCCESS, "error": ""})
    else:
        logger.error("job %s failed", running.job.id, exc_info=failure)
        text = "".join(traceback.format_exception_only(failure)).strip()
        channel.send({"op": "done", "status": agent.JS_FAILED, "error": text})


async def _call(options: WorkerOptions, ctx: JobContext) -> None:
    await options.entrypoint_fnc(ctx)


def _connected(channel: Channel, began: float) -> None:
    channel.send({"op": "connected", "ms": round((time.monotonic() - began) * 1000, 1)})

"""The job process: wait for a job, run its entrypoint, tell the truth about how it ended, exit.

One process serves one job. Messages from the worker: start, shutdown, ping. To the worker: ready, connected, raised, pong, done.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable

from livekit.protocol import agent

from .current import serve
from .ipc import Channel, Message
from .job import JobAcceptArguments, JobContext, JobProcess, RunningJob
from .options import WorkerOptions
from .tracebacks import failure_in_full, failure_in_words

logger = logging.getLogger("greenroom.agents")

ENTRYPOINT_GRACE = 5.0
"""Seconds an entrypoint may go on after somebody asked the job to end, and seconds it has to obey being cancelled.

A job that ends by itself (the call is over, the agent left or was sent away, `ctx.shutdown()`) may work on for
`shutdown_process_timeout`."""
HELD_UP = 1.5
"""Seconds without a turn of the event loop after which a job whose worker is gone is not waited for."""


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


def limit_without_worker(options: WorkerOptions) -> float:
    """Seconds a job process has to end after its worker is gone."""
    return 2 * (options.shutdown_process_timeout + ENTRYPOINT_GRACE)


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
        watch = (os.dup(sock.fileno()), runner.get_loop(), limit_without_worker(options))
        threading.Thread(target=_end_without_worker, args=watch, daemon=True).start()
        jobs: list[JobContext] = []
        serving = runner.get_loop().create_task(_serve(sock, options, process, jobs.append), name="job process")
        while not serving.done():
            try:
                runner.get_loop().run_until_complete(serving)
            except SystemExit as error:
                # From a handler or a task of the app, it took the event loop along. What asked for it by name says so first.
                for job in jobs:
                    runner.get_loop().call_soon(job.raised, "the app", error)
    return 0


def _end_without_worker(descriptor: int, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    """A job whose worker is gone ends by itself; here, when its code holds up the event loop or takes longer than that."""
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    poll.poll()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        turned = threading.Event()
        try:
            loop.call_soon_threadsafe(turned.set)
        except RuntimeError:
            logger.debug("the loop is closed: what is left of the process takes no time")
        if not turned.wait(HELD_UP):
            break
        time.sleep(HELD_UP / 10)
    os._exit(1)


async def _serve(
    sock: socket.socket, options: WorkerOptions, process: JobProcess, on_job: Callable[[JobContext], None]
) -> None:
    from greenroom import rtc
    from greenroom.rtc.engine import get_engine
    from greenroom.rtc.event_emitter import report_handlers

    channel = await Channel.open(sock)
    # Made while the process idles, so that a job finds its media threads and certificate there.
    get_engine()
    room = rtc.Room()
    channel.send({"op": "ready"})
    job: asyncio.Task[None] | None = None
    context: JobContext | None = None
    asked = asyncio.Event()
    try:
        while (message := await _next(channel, job)) is not None:
            match message["op"]:
                case "start":
                    context = JobContext(decode_job(message), process, room, _tell_raised(channel))
                    on_job(context)
                    serve(context)
                    report_handlers(context.raised)
                    job = asyncio.create_task(_run(channel, options, context, asked), name="job")
                case "shutdown":
                    if context is None:
                        return
                    asked.set()
                    context.shutdown(message.get("reason", ""))
                case "ping":
                    channel.send({"op": "pong", "sent": message["sent"]})
    finally:
        if job is not None and not job.done():
            # The worker is gone: nobody would know about this job any more.
            asked.set()
            if context is not None:
                context.shutdown("the worker is gone")
            await asyncio.wait((job,), timeout=options.shutdown_process_timeout + 2 * ENTRYPOINT_GRACE)
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


async def _run(channel: Channel, options: WorkerOptions, ctx: JobContext, asked: asyncio.Event) -> None:
    """`asked`: somebody outside wants the job to end."""
    room = ctx.room
    began = time.monotonic()
    room.on("connection_state_changed", lambda state: _connected(channel, began) if int(state) == 1 else None)
    entrypoint = asyncio.create_task(_call(options, ctx), name="entrypoint")
    ended = asyncio.create_task(ctx.ended(), name="end of job")
    failure: BaseException | None = None
    try:
        await asyncio.wait((entrypoint, ended), return_when=asyncio.FIRST_COMPLETED)
        if entrypoint.done() and _failure(entrypoint) is None and not ended.done() and room.isconnected():
            await ended  # the entrypoint has set things up; the job lasts as long as the room
        overran = not entrypoint.done() and not await _finish(entrypoint, asked, options.shutdown_process_timeout)
        failure = None if overran else ctx.failure or _failure(entrypoint)
        reason = ended.result() if ended.done() else "the entrypoint returned"
        await ctx.close(failure_in_words(failure) if failure else reason, options.shutdown_process_timeout)
    except Exception as error:
        failure = failure or error
    finally:
        ended.cancel()
    if failure is None:
        channel.send({"op": "done", "status": agent.JS_SUCCESS, "error": ""})
    else:
        logger.error("job %s failed:%s", ctx.job.id, failure_in_full(failure))
        channel.send({"op": "done", "status": agent.JS_FAILED, "error": failure_in_words(failure)})


async def _finish(entrypoint: asyncio.Task[None], asked: asyncio.Event, seconds: float) -> bool:
    """Let the entrypoint finish its work. False when it had to be cancelled."""
    asking = asyncio.create_task(asked.wait(), name="asked to end")
    await asyncio.wait((entrypoint, asking), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    asking.cancel()
    if not entrypoint.done() and asked.is_set():
        await asyncio.wait((entrypoint,), timeout=min(seconds, ENTRYPOINT_GRACE))
    if entrypoint.done():
        return True
    entrypoint.cancel()
    await asyncio.wait((entrypoint,), timeout=ENTRYPOINT_GRACE)
    return False


def _failure(entrypoint: asyncio.Task[None]) -> BaseException | None:
    """What it ended with. A cancellation here is the app's own doing: something that it awaited had been cancelled."""
    if entrypoint.cancelled():
        return RuntimeError("the entrypoint ended with CancelledError: what it waited for was cancelled")
    return entrypoint.exception()


async def _call(options: WorkerOptions, ctx: JobContext) -> None:
    try:
        await options.entrypoint_fnc(ctx)
    except SystemExit as error:
        ctx.raised("the entrypoint", error)


def _tell_raised(channel: Channel) -> Callable[[str], None]:
    return lambda error: channel.send({"op": "raised", "error": error})


def _connected(channel: Channel, began: float) -> None:
    channel.send({"op": "connected", "ms": round((time.monotonic() - began) * 1000, 1)})

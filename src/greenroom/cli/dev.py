"""`greenroom dev`: a room server, an agent worker that reloads, and the playground, in one command."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from livekit.protocol import agent
from rich.console import Console
from watchfiles import PythonFilter, awatch

from greenroom.logs import configure_logging
from greenroom.processes import PARENT, READY_FD
from greenroom.server.app import RoomServer, StartError
from greenroom.server.config import DEV_KEY, DEV_SECRET, ConfigError, RtcConfig, ServerConfig

EXIT_FAILED, EXIT_USAGE = 1, 2
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""The last two: the terminal was closed, Ctrl-\\."""

DEFAULT_PORT = 7880

WORKER_STOP_TIMEOUT = 25.0
"""Seconds a worker has to stop before it is killed."""
STOP_PATIENCE = 0.7
"""Seconds of stopping after which is said which jobs are waited for."""
WORKER_PATIENCE = 3.0
"""The same for a worker that has none."""
HURRY_PATIENCE = 2.0
"""Seconds that the server has to close once the worker has been killed."""
SAME_PRESS = 0.2
"""Seconds within which a second signal is the first one over again: wrappers pass on what the terminal sends to all."""
WORKER_READY_TIMEOUT = 60.0
"""Seconds from its start to its registration. Models are loaded in that time."""

DEMO_LINES = (
    "How are you today?",
    "What is seven times eight?",
    "What day is it today?",
)
"""What the synthetic caller of `--demo` says."""


def dev(
    app: Annotated[Path, typer.Argument(help="The agent file.", exists=True, dir_okay=False, readable=True)],
    port: Annotated[
        int | None,
        typer.Option(help="Port of the server and the playground. Default: 7880, or a free one when it is taken."),
    ] = None,
    udp_port: Annotated[int, typer.Option(help="UDP port for media; 0 takes a free one.")] = 0,
    reload: Annotated[
        bool, typer.Option(help="Start the worker again when a Python file beside the app changes.")
    ] = True,
    say: Annotated[
        list[str] | None, typer.Option(help="Place a call that says this, and print it. Repeatable.")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Place a short spoken call first.")] = False,
    once: Annotated[
        bool, typer.Option("--once", help="Exit after the call, with its exit code: see `greenroom call`.")
    ] = False,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Record that call as WAV: the caller left, the agent right.")
    ] = None,
    log_level: Annotated[str, typer.Option(help="Of the worker: debug, info, warning or error.")] = "",
) -> None:
    """Run an agent file with a room server and the playground, on this machine only.

    The server uses the well-known development key (devkey, secret) and listens on loopback.

    Exit codes: 0 stopped as asked; 1 the app could not run, or a job failed or had to be killed as it stopped; 2 wrong
    usage; 130 (SIGTERM: 143) for a second Ctrl-C, which ends everything at once, and for one before the call of --once was over.
    """
    # Until the session listens itself, Ctrl-C ends the process without a word; nothing has been started yet.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    configure_logging("warning")  # of the server; the worker, a process of its own, writes in the same form
    lines = list(say or (DEMO_LINES if demo or once else ()))
    if record is not None and not lines:
        raise typer.BadParameter("there is no call to record; add --demo or --say", param_hint="--record")
    console = Console(highlight=False)
    if port is None:
        port = DEFAULT_PORT if _is_free(DEFAULT_PORT) else 0
        if not port:
            console.print(f"  [yellow]Port {DEFAULT_PORT} is in use by another program; taking a free one.[/]")
    level = log_level or ("warning" if lines else "info")
    try:
        session = DevSession(app, console, port=port, udp_port=udp_port, log_level=level)
        code = asyncio.run(session.run(reload=reload and not once, lines=lines, once=once, record=record))
    except (StartError, ConfigError) as error:
        Console(stderr=True, highlight=False).print(
            f"greenroom dev: {error}", style="red", markup=False, soft_wrap=True
        )
        code = EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED
    raise typer.Exit(code)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _how(code: int) -> str:
    """How a process ended, by its return code: "ended with code 3", "was killed by SIGKILL"."""
    return f"ended with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"


async def _says_ready(descriptor: int) -> str:
    """The id that a worker writes to the pipe when it is registered. Does not return when it ends without doing so."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[str] = loop.create_future()

    def read() -> None:
        loop.remove_reader(descriptor)
        if (worker_id := os.read(descriptor, 256)) and not ready.done():
            ready.set_result(worker_id.decode())

    loop.add_reader(descriptor, read)
    try:
        return await ready
    finally:
        loop.remove_reader(descriptor)


class DevSession:
    """One run of `greenroom dev`."""

    def __init__(self, app: Path, console: Console, *, port: int, udp_port: int, log_level: str) -> None:
        self._app = app
        self._console = console
        self._log_level = log_level
        self._server = RoomServer(ServerConfig.dev(port=port, rtc=RtcConfig(udp_port=udp_port)))
        self._worker: asyncio.subprocess.Process | None = None
        self._worker_id = ""
        self._changed = asyncio.Event()
        self._started = asyncio.Event()
        self._stop = asyncio.Event()
        self._signal = 0
        """The signal that ends the session, and when it came."""
        self._signal_at = 0.0
        self._hurry = 0
        """One that came while the session was ending: whatever is left is killed."""
        self._closing = False
        self._unclean = False
        """A job failed, or had to be killed, while the worker stopped; or the worker had to be killed."""

    async def run(self, *, reload: bool, lines: list[str], once: bool, record: Path | None = None) -> int:
        """Serve until interrupted (or, with `once`, until the call is over). Returns the exit code."""
        for number in STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._interrupt, number)
        # The worker beside us says it, with the traceback.
        logging.getLogger("greenroom.server.agents.jobs").setLevel(logging.CRITICAL)
        work = asyncio.create_task(
            self._work(reload=reload, lines=lines, once=once, record=record), name="greenroom dev"
        )
        stopped = asyncio.create_task(self._stop.wait(), name="stop")
        failed = asyncio.create_task(self._failed(), name="media failed")
        try:
            await asyncio.wait((work, stopped, failed), return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                code = EXIT_FAILED  # the server has said why
            elif work.done():
                code = work.result()
            else:
                code = 128 + self._signal if once else 0
        finally:
            self._closing = True
            for task in (work, stopped, failed):
                task.cancel()
            await asyncio.gather(work, stopped, failed, return_exceptions=True)
            await self._stop_worker()
            await self._server.stop()
        if self._hurry:
            return 128 + self._hurry
        return code or (EXIT_FAILED if self._unclean else 0)

    def _interrupt(self, number: int) -> None:
        now = time.monotonic()
        if not self._signal and not self._closing:
            self._signal, self._signal_at = number, now
            self._say("[dim]Stopping ...[/]")
            self._stop.set()
        elif not self._hurry and now >= self._signal_at + SAME_PRESS:
            self._hurry = number
            self._kill_worker()
            # Nothing may hold up who has asked twice.
            asyncio.get_running_loop().call_later(HURRY_PATIENCE, os._exit, 128 + number)

    async def _failed(self) -> str:
        await self._started.wait()
        return await self._server.failed()

    async def _work(self, *, reload: bool, lines: list[str], once: bool, record: Path | None) -> int:
        await self._server.start()
        self._started.set()
        # From the first moment on: a file that is mended while its failure is still being read must count.
        watch = asyncio.create_task(self._watch(), name="watch files") if reload else None
        try:
            began = time.monotonic()
            running = await self._start_worker()
            if not running and not reload:
                return EXIT_FAILED
            self._print_banner(time.monotonic() - began if running else None, reload)
            if lines and running:
                code = await self._call(lines, record)
                if once:
                    return code
                if self._worker is not None and self._worker.returncode is None:
                    self._say(f"\n[bold]Your turn:[/] open [bold]{self._server.url}[/] and talk to it. Ctrl-C stops.")
            return await self._supervise(reload)
        finally:
            if watch is not None:
                watch.cancel()

    # --- the call -----------------------------------------------------------------------------------------------------
    async def _call(self, lines: list[str], record: Path | None) -> int:
        """Place the call. It ends at once when the agent's job fails, or something in it raises."""
        from greenroom.agents.caller import AgentFailure
        from greenroom.agents.caller.jobs import failure_of
        from greenroom.cli.call import call_and_print

        room = f"demo-{os.getpid()}"
        failed: asyncio.Future[AgentFailure] = asyncio.get_running_loop().create_future()

        def job_changed(job: agent.Job) -> None:
            if job.room.name == room and (failure := failure_of(job)) is not None and not failed.done():
                failed.set_result(failure)

        def worker_ended(ended: asyncio.Task[int]) -> None:
            if not ended.cancelled() and not failed.done():
                failed.set_result(AgentFailure(f"its worker {_how(ended.result())}", ""))

        assert self._worker is not None
        ended = asyncio.create_task(self._worker.wait(), name="worker ended")
        ended.add_done_callback(worker_ended)
        self._server.dispatcher.on_job_changed = job_changed
        try:
            return await call_and_print(
                self._console,
                url=self._server.url,
                api_key=DEV_KEY,
                api_secret=DEV_SECRET,
                say=lines,
                room=room,
                agent_failed=failed,
                record=record,
            )
        finally:
            ended.cancel()
            self._server.dispatcher.on_job_changed = None

    # --- the worker ---------------------------------------------------------------------------------------------------
    async def _start_worker(self) -> bool:
        """Start it and wait until it is registered. False, with its words on the terminal, when it ends instead."""
        environment = {
            **os.environ,
            "LIVEKIT_URL": self._server.url.replace("http", "ws", 1),
            "LIVEKIT_API_KEY": DEV_KEY,
            "LIVEKIT_API_SECRET": DEV_SECRET,
            "PYTHONUNBUFFERED": "1",
            PARENT: str(os.getpid()),
        }
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        environment[READY_FD] = str(theirs)
        self._worker = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "greenroom.agents.run", str(self._app), "dev", "--log-level", self._log_level),
            env=environment,
            start_new_session=True,  # Ctrl-C is ours to pass on, once the call has been closed properly
            pass_fds=(theirs,),
        )
        os.close(theirs)
        # Told by this very process: other workers may register here as well.
        registered = asyncio.create_task(_says_ready(ours), name="worker registered")
        ended = asyncio.create_task(self._worker.wait(), name="worker ended")
        try:
            with self._console.status(f"Loading {self._app} ..."):
                await asyncio.wait(
                    (registered, ended), timeout=WORKER_READY_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
                )
            if ended.done():
                self._say(f"[red]{self._app} {_how(ended.result())} before it was ready.[/]")
                self._worker = None
                return False
            if not registered.done():
                self._say(f"[red]{self._app} was not ready within {WORKER_READY_TIMEOUT:g} s.[/]")
                await self._stop_worker()
                return False
            self._worker_id = registered.result()
            return True
        finally:
            registered.cancel()
            ended.cancel()
            await asyncio.gather(registered, ended, return_exceptions=True)
            os.close(ours)

    async def _stop_worker(self, *, replace: bool = False) -> None:
        """With `replace` its jobs are not reported as done, so that the server gives them to the worker that follows."""
        worker = self._worker
        if worker is None or worker.returncode is not None:
            self._worker = None
            return
        self._server.dispatcher.on_job_changed = self._job_ends
        ended = asyncio.create_task(worker.wait(), name="worker ended")
        try:
            if replace:
                worker.kill()  # job processes notice, leave their rooms and end
            else:
                worker.terminate()
            await asyncio.wait((ended,), timeout=STOP_PATIENCE)
            if not self._open_jobs():
                await asyncio.wait((ended,), timeout=WORKER_PATIENCE - STOP_PATIENCE)
            if not ended.done():
                self._say(f"{self._waited_for()}; Ctrl-C{' again' if self._signal else ''} ends it now.")
                await asyncio.wait((ended,), timeout=WORKER_STOP_TIMEOUT)
            if not ended.done():
                self._unclean = True
                self._kill_worker()
            await ended
            self._worker = None
        finally:
            ended.cancel()
            self._server.dispatcher.on_job_changed = None

    def _kill_worker(self) -> None:
        """With all that it has started."""
        if self._worker is not None and self._worker.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._worker.pid, signal.SIGKILL)

    def _job_ends(self, job: agent.Job) -> None:
        if job.state.worker_id == self._worker_id and job.state.status == agent.JobStatus.JS_FAILED:
            self._unclean = True

    def _open_jobs(self) -> list[agent.Job]:
        return [job for job in self._server.dispatcher.open_jobs if job.state.worker_id == self._worker_id]

    def _waited_for(self) -> str:
        jobs = self._open_jobs()
        if not jobs:
            return "Waiting for the worker to end"
        names = ", ".join(f"{job.id} in room {job.room.name}" for job in jobs[:3]) + (" ..." if len(jobs) > 3 else "")
        return (
            f"Waiting for the job {names} to end"
            if len(jobs) == 1
            else f"Waiting for {len(jobs)} jobs to end ({names})"
        )

    async def _supervise(self, reload: bool) -> int:
        """Start the worker again whenever a file changes; say so when it ends by itself. Without `reload` that is the end."""
        while True:
            changed = asyncio.create_task(self._changed.wait(), name="file changed")
            ended = asyncio.create_task(self._worker.wait(), name="worker ended") if self._worker else None
            try:
                await asyncio.wait([changed, ended] if ended else [changed], return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
                if ended is not None:
                    ended.cancel()
            if self._changed.is_set():
                self._changed.clear()
                await self._stop_worker(replace=True)
                if await self._start_worker():
                    self._console.print("[dim]ready[/]")
            elif self._worker is not None:
                again = " It starts again when a file changes." if reload else ""
                self._say(f"[red]The worker {_how(self._worker.returncode or 0)}.[/]{again}")
                self._worker = None
                if not reload:
                    return EXIT_FAILED

    async def _watch(self) -> None:
        folder = self._app.resolve().parent
        async for changes in awatch(folder, watch_filter=PythonFilter(), recursive=True):
            names = sorted({Path(path).name for _, path in changes})
            self._console.print(
                f"[dim]changed: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}; loading again[/]"
            )
            self._changed.set()

    # --- words --------------------------------------------------------------------------------------------------------
    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def _print_banner(self, seconds: float | None, reload: bool) -> None:
        """`seconds`: until the worker was ready; None when it is not."""
        url = self._server.url
        if seconds is None:
            state = "not running; waiting for a change"
        else:
            state = f"ready after {seconds:.1f} s" + ("   reloads on change" if reload else "")
        rows = [
            ("Playground", f"[bold]{url}[/]"),
            ("Server", f"{url.replace('http', 'ws', 1)}   key {DEV_KEY}   secret {DEV_SECRET}"),
            ("Agent", f"{self._app}   {state}"),
        ]
        for name, value in rows:
            self._console.print(f"  [green]{name:<11}[/] {value}", soft_wrap=True)

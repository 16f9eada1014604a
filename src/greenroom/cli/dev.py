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
from greenroom.server.config import DEV_KEY, DEV_SECRET, RtcConfig, ServerConfig

EXIT_FAILED = 1
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""The last two: the terminal was closed, Ctrl-\\."""

DEFAULT_PORT = 7880

WORKER_STOP_TIMEOUT = 25.0
"""Seconds a worker has to stop before it is killed."""
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
        bool, typer.Option("--once", help="Exit after the call: 0 when it was understood and answered.")
    ] = False,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Record that call as WAV: the caller left, the agent right.")
    ] = None,
    log_level: Annotated[str, typer.Option(help="Of the worker: debug, info, warning or error.")] = "",
) -> None:
    """Run an agent file with a room server and the playground, on this machine only.

    The server uses the well-known development key (devkey, secret) and listens on loopback.
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
    session = DevSession(
        app, console, port=port, udp_port=udp_port, log_level=log_level or ("warning" if lines else "info")
    )
    try:
        code = asyncio.run(session.run(reload=reload and not once, lines=lines, once=once, record=record))
    except StartError as error:
        Console(stderr=True, highlight=False).print(f"greenroom dev: {error}", style="red", soft_wrap=True)
        code = EXIT_FAILED
    raise typer.Exit(code)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def _says_ready(descriptor: int) -> None:
    """Returns once a worker has written to the pipe; not when it ends without doing so."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def read() -> None:
        loop.remove_reader(descriptor)
        if os.read(descriptor, 16) and not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, read)
    try:
        await ready
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
        self._changed = asyncio.Event()
        self._started = asyncio.Event()

    async def run(self, *, reload: bool, lines: list[str], once: bool, record: Path | None = None) -> int:
        """Serve until interrupted (or, with `once`, until the call is over). Returns the exit code."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            if not stop.is_set():
                self._say("[dim]Stopping ...[/]")
            stop.set()

        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, interrupt)
        # The worker beside us says it, with the traceback.
        logging.getLogger("greenroom.server.agents.jobs").setLevel(logging.CRITICAL)
        work = asyncio.create_task(
            self._work(reload=reload, lines=lines, once=once, record=record), name="greenroom dev"
        )
        stopped = asyncio.create_task(stop.wait(), name="stop")
        failed = asyncio.create_task(self._failed(), name="media failed")
        tasks = (work, stopped, failed)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                return EXIT_FAILED  # the server has said why
            if work.done():
                return work.result()
            return 0
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._stop_worker()
            await self._server.stop()

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
                self._console.print(
                    f"\n[bold]Your turn:[/] open [bold]{self._server.url}[/] and talk to it. Ctrl-C stops."
                )
            await self._supervise()
            return 0
        finally:
            if watch is not None:
                watch.cancel()

    # --- the call -----------------------------------------------------------------------------------------------------
    async def _call(self, lines: list[str], record: Path | None) -> int:
        """Place the call. It ends at once when the agent's job fails."""
        from greenroom.cli.call import call_and_print

        room = f"demo-{os.getpid()}"
        failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def job_ended(job: agent.Job) -> None:
            if job.room.name == room and job.state.status == agent.JobStatus.JS_FAILED and not failed.done():
                failed.set_result(job.state.error)

        self._server.dispatcher.on_job_ended = job_ended
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
            self._server.dispatcher.on_job_ended = None

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
                self._say(f"[red]{self._app} ended with code {ended.result()} before it was ready.[/]")
                self._worker = None
                return False
            if not registered.done():
                self._say(f"[red]{self._app} was not ready within {WORKER_READY_TIMEOUT:g} s.[/]")
                await self._stop_worker()
                return False
            return True
        finally:
            registered.cancel()
            ended.cancel()
            await asyncio.gather(registered, ended, return_exceptions=True)
            os.close(ours)

    async def _stop_worker(self, *, replace: bool = False) -> None:
        """With `replace` its jobs are not reported as done, so that the server gives them to the worker that follows."""
        worker, self._worker = self._worker, None
        if worker is None or worker.returncode is not None:
            return
        if replace:
            worker.kill()  # job processes notice, leave their rooms and end
        else:
            worker.terminate()
        try:
            await asyncio.wait_for(worker.wait(), WORKER_STOP_TIMEOUT)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            await worker.wait()

    async def _supervise(self) -> None:
        """Start the worker again whenever a file changes; say so when it ends by itself."""
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
                code = self._worker.returncode
                self._console.print(f"[red]The worker ended with code {code}.[/] It starts again when a file changes.")
                self._worker = None

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

"""`cli.run_app`: the command line of an agent file.

python app.py start                 serve jobs until stopped
python app.py dev                   the same with debug logs and without draining
greenroom dev app.py                a room server as well, and reloading
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from dataclasses import replace
from typing import NoReturn

from greenroom.logs import configure_logging

from .agent import Agent, entrypoint_of, request_handler_of
from .options import WorkerOptions
from .worker import Worker, WorkerError

__all__ = ["run_app"]

EXIT_FAILED = 1
EXIT_USAGE = 2


def options_of(app: WorkerOptions | type[Agent]) -> WorkerOptions:
    """WorkerOptions for what an app hands over: options, or an Agent class."""
    if isinstance(app, WorkerOptions):
        return app
    if isinstance(app, type) and issubclass(app, Agent):
        return WorkerOptions(
            entrypoint_fnc=entrypoint_of(app),
            request_fnc=request_handler_of(app),
            prewarm_fnc=app.prewarm,
            agent_name=app.agent_name,
        )
    raise TypeError(f"run_app takes WorkerOptions or an Agent class, not {app!r}")


def run_app(app: WorkerOptions | type[Agent]) -> NoReturn:
    """Parse the command line and serve jobs; exits the process.

    Exit codes: 0 after a clean stop, 1 when the worker could not serve, 2 for a wrong command line; 130 or 143 when a second
    Ctrl-C or SIGTERM ended it at once.
    """
    options = options_of(app)
    parser = argparse.ArgumentParser(description="Serve agent jobs for a LiveKit-compatible server.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (("start", "serve jobs; SIGTERM waits for running ones"), ("dev", "serve jobs with debug logs")):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--url", default="", help="server address (LIVEKIT_URL, default ws://localhost:7880)")
        command.add_argument("--api-key", default="", help="API key (LIVEKIT_API_KEY)")
        command.add_argument("--api-secret", default="", help="API secret (LIVEKIT_API_SECRET)")
        command.add_argument("--log-level", default="", help="debug, info, warning or error")
    # `greenroom dev` runs files as they are, without arguments of theirs.
    given = sys.argv[1:] or os.environ.get("GREENROOM_WORKER_ARGS", "").split()
    arguments = parser.parse_args(given)
    dev = arguments.command == "dev"
    try:
        configure_logging(arguments.log_level or ("debug" if dev else "info"))
    except ValueError as error:
        parser.error(f"--log-level is {error}")
    for noisy in ("asyncio", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    options = options.resolved(url=arguments.url, api_key=arguments.api_key, api_secret=arguments.api_secret)
    if dev:
        options = replace(options, load_threshold=float("inf"), num_idle_processes=min(options.num_idle_processes, 1))
    if not options.api_key or not options.api_secret:
        print(
            "No API key: set LIVEKIT_API_KEY and LIVEKIT_API_SECRET (devkey and secret for a server started with --dev).",
            file=sys.stderr,
        )
        sys.exit(EXIT_USAGE)
    sys.exit(serve(options, drain=not dev))


def serve(options: WorkerOptions, *, drain: bool) -> int:
    """Run a worker until SIGINT or SIGTERM. The second signal ends it at once. Returns the exit code."""
    worker = Worker(options)  # forks the warm image: before any thread or loop exists
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        try:
            runner.run(_serve(worker, options, drain))
        except WorkerError as error:
            print(f"greenroom worker: {error}", file=sys.stderr)
            return EXIT_FAILED
    return 0


async def _serve(worker: Worker, options: WorkerOptions, drain: bool) -> None:
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []

    def stop(number: int) -> None:
        if stopping:
            os._exit(128 + number)  # job processes notice
        stopping.append(
            asyncio.create_task(worker.drain(options.drain_timeout) if drain else worker.close(), name="stop")
        )

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    await worker.run()
    for task in stopping:
        with contextlib.suppress(asyncio.CancelledError):
            await task

"""`greenroom server`: the room server as a process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from greenroom.logs import configure_logging
from greenroom.server.config import DEV_KEY, DEV_SECRET, ConfigError, ServerConfig, load_config, parse_keys

__all__ = ["server"]

DEV_DRAIN_SECONDS = 0.0
DRAIN_SECONDS = 5.0
EXIT_MEDIA_FAILED = 3
"""The media core failed for good. A supervisor starts the server again."""
END_SECONDS = 15.0
"""How long a server whose media failed may take to end in order. Then it ends without."""

logger = logging.getLogger("greenroom.server")


def server(
    dev: Annotated[
        bool, typer.Option("--dev", help="Key 'devkey', secret 'secret', loopback only. For your own machine.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", envvar="LIVEKIT_CONFIG_FILE", help="YAML file with the keys of a LiveKit server's."),
    ] = None,
    config_body: Annotated[
        str, typer.Option("--config-body", envvar="LIVEKIT_CONFIG", help="The same YAML as text.", show_envvar=True)
    ] = "",
    bind: Annotated[list[str] | None, typer.Option("--bind", metavar="ADDR", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(envvar="LIVEKIT_PORT", help="HTTP and WebSocket port. (7880)")] = None,
    udp_port: Annotated[int | None, typer.Option(envvar="UDP_PORT", help="First UDP port for media. (7882)")] = None,
    node_ip: Annotated[str, typer.Option(envvar="NODE_IP", help="Address that clients are told for media.")] = "",
    keys: Annotated[
        str, typer.Option(envvar="LIVEKIT_KEYS", metavar='"KEY: SECRET"', help="API keys, one a line or with commas.")
    ] = "",
    key_file: Annotated[
        Path | None, typer.Option(envvar="LIVEKIT_KEY_FILE", help="File with API keys, readable by its owner only.")
    ] = None,
    region: Annotated[str, typer.Option(envvar="LIVEKIT_REGION", help="Name of the region clients are told.")] = "",
    shards: Annotated[int | None, typer.Option(help="Media threads; a room lives on one. (1)")] = None,
    drain: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="SECONDS", help="Time participants have to leave at the end. (5; with --dev 0)"),
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error. (info)")] = "",
) -> None:
    """Run the room server: rooms, media, the server API and agent dispatch, in one process.

    Stop it with Ctrl-C or SIGTERM; a second one does not wait for participants to leave.
    """
    try:
        settings = _settings(dev, config, config_body)
        _override(settings, bind=bind, port=port, udp_port=udp_port, node_ip=node_ip, shards=shards, region=region)
        if keys:
            settings.keys = parse_keys(keys)
        if key_file:
            settings.keys |= load_config(f"key_file: {json.dumps(str(key_file))}").keys
        if log_level:
            settings.logging.level = log_level
        if settings.development and not settings.keys:
            settings.keys = {DEV_KEY: DEV_SECRET}
        settings.check()
        _log_to_stderr(settings)
    except ConfigError as error:
        _fail(str(error))
    for key in settings.ignored:
        logger.warning("the configuration's %s is not used by this server", key)
    if settings.rtc.use_external_ip and not settings.rtc.node_ip:
        logger.warning("rtc.use_external_ip asks nobody here: set rtc.node_ip to the address that clients reach")
    if drain is None:
        drain = DEV_DRAIN_SECONDS if settings.development else DRAIN_SECONDS
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        code = runner.run(_serve(settings, drain))
    raise typer.Exit(code)


def _settings(dev: bool, config: Path | None, body: str) -> ServerConfig:
    if config is not None:
        try:
            settings = load_config(config.read_text(), str(config))
        except OSError as error:
            raise ConfigError(f"cannot read {config}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{config} is not text") from error
    else:
        settings = load_config(body, "LIVEKIT_CONFIG") if body else ServerConfig()
    if dev:
        settings.development = True
        settings.serve_playground = True
    return settings


def _override(
    settings: ServerConfig,
    *,
    bind: list[str] | None,
    port: int | None,
    udp_port: int | None,
    node_ip: str,
    shards: int | None,
    region: str,
) -> None:
    """Flags and environment win over the file."""
    if bind:
        settings.bind_addresses = bind
    if port is not None:
        settings.port = port
    if udp_port is not None:
        settings.rtc.udp_port = udp_port
    if node_ip:
        settings.rtc.node_ip = node_ip
    if shards is not None:
        settings.shards = shards
    if region:
        settings.region = region


async def _serve(settings: ServerConfig, drain: float) -> int:
    from greenroom.server.app import RoomServer, StartError

    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    room_server = RoomServer(settings)
    try:
        await room_server.start()
    except (StartError, ConfigError) as error:
        typer.echo(f"greenroom server: {error}", err=True)
        return 1
    try:
        typer.echo(f"Greenroom is ready at {room_server.url}")
        sys.stdout.flush()
        await _first(stop.wait(), room_server.failed())
        if drain and not room_server.failure:
            await _first(room_server.drain(drain), hurry.wait(), room_server.failed())
    finally:
        if room_server.failure:
            _end_at_last(EXIT_MEDIA_FAILED)
        await room_server.stop()
    return EXIT_MEDIA_FAILED if room_server.failure else 0


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait for one of them; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()


def _end_at_last(code: int) -> None:
    """End the process with `code` when it does not do so in order: what failed may hold on to anything."""
    timer = threading.Timer(END_SECONDS, os._exit, (code,))
    timer.daemon = True
    timer.start()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _log_to_stderr(settings: ServerConfig) -> None:
    level = settings.logging.level.lower()
    try:
        configure_logging({"warn": "warning"}.get(level, level), json_lines=settings.logging.json)
    except ValueError as error:
        raise ConfigError(f"logging.level is {error}") from error


def _fail(text: str) -> None:
    typer.echo(f"greenroom server: {text}", err=True)
    raise typer.Exit(1)

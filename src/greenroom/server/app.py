"""The room server as one object: start it, ask for its URL, stop it. The command line and tests use it alike."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
import secrets
import socket
import string
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web
from google.protobuf.json_format import ParseDict, ParseError
from livekit.protocol.room import RoomConfiguration

from . import signal
from .accounts import Accounts
from .admission import Admissions
from .agent_hub import AgentHub
from .auth import Authenticator
from .bounds import MAX_OWN_BYTES
from .config import ConfigError, ServerConfig
from .dispatch import DEV_MAX_LOSSES, MAX_LOSSES, Dispatcher
from .gate import Gate, GuardedSite, add_admission, add_gate
from .http import add_cors, add_dev_token, add_health, add_page, collapse_slashes, http_logger, page_folder
from .manager import MediaFailed, RoomManager
from .node import LocalNode
from .prometheus import Metrics, MetricsServer
from .router import LocalRouter, Router
from .rules import Rules, load_rules
from .services.dispatch_service import dispatch_rpcs
from .services.not_connected import not_connected_rpcs
from .services.room_service import room_rpcs
from .settings import RoomSettings
from .twirp import Rpc, Services, TwirpRouter
from .webhooks import Webhooks
from .workers import Workers

if TYPE_CHECKING:
    from greenroom._native import MediaServer

__all__ = ["RoomServer", "ServiceMaker", "StartError"]

logger = logging.getLogger("greenroom.server")

ServiceMaker = Callable[["RoomServer"], Mapping[str, Mapping[str, Rpc]]]

MAX_BODY = 10 * 1024 * 1024
KEEPALIVE_SECONDS = 75.0
"""A connection on which no request comes for so long is closed."""
LINE = 256 * 1024
"""Bytes of a request line or a header beside a participant's metadata and attributes: a join request travels in the query."""


class StartError(RuntimeError):
    """The server cannot start. The text is one sentence for the operator."""


class RoomServer:
    """`async with RoomServer(ServerConfig.dev(port=0)) as server: ... server.url ...`

    Everything runs on the loop that calls `start`; media runs on native threads. `stop` may be called twice.
    `media` replaces the native core and is closed with the server. `rules`: the application's own, in place of those that the
    configuration names. `services(server)` is called as it starts and returns API services (`{"Egress": {"StartEgress":
    Rpc(...)}}`), in place of its own where the name is the same; a service that needs to end does so before `stop`.
    `router` finds the nodes of rooms that live elsewhere, and is started and closed with the server; without one all rooms
    live here.

    When media fails for good, everybody is sent away, joins are refused with 503, and `failed` returns: whoever runs the
    server ends the process then. As a context manager it raises MediaFailed at its end.
    """

    def __init__(
        self,
        config: ServerConfig | None = None,
        *,
        media: MediaServer | None = None,
        rules: Rules | None = None,
        services: ServiceMaker | None = None,
        router: Router | None = None,
    ) -> None:
        self.config = config or ServerConfig.dev()
        self.config.check()
        self._services = services or (lambda _server: {})
        self._rules = rules or _rules(self.config)
        self.authenticator = Authenticator(self.config.keys)
        self.workers = Workers()
        """The agent workers that the rooms here may be given."""
        self.router: Router = router or LocalRouter()
        self.port = 0
        self._media = media
        self._runner: web.AppRunner | None = None
        self._manager: RoomManager | None = None
        self._accounts: Accounts | None = None
        self._dispatcher: Dispatcher | None = None
        self._hub: AgentHub | None = None
        self._webhooks: Webhooks | None = None
        self._metrics_server: MetricsServer | None = None
        self._draining = False

    @property
    def manager(self) -> RoomManager:
        assert self._manager is not None, "the server is not started"
        return self._manager

    @property
    def dispatcher(self) -> Dispatcher:
        assert self._dispatcher is not None, "the server is not started"
        return self._dispatcher

    @property
    def metrics_port(self) -> int:
        """0 when metrics are off."""
        return self._metrics_server.port if self._metrics_server else 0

    @property
    def url(self) -> str:
        """Where clients connect: `http://host:port`, with localhost for a server bound to all addresses or to loopback."""
        host = self.config.bind[0]
        if host in ("127.0.0.1", "0.0.0.0", "::", "::1"):
            host = "localhost" if host != "::1" else "[::1]"
        elif ":" in host:
            host = f"[{host}]"
        return f"http://{host}:{self.port}"

    @property
    def failure(self) -> str:
        """Why media failed for good, in one sentence; empty while it works."""
        return self._manager.failure if self._manager else ""

    async def failed(self) -> str:
        """Wait until media failed for good. Returns `failure`."""
        return await self.manager.failed()

    async def start(self) -> None:
        """Bind and serve. StartError when a port is taken or the configuration does not fit this machine."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        config = self.config
        settings = room_settings(config)
        self._media = self._media or _native_media(config)
        self._manager = RoomManager(settings, self._media, self.authenticator, self._rules)
        manager = self._manager
        self._accounts = Accounts(manager, manager.referee)
        gate = Gate(config.limit, config.trusted_proxies, self._manager.limited, loopback_is_free=config.development)
        self._hub = AgentHub(self.authenticator, settings.server_info(), self.workers)
        losses = DEV_MAX_LOSSES if config.development else MAX_LOSSES
        self._dispatcher = Dispatcher(self._manager, self.workers, self.authenticator, max_losses=losses)
        metrics = Metrics(self._manager, self._media, node_id=settings.node_id)
        services = Services(
            {
                "RoomService": room_rpcs(manager, config.limit),
                "AgentDispatchService": dispatch_rpcs(self._dispatcher, manager),
                **not_connected_rpcs(),
                **self._services(self),
            }
        )
        admissions = Admissions(manager, self._accounts)
        await self.router.start(LocalNode(settings.node_id, manager, self.workers, admissions, services))
        twirp = TwirpRouter(self.authenticator, services, self.router, gate.api_call)
        twirp.observe(metrics.twirp_call)
        if config.webhook.urls:
            self._webhooks = Webhooks(config.webhook, self.authenticator, self._manager)
        self._runner = web.AppRunner(
            self._app(twirp, gate),
            access_log=None,
            logger=http_logger,
            max_line_size=_line_bytes(settings),
            max_field_size=_line_bytes(settings),
            shutdown_timeout=2.0,
            keepalive_timeout=KEEPALIVE_SECONDS,
        )
        await self._runner.setup()
        self.port = await _listen(self._runner, config.bind, config.port, gate)
        if config.development and config.bind == ["127.0.0.1"]:
            await _listen_too(self._runner, "::1", self.port, gate)
        if config.prometheus.port:
            self._metrics_server = MetricsServer(metrics, config.prometheus, config.bind)
            try:
                await self._metrics_server.start()
            except OSError as error:
                raise StartError(f"cannot serve metrics on port {config.prometheus.port}: {_reason(error)}") from error
        self._manager.start()
        self._accounts.start()
        self._dispatcher.start()

    def _app(self, twirp: TwirpRouter, gate: Gate) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY)
        add_gate(app, gate)  # first, so that nothing is done for a request that is one too many
        if self.manager.referee.asks_admission:
            add_admission(app, gate, self.manager.referee)
        add_cors(app)
        page = page_folder() if self.config.serve_playground else None
        add_health(app, lambda: self.router.ready and not (self._draining or self.failure), page)
        if page:
            add_page(app, page)
        if self.config.development:
            add_dev_token(app, self.authenticator)
        signal.add_routes(app, self.router, self.authenticator, gate, lambda: self.manager.settings)
        assert self._hub is not None
        app.router.add_get("/agent", self._hub.handle)
        app.router.add_route("*", "/twirp/{service}/{method}", twirp.handle)
        collapse_slashes(app)
        return app

    async def drain(self, seconds: float) -> bool:
        """Report not ready, and wait until everybody left. False when `seconds` passed first."""
        self._draining = True
        self.router.drain()
        manager = self.manager
        gone = asyncio.Event()

        def check() -> None:
            if not any(room.participants for room in manager.rooms.values()):
                gone.set()

        def later(_event: object) -> None:
            asyncio.get_running_loop().call_soon(check)

        unsubscribe = manager.on(later)
        check()
        try:
            await asyncio.wait_for(gone.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            unsubscribe()
        return True

    async def stop(self) -> None:
        """Send everybody away, close every socket and thread."""
        self._draining = True
        self.router.drain()
        if self._dispatcher:
            await self._dispatcher.close()
        if self._manager:
            await self._manager.close()
        if self._accounts:
            self._accounts.close()
        if self._hub:
            await self._hub.close()
        if self._runner:
            await self._runner.cleanup()
        await self.router.close()
        if self._metrics_server:
            await self._metrics_server.stop()
        if self._webhooks:
            await self._webhooks.close()
        if self._media:
            self._media.close()

    async def __aenter__(self) -> RoomServer:
        await self.start()
        return self

    async def __aexit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        await self.stop()
        if self.failure and exception_type is None:
            raise MediaFailed(self.failure)


def _rules(config: ServerConfig) -> Rules:
    """Those that the configuration names. ConfigError when they cannot be loaded."""
    if not config.rules:
        return Rules()
    try:
        return load_rules(config.rules)
    except ValueError as error:
        raise ConfigError(f"rules: {error}") from error


def _line_bytes(settings: RoomSettings) -> int:
    """What a request line and a header must hold so that whoever was let in with metadata and attributes of the allowed size
    can come back: the token carries them, packed at 16/9 of their size at most, plain at up to three times."""
    return LINE + 3 * (settings.max_metadata_size + settings.max_attributes_size)


def _native_media(config: ServerConfig) -> MediaServer:
    try:
        from greenroom._native import MediaServer
    except ImportError as error:
        raise StartError("the native media core is not built: run make setup") from error
    try:
        rtc = config.rtc
        return MediaServer(
            bind=config.bind, udp_port=rtc.udp_port, shards=config.shards, audio_wait=rtc.audio_wait_ms / 1000
        )
    except OSError as error:
        raise StartError(f"cannot use UDP port {config.rtc.udp_port} for media: {_reason(error)}") from error


async def _listen(runner: web.AppRunner, hosts: list[str], port: int, gate: Gate) -> int:
    """One site an address, all on the same port. Returns the port."""
    for host in hosts:
        site = GuardedSite(runner, host, port, gate)
        try:
            await site.start()
        except OSError as error:
            raise StartError(f"cannot listen on {host} port {port}: {_reason(error)}") from error
        port = port or runner.addresses[0][1]
    return port


async def _listen_too(runner: web.AppRunner, host: str, port: int, gate: Gate) -> None:
    """`localhost` is often this address first. A machine without IPv6 does well without."""
    try:
        await GuardedSite(runner, host, port, gate).start()
    except OSError as error:
        logger.debug("not listening on %s: %s", host, error)


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "it is in use by another program"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address"
    if error.errno == errno.EACCES:
        return "permission denied"
    return error.strerror or str(error)


def room_settings(config: ServerConfig) -> RoomSettings:
    """What the signalling side needs from the configuration. ConfigError for a preset that is not a RoomConfiguration."""
    values: dict[str, Any] = {
        "auto_create": config.room.auto_create,
        "empty_timeout": config.room.empty_timeout,
        "departure_timeout": config.room.departure_timeout,
        "max_participants": config.room.max_participants,
        "top_speakers": config.room.top_speakers,
        "enable_remote_unmute": config.room.enable_remote_unmute,
        "sync_streams": config.room.sync_streams,
        "room_configurations": {name: _preset(name, raw) for name, raw in config.room_configurations.items()},
        "node_ips": _node_ips(config),
        "region": config.region,
        "node_id": "ND_" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(12)),
        "max_rooms": config.limit.max_rooms,
        "num_tracks": config.limit.num_tracks,
        "subscription_limit_audio": config.limit.subscription_limit_audio,
        "subscription_limit_video": config.limit.subscription_limit_video,
        "rates": config.limit,
        "max_room_name_length": config.limit.max_room_name_length,
        "max_metadata_size": config.limit.max_metadata_size or MAX_OWN_BYTES,
        "max_attributes_size": config.limit.max_attributes_size or MAX_OWN_BYTES,
        "max_identity_length": config.limit.max_participant_identity_length,
        "max_name_length": config.limit.max_participant_name_length,
    }
    if config.room.enabled_codecs:
        values["enabled_codecs"] = tuple(codec.mime for codec in config.room.enabled_codecs)
    return dataclasses.replace(RoomSettings(), **values)


def _preset(name: str, raw: dict[str, Any]) -> RoomConfiguration:
    try:
        return ParseDict(raw, RoomConfiguration(), ignore_unknown_fields=True)
    except (ParseError, TypeError, AttributeError) as error:
        raise ConfigError(f"room_configurations.{name}: {error}") from error


def _node_ips(config: ServerConfig) -> tuple[str, ...]:
    if config.rtc.node_ip:
        return (config.rtc.node_ip,)
    addresses = []
    for host in config.bind:
        if host in ("0.0.0.0", "::"):
            addresses.append(_own_address(socket.AF_INET if host == "0.0.0.0" else socket.AF_INET6))
        else:
            addresses.append(host)
    return tuple(dict.fromkeys(addresses))


def _own_address(family: socket.AddressFamily) -> str:
    """The address that the default route leaves from; loopback on a machine without one. Nothing is sent."""
    target = "192.0.2.1" if family == socket.AF_INET else "2001:db8::1"
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((target, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1" if family == socket.AF_INET else "::1"

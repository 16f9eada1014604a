"""The server's configuration: YAML with the keys of a LiveKit server's file, checked while it is read.

A key this server has no use for (TURN, Redis, ...) is kept in `ServerConfig.ignored` and named once in the log: a file
written for the other server starts this one, and says what it will not get.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .bounds import MAX_OWN_BYTES
from .budgets import Rates

__all__ = [
    "CodecConfig",
    "ConfigError",
    "LimitConfig",
    "LoggingConfig",
    "PrometheusConfig",
    "RoomConfig",
    "RtcConfig",
    "ServerConfig",
    "WebhookConfig",
    "load_config",
    "parse_keys",
]

DEV_KEY = "devkey"
DEV_SECRET = "secret"
MIN_SECRET = 32
"""Bytes of a secret outside development mode: HS256 is as strong as its secret, up to so many (RFC 7518 3.2)."""


class ConfigError(ValueError):
    """The configuration cannot be used. The text names the key and what would be right."""


@dataclass(slots=True)
class CodecConfig:
    mime: str = ""
    """"audio/opus", "video/VP8", ..."""
    fmtp_line: str = ""


@dataclass(slots=True)
class RtcConfig:
    udp_port: int = 7882
    """First UDP port for media; shard `k` listens on `udp_port + k`. 0: any free one."""
    node_ip: str = ""
    """The address that clients are told. Empty: the bind address, or the machine's own when bound to all."""
    use_external_ip: bool = False
    """Accepted for compatibility: set `node_ip` instead, nothing is asked of an outside server."""
    audio_wait_ms: int = 0
    """Milliseconds (0 to 5) that audio may wait in a busy server for other speakers' packets, which makes forwarding cheaper
    and the sound so much later. `docs/bench.md` has the figures."""


@dataclass(slots=True)
class RoomConfig:
    auto_create: bool = True
    """A join creates the room. Otherwise joining an unknown one is a 404."""
    empty_timeout: int = 300
    """Seconds a room stays that nobody ever joined."""
    departure_timeout: int = 20
    """Seconds a room stays after the last participant left."""
    max_participants: int = 0
    """0: no limit."""
    top_speakers: int = 0
    """Audio tracks of a room that are forwarded: its loudest so many. 0: all. In large rooms the others cost everybody's line."""
    enable_remote_unmute: bool = False
    """The API may unmute a participant's track."""
    enabled_codecs: list[CodecConfig] = field(default_factory=list)
    """What may be published, best first. Empty: everything the server can forward."""
    sync_streams: bool = False


@dataclass(slots=True)
class LimitConfig(Rates):
    """Sizes in bytes, names in characters, budgets a second. 0: no limit."""

    max_rooms: int = 0
    """More are refused with 503."""
    num_tracks: int = 0
    """Published and received tracks on this server, counted together; from so many on joins are refused with 503."""
    subscription_limit_audio: int = 0
    """Audio tracks that one participant receives at a time; more wait until others end."""
    subscription_limit_video: int = 0
    max_metadata_size: int = 512 * 1024
    """Of a room, and of a participant: as it joins and later. At most, and as 0, 1 MiB: a token must be able to carry it."""
    max_attributes_size: int = 64 * 1024
    max_room_name_length: int = 256
    max_participant_identity_length: int = 256
    max_participant_name_length: int = 256


@dataclass(slots=True)
class WebhookFilter:
    include_events: list[str] = field(default_factory=list)
    """Empty: all."""
    exclude_events: list[str] = field(default_factory=list)


@dataclass(slots=True)
class WebhookConfig:
    api_key: str = ""
    """The key that signs the requests. Empty: the first of `keys`."""
    urls: list[str] = field(default_factory=list)
    filter_params: WebhookFilter = field(default_factory=WebhookFilter)


@dataclass(slots=True)
class PrometheusConfig:
    port: int = 0
    """0: off."""
    username: str = ""
    password: str = ""


@dataclass(slots=True)
class LoggingConfig:
    level: str = "info"
    json: bool = False


@dataclass(slots=True)
class ServerConfig:
    port: int = 7880
    """HTTP and WebSocket. 0: any free one."""
    bind_addresses: list[str] = field(default_factory=list)
    """Empty: all interfaces (loopback only in development mode)."""
    keys: dict[str, str] = field(default_factory=dict)
    """API key to secret."""
    rtc: RtcConfig = field(default_factory=RtcConfig)
    room: RoomConfig = field(default_factory=RoomConfig)
    room_configurations: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Presets by name, each the JSON form of `livekit.RoomConfiguration`."""
    limit: LimitConfig = field(default_factory=LimitConfig)
    webhook: WebhookConfig = field(default_factory=WebhookConfig)
    prometheus: PrometheusConfig = field(default_factory=PrometheusConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    trusted_proxies: list[str] = field(default_factory=list)
    """Addresses or networks of proxies in front, whose `X-Forwarded-For` names the client."""
    region: str = ""
    development: bool = False
    shards: int = 1
    """Media threads. A room lives on one."""
    rules: str = ""
    """`package.module:name` of the application's own rules (`greenroom.server.rules.Rules`). Empty: none."""
    serve_playground: bool = False
    """Answer browsers at `/` with the bundled web page."""
    ignored: list[str] = field(default_factory=list)
    """Keys of the file that this server does not know."""

    @classmethod
    def dev(cls, **changes: Any) -> ServerConfig:
        """What `--dev` means: the well-known key, loopback only. `changes` replace fields."""
        config = cls(keys={DEV_KEY: DEV_SECRET}, bind_addresses=["127.0.0.1"], development=True, serve_playground=True)
        return dataclasses.replace(config, **changes)

    @property
    def bind(self) -> list[str]:
        """IP addresses to listen on. An empty text in `bind_addresses` means all, as in LiveKit's sample file."""
        names = {"": "0.0.0.0", "localhost": "127.0.0.1"}
        addresses = [names.get(address, address) for address in self.bind_addresses]
        return addresses or (["127.0.0.1"] if self.development else ["0.0.0.0"])

    def check(self) -> None:
        """Raises ConfigError when the server cannot start like this."""
        if not self.keys:
            raise ConfigError(
                'no API keys: set LIVEKIT_KEYS="key: secret", use --keys or a config file with keys, '
                "or start with --dev for a local server"
            )
        self._check_secrets()
        for address in [*self.bind, *([self.rtc.node_ip] if self.rtc.node_ip else [])]:
            try:
                ipaddress.ip_address(address)
            except ValueError as error:
                raise ConfigError(f"{address!r} is not an IP address") from error
        ports = {"port": self.port, "rtc.udp_port": self.rtc.udp_port, "prometheus.port": self.prometheus.port}
        for name, port in ports.items():
            if not 0 <= port <= 65535:
                raise ConfigError(f"{name} is {port}, not a port (0 to 65535)")
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise ConfigError(f"trusted_proxies: {proxy!r} is not an address or a network: {error}") from error
        for name in ("max_metadata_size", "max_attributes_size"):
            if (size := getattr(self.limit, name)) > MAX_OWN_BYTES:
                raise ConfigError(f"limit.{name} is {size}, it can be {MAX_OWN_BYTES} at most")
        if not 1 <= self.shards <= 64:
            raise ConfigError(f"shards is {self.shards}, it must be 1 to 64")
        if self.rtc.udp_port and self.rtc.udp_port + self.shards - 1 > 65535:
            raise ConfigError(f"rtc.udp_port {self.rtc.udp_port} leaves no room for {self.shards} shards")
        if not 0 <= self.rtc.audio_wait_ms <= 5:
            raise ConfigError(f"rtc.audio_wait_ms is {self.rtc.audio_wait_ms}, it must be 0 to 5")
        if self.webhook.urls and self.webhook.api_key and self.webhook.api_key not in self.keys:
            raise ConfigError(f"webhook.api_key {self.webhook.api_key!r} is not among keys")

    def _check_secrets(self) -> None:
        if self.development:
            return
        for key, secret in self.keys.items():
            if len(secret.encode()) >= MIN_SECRET:
                continue
            if (key, secret) == (DEV_KEY, DEV_SECRET) and all(_is_loopback(address) for address in self.bind):
                continue
            raise ConfigError(
                f"the secret of key {key!r} has {len(secret.encode())} bytes, it needs {MIN_SECRET}: whoever guesses it "
                "signs tokens for every room. Make one with: openssl rand -base64 36 (or start with --dev for a local server)"
            )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def parse_keys(text: str) -> dict[str, str]:
    """`key: secret` pairs, one a line or comma-separated, as in LIVEKIT_KEYS. ConfigError when it is neither."""
    keys = {}
    for part in text.replace(",", "\n").splitlines():
        if not part.strip():
            continue
        key, colon, secret = part.partition(":")
        key, secret = key.strip().strip("\"'"), secret.strip().strip("\"'")
        if not colon or not key or not secret:
            raise ConfigError('keys must look like "key: secret", one a line')
        keys[key] = secret
    return keys


def load_config(text: str, source: str = "configuration") -> ServerConfig:
    """Read YAML. ConfigError names the key that is wrong, or the line that is not YAML."""
    import yaml

    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    if raw is None:
        raw = {}
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{source} must be a mapping of keys to values")
    raw = dict(raw)
    if "prometheus_port" in raw:
        port = raw.pop("prometheus_port")
        raw.setdefault("prometheus", {"port": port})
    key_file = raw.pop("key_file", None)
    ignored: list[str] = []
    config: ServerConfig = _fill(ServerConfig, raw, "", ignored)
    config.ignored = ignored
    if key_file is not None:
        config.keys |= _read_key_file(Path(str(key_file)))
    return config


def _read_key_file(path: Path) -> dict[str, str]:
    try:
        if os.name == "posix" and path.stat().st_mode & 0o007:
            raise ConfigError(f"key_file {path} is readable by everybody: chmod 600 {path}")
        return parse_keys(path.read_text())
    except OSError as error:
        raise ConfigError(f"key_file {path}: {error.strerror}") from error


def _fill(cls: type, raw: Mapping[str, Any], prefix: str, ignored: list[str]) -> Any:
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in raw.items():
        path = f"{prefix}{key}"
        if key not in hints or key == "ignored":
            ignored.append(path)
        elif value is not None:
            values[key] = _convert(hints[key], value, path, ignored)
    return cls(**values)


def _convert(hint: Any, value: Any, path: str, ignored: list[str]) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} must be a mapping of keys to values")
        return _fill(typing.cast(type, hint), value, f"{path}.", ignored)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        if not isinstance(value, list):
            raise ConfigError(f"{path} must be a list")
        return [_convert(args[0], item, f"{path}[{index}]", ignored) for index, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} must be a mapping of keys to values")
        return {str(key): _convert(args[1], item, f"{path}.{key}", ignored) for key, item in value.items()}
    if hint is Any:
        return value
    if hint is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # YAML reads an unquoted numeric secret as a number
    if (hint is int and isinstance(value, bool)) or not isinstance(value, hint):
        raise ConfigError(f"{path} must be {_WORDS[hint]}, not {value!r}")
    if hint is int and value < 0:
        raise ConfigError(f"{path} must not be negative")
    return value


_WORDS = {int: "a whole number", str: "text", bool: "true or false"}

"""Configuration files: the keys of a LiveKit server's file, and errors that name the key."""

from typing import Any

import pytest

from greenroom.server.config import ConfigError, RtcConfig, ServerConfig, load_config, parse_keys

FILE = """
port: 7000
bind_addresses: ["10.0.0.1"]
keys:
  key1: secret1-secret1-secret1-secret1-secret1
  key2: 12345678901234567890123456789012
rtc:
  udp_port: 7001
  node_ip: 203.0.113.9
  tcp_port: 7881
room:
  auto_create: false
  empty_timeout: 60
  enabled_codecs:
    - mime: audio/opus
    - mime: video/VP8
prometheus_port: 6789
webhook:
  api_key: key1
  urls: [http://localhost:1/hook]
  filter_params: {exclude_events: [room_started]}
room_configurations:
  big: {max_participants: 100}
redis: {address: localhost:6379}
"""


def test_a_livekit_file_is_read():
    config = load_config(FILE)
    config.check()
    assert (config.port, config.bind, config.rtc.udp_port, config.rtc.node_ip) == (
        7000,
        ["10.0.0.1"],
        7001,
        "203.0.113.9",
    )
    assert config.keys == {"key1": "-".join(["secret1"] * 5), "key2": "12345678901234567890123456789012"}
    assert not config.room.auto_create and config.room.empty_timeout == 60 and config.room.departure_timeout == 20
    assert [codec.mime for codec in config.room.enabled_codecs] == ["audio/opus", "video/VP8"]
    assert config.prometheus.port == 6789
    assert config.webhook.filter_params.exclude_events == ["room_started"]
    assert config.room_configurations == {"big": {"max_participants": 100}}


def test_what_the_server_has_no_use_for_is_named():
    assert load_config(FILE).ignored == ["rtc.tcp_port", "redis"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port: many", "port must be a whole number, not 'many'"),
        ("port: true", "port must be a whole number"),
        ("port: -1", "port must not be negative"),
        ("rtc: 5", "rtc must be a mapping"),
        ("rtc:\n  udp_port: 1-2", "rtc.udp_port must be a whole number"),
        ("bind_addresses: localhost", "bind_addresses must be a list"),
        ("room:\n  enabled_codecs:\n    - opus", r"room.enabled_codecs\[0\] must be a mapping"),
        ("keys: [a]", "keys must be a mapping"),
        ("- a", "must be a mapping"),
        ("a: [", "is not YAML"),
    ],
)
def test_an_error_names_the_key(text, message):
    with pytest.raises(ConfigError, match=message):
        load_config(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": {}}, "no API keys"),
        ({"port": 70000}, "port is 70000"),
        ({"shards": 0}, "shards is 0"),
        ({"rtc": RtcConfig(audio_wait_ms=6)}, "rtc.audio_wait_ms is 6, it must be 0 to 5"),
        ({"bind_addresses": ["example.com"]}, "'example.com' is not an IP address"),
    ],
)
def test_a_server_that_could_not_work_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        ServerConfig.dev(**change).check()


def test_keys_from_the_environment():
    assert parse_keys('a: b\n "c": "d"\n') == {"a": "b", "c": "d"}
    assert parse_keys("a: b, c: d") == {"a": "b", "c": "d"}
    for bad in ("a", "a:", ": b"):
        with pytest.raises(ConfigError, match="key: secret"):
            parse_keys(bad)


def test_a_key_file_must_be_private(tmp_path):
    path = tmp_path / "keys"
    path.write_text("a: b\n")
    path.chmod(0o604)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_config(f"key_file: {path}")
    path.chmod(0o600)
    assert load_config(f"key_file: {path}").keys == {"a": "b"}


def test_development_means_loopback_and_the_well_known_key():
    config = ServerConfig.dev()
    config.check()
    assert config.bind == ["127.0.0.1"] and config.keys == {"devkey": "secret"}
    assert ServerConfig().bind == ["0.0.0.0"]
    assert ServerConfig(bind_addresses=["", "localhost"]).bind == ["0.0.0.0", "127.0.0.1"]


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"keys": {"k": "s" * 31}}, True),
        ({"keys": {"k": "s" * 32}}, False),
        ({"keys": {"k": "é" * 16}}, False),
        ({"keys": {"good": "s" * 40, "bad": "s"}}, True),
        ({"keys": {"k": "s"}, "development": True}, False),
        ({"keys": {"devkey": "secret"}}, True),
        ({"keys": {"devkey": "secret"}, "bind_addresses": ["127.0.0.1", "::1"]}, False),
        ({"keys": {"devkey": "secret"}, "bind_addresses": ["127.0.0.1", "10.0.0.1"]}, True),
        ({"keys": {"devkey": "secrets"}, "bind_addresses": ["127.0.0.1"]}, True),
    ],
)
def test_outside_development_a_secret_has_32_bytes(changes: dict[str, Any], refused: bool) -> None:
    """The well-known development key works without development mode too, where only this machine can use it."""
    config = ServerConfig(**changes)
    if not refused:
        config.check()
        return
    with pytest.raises(ConfigError, match=r"the secret of key '\w+' has \d+ bytes, it needs 32") as raised:
        config.check()
    assert not any(secret in str(raised.value) for secret in config.keys.values() if len(secret) > 8)

"""Access tokens: what is signed, and what is refused when read."""

import base64
import datetime
import subprocess
import sys
import time
import warnings
import zlib

import jwt
import pytest

from greenroom.api import AccessToken, RoomAgentDispatch, RoomConfiguration, SIPGrants, TokenVerifier, VideoGrants
from greenroom.api.packed import pack
from greenroom.server.auth import Authenticator, AuthError

KEY, SECRET = "devkey", "secret"


def signed(payload: dict, secret: str = SECRET) -> str:
    base = {"iss": KEY, "sub": "ann", "exp": int(time.time()) + 86_400}  # collected long before it is run
    return jwt.encode({key: value for key, value in (base | payload).items() if value is not None}, secret, "HS256")


def nested() -> str:
    deep = base64.urlsafe_b64encode(b"[" * 30_000).decode().rstrip("=")
    return f"{deep}.{deep}.x"


def token() -> AccessToken:
    return AccessToken(KEY, SECRET).with_identity("ann")


def test_claims_survive_signing_and_reading():
    config = RoomConfiguration(agents=[RoomAgentDispatch(agent_name="kitt", metadata="m")], empty_timeout=7)
    text = (
        token()
        .with_name("Ann")
        .with_kind("agent")
        .with_metadata("{}")
        .with_attributes({"a": "1"})
        .with_room_preset("big")
        .with_room_config(config)
        .with_sip_grants(SIPGrants(call=True))
        .with_grants(VideoGrants(room_join=True, room="r", can_publish_sources=["camera"], hidden=True))
        .to_jwt()
    )
    claims = TokenVerifier(KEY, SECRET).verify(text)
    assert (claims.identity, claims.name, claims.kind, claims.metadata) == ("ann", "Ann", "agent", "{}")
    assert claims.attributes == {"a": "1"}
    assert claims.room_preset == "big"
    assert claims.room_config == config
    assert claims.sip.call and not claims.sip.admin
    assert claims.video.room_join and claims.video.hidden and claims.video.can_publish_sources == ["camera"]
    assert claims.issuer == KEY and claims.expires > time.time() + 5 * 3600


def test_unset_grants_are_left_out_of_the_jwt():
    text = token().with_grants(VideoGrants(room_list=True)).to_jwt()
    payload = jwt.decode(text, options={"verify_signature": False})
    assert payload["video"] == {"roomList": True, "canPublish": True, "canSubscribe": True, "canPublishData": True}
    assert set(payload) == {"video", "iss", "sub", "iat", "nbf", "exp"}


def test_joining_needs_identity_and_room():
    with pytest.raises(ValueError, match="identity and room"):
        AccessToken(KEY, SECRET).with_grants(VideoGrants(room_join=True, room="r")).to_jwt()
    with pytest.raises(ValueError, match="identity and room"):
        token().with_grants(VideoGrants(room_join=True)).to_jwt()


def test_keys_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("LIVEKIT_API_KEY", "k")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "s")
    assert TokenVerifier().verify(AccessToken().with_identity("x").to_jwt()).issuer == "k"
    monkeypatch.delenv("LIVEKIT_API_SECRET")
    with pytest.raises(ValueError, match="api_secret"):
        AccessToken()


@pytest.mark.parametrize(
    ("video", "publish", "data"),
    [
        ({}, True, True),
        ({"canPublish": False}, False, False),
        ({"canPublish": False, "canPublishData": True}, False, True),
    ],
)
def test_missing_grants_have_the_documented_defaults(video, publish, data):
    grants = TokenVerifier(KEY, SECRET).verify(signed({"video": video})).video
    assert (grants.can_publish, grants.can_subscribe, grants.can_publish_data) == (publish, True, data)
    assert not grants.can_update_own_metadata


def test_identity_falls_back_to_jti():
    assert TokenVerifier(KEY, SECRET).verify(signed({"sub": None, "jti": "bob"})).identity == "bob"


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"exp": int(time.time()) - 120}, jwt.ExpiredSignatureError),
        ({"nbf": int(time.time()) + 3600}, jwt.ImmatureSignatureError),
        ({"iss": "other"}, jwt.InvalidIssuerError),
        ({"exp": None}, jwt.MissingRequiredClaimError),
        ({"video": {"roomJoin": "yes"}}, jwt.DecodeError),
        ({"video": []}, None),
        ({"video": [1]}, jwt.DecodeError),
        ({"attributes": {"a": 1}}, jwt.DecodeError),
        ({"name": 5}, jwt.DecodeError),
        ({"roomConfig": {"agents": 5}}, jwt.DecodeError),
        ({"metadata": "half a \ud83d"}, jwt.DecodeError),
        ({"attributes": {"k": "\ud83d"}}, jwt.DecodeError),
        ({"video": {"canPublishSources": [1]}}, jwt.DecodeError),
        ({"newGrant": {"x": 1}, "video": {"newer": 1}}, None),
    ],
)
def test_what_a_signed_token_may_hold(payload, error):
    verify = TokenVerifier(KEY, SECRET).verify
    if error is None:
        assert verify(signed(payload)).identity == "ann"
    else:
        with pytest.raises(error):
            verify(signed(payload))


def test_a_minute_of_clock_difference_is_forgiven():
    now = int(time.time())
    assert TokenVerifier(KEY, SECRET).verify(signed({"exp": now - 30, "nbf": now + 30})).identity == "ann"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid authorization token"),
        ("garbage", "invalid authorization token"),
        ("a.b.c", "invalid authorization token"),
        (nested(), "invalid authorization token"),
        (signed({"exp": float("inf")}), "invalid token"),
        (signed({"iss": "stranger"}), "invalid API key"),
        (signed({"iss": None}), "invalid API key"),
        (signed({}, "forged-secret"), "invalid token: signature does not match"),
        (signed({"exp": int(time.time()) - 120}), "invalid token: token is expired"),
        (jwt.encode({"iss": KEY, "sub": "ann", "exp": int(time.time()) + 3600}, None, "none"), "invalid token"),
    ],
    ids=["empty", "garbage", "dots", "nested", "infinite", "stranger", "nobody", "forged", "expired", "unsigned"],
)
def test_the_server_says_why_a_token_is_refused(text, message):
    with pytest.raises(AuthError) as caught:
        Authenticator({KEY: SECRET}).verify(text)
    assert str(caught.value).startswith(message) and caught.value.status == 401


def test_a_refreshed_token_lasts_as_long_as_the_old_one_and_ten_minutes_at_least():
    authenticator = Authenticator({KEY: SECRET})
    grants = VideoGrants(room_join=True, room="r")
    for ttl, least in ((datetime.timedelta(hours=2), 7100), (datetime.timedelta(seconds=30), 590)):
        old = authenticator.verify(token().with_grants(grants).with_ttl(ttl).to_jwt()).claims
        new = authenticator.verify(authenticator.refresh(old)).claims
        assert new.identity == "ann" and new.video == old.video
        assert least <= new.expires - time.time() <= least + 110


def test_tokens_with_short_secrets_warn_nobody_and_silence_nobody_else():
    """PyJWT's own warning stays as it is for a program's own use of PyJWT."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        TokenVerifier(KEY, SECRET).verify(AccessToken(KEY, SECRET).to_jwt())
        assert not caught
    code = (
        "import warnings; before = list(warnings.filters); import greenroom.api, greenroom.api.access_token;"
        "assert list(warnings.filters) == before, warnings.filters"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_text_in_a_token_takes_the_bytes_that_it_has():
    short = AccessToken(KEY, SECRET).with_metadata("x" * 3000).to_jwt()
    assert abs(len(AccessToken(KEY, SECRET).with_metadata("é" * 1500).to_jwt()) - len(short)) < 8
    assert (
        TokenVerifier(KEY, SECRET).verify(AccessToken(KEY, SECRET).with_metadata("é😀\n").to_jwt()).metadata == "é😀\n"
    )


def test_packed_claims_are_read_back():
    config = RoomConfiguration(agents=[RoomAgentDispatch(agent_name="kitt")])
    token = AccessToken(KEY, SECRET).with_identity("ann").with_metadata("m" * 50_000).with_attributes({"a": "b"})
    plain = TokenVerifier(KEY, SECRET).verify(token.with_room_config(config).to_jwt())
    token.claims = pack(token.claims)
    packed = token.to_jwt()
    assert len(packed) < 1000 and TokenVerifier(KEY, SECRET).verify(packed).room_config == config
    claims = TokenVerifier(KEY, SECRET).verify(packed)
    assert (claims.metadata, claims.attributes, claims.packed) == (plain.metadata, plain.attributes, "")


@pytest.mark.parametrize(
    "packed", ["?", "AAAA", base64.b64encode(zlib.compress(bytes(9 << 20))).decode(),
               base64.b64encode(zlib.compress(b"\0\0\0\4\xff\xff\xff\xff")).decode()]
)  # fmt: skip
def test_packed_claims_that_cannot_be_read_are_refused(packed):
    with pytest.raises(jwt.DecodeError, match="packed"):
        TokenVerifier(KEY, SECRET).verify(signed({"packed": packed}))

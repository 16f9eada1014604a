"""What the server says becomes objects and events; a fake transport stands in for the media connection."""

import asyncio
from typing import Any
from unittest.mock import MagicMock

import pytest
from livekit.protocol import models, rtc as proto

from greenroom import rtc
from greenroom.rtc.local_participant import LocalParticipant

State = models.ParticipantInfo.State
AUDIO = models.TrackInfo(sid="TR_a", name="mic", type=models.TrackType.AUDIO, source=models.TrackSource.MICROPHONE)
VIDEO = models.TrackInfo(sid="TR_v", name="cam", type=models.TrackType.VIDEO, source=models.TrackSource.CAMERA)


class FakeTransport:
    def __init__(self) -> None:
        self.sections: dict[str, Any] = {}
        self.peer = MagicMock()


class Watched:
    """A joined room that remembers its events."""

    def __init__(self, *others: models.ParticipantInfo) -> None:
        self.room = rtc.Room()
        self.seen: list[tuple[Any, ...]] = []
        for event in (
            "participant_connected participant_active participant_disconnected track_published track_unpublished "
            "track_subscribed track_unsubscribed track_muted track_unmuted active_speakers_changed "
            "room_metadata_changed participant_metadata_changed participant_name_changed participant_attributes_changed "
            "participant_permissions_changed connection_quality_changed room_updated track_subscription_failed"
        ).split():
            self.room.on(event, lambda *args, event=event: self.seen.append((event, *args)))  # type: ignore[arg-type]
        join = proto.JoinResponse(
            room=models.Room(sid="RM_1", name="r"),
            participant=models.ParticipantInfo(sid="PA_me", identity="me"),
            other_participants=others,
        )
        self.room._core.state.joined(join)
        self.transport = FakeTransport()

    def update(self, *infos: models.ParticipantInfo) -> list[str]:
        return self.signal(update=models_update(infos))

    def signal(self, **message: Any) -> list[str]:
        self.seen.clear()
        self.room._core.state.handle(proto.SignalResponse(**message))
        return [event for event, *_ in self.seen]

    def tracks(self, **by_mid: str) -> list[str]:
        self.seen.clear()
        sections = {mid[1:]: sid for mid, sid in by_mid.items()}
        self.room._core.subscriptions.set_tracks(self.transport, sections)  # type: ignore[arg-type]
        return [event for event, *_ in self.seen]


def models_update(infos: Any) -> proto.ParticipantUpdate:
    return proto.ParticipantUpdate(participants=infos)


def bob(version: int = 1, *tracks: models.TrackInfo, sid: str = "PA_b", **fields: Any) -> models.ParticipantInfo:
    fields.setdefault("state", State.ACTIVE)
    return models.ParticipantInfo(sid=sid, identity="bob", version=version, tracks=tracks, **fields)


def test_those_who_are_there_are_no_events() -> None:
    watched = Watched(bob(1, AUDIO))
    assert watched.seen == []
    assert list(watched.room.remote_participants) == ["bob"]
    assert list(watched.room.remote_participants["bob"].track_publications) == ["TR_a"]


def test_joining_publishing_and_leaving() -> None:
    watched = Watched()
    assert watched.update(bob(1, state=State.JOINED)) == ["participant_connected"]
    assert watched.update(bob(2)) == ["participant_active"]
    assert watched.update(bob(3, AUDIO)) == ["track_published"]
    assert watched.tracks(m0="TR_a") == ["track_subscribed"]
    assert watched.tracks(m0="TR_a") == []
    left = bob(4, state=State.DISCONNECTED, disconnect_reason=models.DisconnectReason.CLIENT_INITIATED)
    assert watched.update(left) == ["track_unsubscribed", "track_unpublished", "participant_disconnected"]
    assert watched.room.remote_participants == {}
    assert watched.seen[-1][1].disconnect_reason == rtc.DisconnectReason.CLIENT_INITIATED


def test_old_updates_are_ignored() -> None:
    watched = Watched()
    watched.update(bob(5, name="new"))
    assert watched.update(bob(4, name="old")) == []
    assert watched.room.remote_participants["bob"].name == "new"


def test_media_before_its_publication_waits_for_it() -> None:
    watched = Watched(bob(1))
    assert watched.tracks(m0="TR_a") == []
    assert watched.update(bob(2, AUDIO)) == ["track_published", "track_subscribed"]


def test_a_section_that_changes_hands() -> None:
    watched = Watched(bob(1, AUDIO, VIDEO))
    watched.tracks(m0="TR_a", m3="TR_v")
    other = models.TrackInfo(sid="TR_b", type=models.TrackType.AUDIO)
    watched.update(bob(2, AUDIO, VIDEO, other))
    assert watched.tracks(m0="TR_b", m3="TR_v") == ["track_unsubscribed", "track_subscribed"]
    assert watched.tracks(m3="TR_v") == ["track_unsubscribed"]
    publication = watched.room.remote_participants["bob"].track_publications["TR_v"]
    assert publication.subscribed
    assert isinstance(publication.track, rtc.RemoteVideoTrack)


def test_muting() -> None:
    watched = Watched(bob(1, AUDIO))
    watched.tracks(m0="TR_a")
    muted = models.TrackInfo()
    muted.CopyFrom(AUDIO)
    muted.muted = True
    assert watched.update(bob(2, muted)) == ["track_muted"]
    assert watched.room.remote_participants["bob"].track_publications["TR_a"].track.muted  # type: ignore[union-attr]
    assert watched.update(bob(3, AUDIO)) == ["track_unmuted"]


def test_a_new_session_of_the_same_identity() -> None:
    watched = Watched(bob(9, AUDIO))
    assert watched.update(bob(1, AUDIO, sid="PA_b2")) == [
        "track_unpublished",
        "participant_disconnected",
        "participant_connected",
        "participant_active",
        "track_published",
    ]
    assert watched.update(bob(10, state=State.DISCONNECTED)) == []
    assert watched.room.remote_participants["bob"].sid == "PA_b2"


def test_what_is_known_of_people_changes() -> None:
    watched = Watched(bob(1, attributes={"a": "1", "b": "2"}))
    permission = models.ParticipantPermission(can_publish=True)
    changed = bob(2, name="Bob", metadata="m", attributes={"a": "3", "c": "4"}, permission=permission)
    assert watched.update(changed) == [
        "participant_metadata_changed",
        "participant_name_changed",
        "participant_attributes_changed",
        "participant_permissions_changed",
    ]
    assert watched.seen[2][1] == {"a": "3", "c": "4", "b": ""}
    me = models.ParticipantInfo(sid="PA_me", identity="me", name="Me", version=2)
    assert watched.update(me) == ["participant_name_changed"]
    assert isinstance(watched.seen[0][1], LocalParticipant)


def test_speakers_quality_and_room() -> None:
    watched = Watched(bob())
    speakers = [
        models.SpeakerInfo(sid="PA_me", level=0.1, active=True),
        models.SpeakerInfo(sid="PA_b", level=0.5, active=True),
    ]
    watched.signal(speakers_changed=proto.SpeakersChanged(speakers=speakers))
    assert [p.identity for p in watched.seen[0][1]] == ["bob", "me"]
    watched.signal(speakers_changed=proto.SpeakersChanged(speakers=[models.SpeakerInfo(sid="PA_b")]))
    assert [p.identity for p in watched.seen[0][1]] == ["me"]
    quality = proto.ConnectionQualityInfo(participant_sid="PA_b", quality=models.ConnectionQuality.POOR)
    watched.signal(connection_quality=proto.ConnectionQualityUpdate(updates=[quality]))
    assert watched.seen[0][2] == rtc.ConnectionQuality.QUALITY_POOR
    assert watched.signal(room_update=proto.RoomUpdate(room=models.Room(sid="RM_1", metadata="x"))) == [
        "room_metadata_changed",
        "room_updated",
    ]


def test_failed_subscriptions() -> None:
    watched = Watched(bob(1, AUDIO))
    response = proto.SubscriptionResponse(track_sid="TR_a", err=models.SubscriptionError.SE_CODEC_UNSUPPORTED)
    assert watched.signal(subscription_response=response) == ["track_subscription_failed"]
    assert watched.seen[0][2:] == ("TR_a", "SE_CODEC_UNSUPPORTED")


async def test_events_wait_until_connect_has_returned() -> None:
    room = rtc.Room()
    seen: list[str] = []
    room.on("room_updated", lambda: seen.append("first"))
    room.on("participant_connected", lambda p: seen.append(p.identity))
    room._core.connecting = True
    room._core.state._room_update(models.Room(sid="RM_1"))
    room._core.connecting = False
    room._core.state._apply_remote(bob(state=State.JOINED))
    assert seen == []
    room._core.release_events()
    assert seen == ["first", "bob"]


async def test_room_sid_can_be_awaited() -> None:
    room = rtc.Room()
    room._core.connecting = True
    task = asyncio.ensure_future(_sid(room))
    await asyncio.sleep(0)
    room._core.set_info(models.Room(sid="RM_7"))
    assert await task == "RM_7"


async def _sid(room: rtc.Room) -> str:
    return await room.sid


class Processor(rtc.FrameProcessor[rtc.AudioFrame]):
    """Remembers what it was told."""

    enabled = True  # type: ignore[assignment]

    def __init__(self) -> None:
        self.told: list[Any] = []

    def _process(self, frame: rtc.AudioFrame) -> rtc.AudioFrame:
        return frame

    def _close(self) -> None:
        self.told.append("closed")

    def _on_stream_info_updated(self, **place: str) -> None:
        self.told.append(place)

    def _on_credentials_updated(self, **credentials: str) -> None:
        self.told.append(credentials)


async def test_a_frame_processor_is_told_whose_sound_it_gets_and_of_new_tokens() -> None:
    watched, processor = Watched(bob(1, AUDIO)), Processor()
    watched.room._core.server_url, watched.room._core.token = "ws://server", "old"
    watched.tracks(m0="TR_a")
    publication = watched.room.remote_participants["bob"].track_publications["TR_a"]
    stream = rtc.AudioStream(publication.track, noise_cancellation=processor)
    place = {"room_name": "r", "participant_identity": "bob", "publication_sid": "TR_a"}
    assert processor.told == [place, {"token": "old", "url": "ws://server"}]
    watched.room._core.on_token("new")
    assert processor.told[2:] == [place, {"token": "new", "url": "ws://server"}]
    watched.tracks()
    watched.room._core.on_token("newer")
    assert len(processor.told) == 4, "the track is over"
    await stream.aclose()
    await stream.aclose()
    assert processor.told[4:] == ["closed"]


def test_mappings_follow_the_room_and_cannot_be_written() -> None:
    watched = Watched()
    participants = watched.room.remote_participants
    watched.update(bob(1, AUDIO))
    assert participants == {"bob": participants["bob"]} and "carol" not in participants and len(participants) == 1
    assert participants["bob"] is watched.seen[0][1], "the same object every time"
    publications = participants["bob"].track_publications
    assert list(publications) == ["TR_a"] and repr(publications) == f"{{'TR_a': {publications['TR_a']!r}}}"
    watched.update(bob(2))
    assert not publications
    with pytest.raises(TypeError):
        participants["carol"] = participants["bob"]  # type: ignore[index]


async def test_private_names_that_the_official_agents_use() -> None:
    room = Watched().room
    room.local_participant.register_rpc_method("m", print)
    assert room.local_participant._rpc_handlers == {"m": print}
    room._info.name = "another"
    assert room.name == "another"

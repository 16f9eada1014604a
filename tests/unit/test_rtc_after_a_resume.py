"""After a resume: who is not listed left, also where the server does not say so, and mutes are agreed on."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.protocol import models, rtc as proto

from greenroom import rtc
from greenroom.rtc.track import local_core
from greenroom.rtc.track_publication import LocalPublicationCore, LocalTrackPublication

from .test_rtc_room_state import AUDIO, Watched, bob, models_update

ME = models.ParticipantInfo(sid="PA_me", identity="me", state=models.ParticipantInfo.State.ACTIVE)
ROOM = proto.RoomUpdate(room=models.Room(sid="RM_1", name="r"))


class FakeSession:
    def __init__(self) -> None:
        self.sent: list[proto.SignalRequest] = []

    def send(self, request: proto.SignalRequest) -> None:
        self.sent.append(request)


def carol() -> models.ParticipantInfo:
    return models.ParticipantInfo(sid="PA_c", identity="carol", version=1, state=ME.state)


def test_whoever_is_not_listed_left() -> None:
    watched = Watched(bob(1, AUDIO), carol())
    watched.room._core.state.resuming([])
    assert watched.update(carol()) == [], "a long list comes in pieces"
    assert watched.update(ME) == []
    assert watched.signal(room_update=ROOM) == ["room_updated", "track_unpublished", "participant_disconnected"]
    assert list(watched.room.remote_participants) == ["carol"]
    assert watched.signal(room_update=ROOM) == ["room_updated"]


@pytest.mark.parametrize("listed", [[], [carol()]], ids=["nothing", "without ourselves"])
def test_what_is_not_the_whole_list_removes_nobody(listed: list[models.ParticipantInfo]) -> None:
    watched = Watched(bob(1, AUDIO), carol())
    watched.room._core.state.resuming([])
    watched.signal(update=models_update(listed))
    assert watched.signal(room_update=ROOM) == ["room_updated"]
    assert set(watched.room.remote_participants) == {"bob", "carol"}


def test_a_list_that_never_ended_is_none() -> None:
    watched = Watched(bob(1, AUDIO))
    watched.room._core.state.resuming([])
    watched.update(ME)
    watched.room._core.state.resumed()
    assert watched.signal(room_update=ROOM) == ["room_updated"]
    assert "bob" in watched.room.remote_participants


def publishing(muted: bool) -> tuple[Watched, FakeSession, LocalTrackPublication]:
    watched, session = Watched(), FakeSession()
    watched.room._core.session = session  # type: ignore[assignment]
    local = watched.room._core.local
    assert local is not None
    track = rtc.LocalAudioTrack.create_audio_track("mic", rtc.AudioSource(48000, 1))
    core = local_core(track)
    core.sid, core.publisher, core.muted = "TR_own", local.tracks, muted
    info = models.TrackInfo(sid="TR_own", name="mic", type=models.TrackType.AUDIO, muted=muted)
    publication = local.publications["TR_own"] = LocalPublicationCore(info, track)
    return watched, session, publication.view


def myself(muted: bool) -> models.ParticipantInfo:
    info = models.ParticipantInfo.FromString(ME.SerializeToString())
    info.tracks.add(sid="TR_own", name="mic", type=models.TrackType.AUDIO, muted=muted)
    return info


def mutes(session: FakeSession) -> list[bool]:
    return [request.mute.muted for request in session.sent if request.WhichOneof("message") == "mute"]


@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("theirs", [False, True])
def test_whoever_wants_silence_gets_it(ours: bool, theirs: bool) -> None:
    watched, session, publication = publishing(ours)
    watched.room._core.state.resuming([])
    events = watched.update(myself(theirs))
    assert publication.muted == publication.track.muted == (ours or theirs)  # type: ignore[union-attr]
    assert events == (["track_muted"] if theirs and not ours else [])
    assert mutes(session) == ([True] if ours != theirs else []), "the server knows, too"


@pytest.mark.parametrize("ours", [False, True])
def test_what_was_said_while_away_is_on_its_way(ours: bool) -> None:
    watched, session, publication = publishing(ours)
    unsent: Any = proto.SignalRequest(mute=proto.MuteTrackRequest(sid="TR_own", muted=ours))
    watched.room._core.state.resuming([unsent])
    assert watched.update(myself(not ours)) == []
    assert publication.track.muted == ours and mutes(session) == []  # type: ignore[union-attr]


def test_at_other_times_being_muted_is_our_own_affair() -> None:
    watched, session, publication = publishing(False)
    assert watched.update(myself(True)) == []
    assert not publication.muted and mutes(session) == []

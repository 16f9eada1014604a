"""Changing one's own name, metadata and attributes writes only what was meant."""

from __future__ import annotations

import pytest
from livekit.protocol import models, room as service

from greenroom import rtc
from greenroom.api import LiveKitAPI
from greenroom.server.app import RoomServer

from .rtc_pairs import Member


async def test_what_the_api_changed_meanwhile_stays(room_server: RoomServer, api: LiveKitAPI) -> None:
    alice = Member(rtc, "alice")
    await alice.connect(room_server.url)
    try:
        await alice.me.set_metadata("v1")
        stale = models.ParticipantInfo.FromString(alice.me._core.info.SerializeToString())
        changes = {
            "set_attributes": lambda: alice.me.set_attributes({"own": "yes"}),
            "set_name": lambda: alice.me.set_name("own name"),
            "set_metadata": lambda: alice.me.set_metadata("own metadata"),
        }
        for name, change in changes.items():
            await api.room.update_participant(
                service.UpdateParticipantRequest(
                    room="test", identity="alice", name="new", metadata="v2", attributes={"theirs": "1", "own": ""}
                )
            )
            alice.me._core.info = stale  # as if the update were still on its way
            await change()
            info = await api.room.get_participant(service.RoomParticipantIdentity(room="test", identity="alice"))
            expected = {
                "set_attributes": ("new", "v2", {"theirs": "1", "own": "yes"}),
                "set_name": ("own name", "v2", {"theirs": "1"}),
                "set_metadata": ("new", "own metadata", {"theirs": "1"}),
            }[name]
            assert (info.name, info.metadata, dict(info.attributes)) == expected, name
        with pytest.raises(rtc.MetadataError, match="emptied"):
            await alice.me.set_metadata("")
        with pytest.raises(rtc.MetadataError, match="emptied"):
            await alice.me.set_name("")
    finally:
        await alice.room.disconnect()

"""Write only what you mean: what a client sends back of its last view does not undo what the API changed meanwhile."""

from __future__ import annotations

import pytest
from livekit.protocol import rtc

from greenroom.server.app import RoomServer
from greenroom.server.echoes import ECHO_SECONDS, Echoes
from greenroom.server.participant import Participant

from .server_client import client
from .server_fakes import FakeMediaServer

NOW = {"name": "n2", "metadata": "m2"}
"""As it is, after the API replaced n1 and m1, and m0 before that."""

CASES = [
    # request, whether it has attributes too, what is to change
    ({"name": "n1", "metadata": "m1"}, True, {}),
    ({"name": "n2", "metadata": "m1"}, True, {}),
    ({"name": "n1", "metadata": "m0"}, True, {}),
    ({"name": "", "metadata": ""}, True, {}),
    ({"name": "n1", "metadata": "new"}, False, {"metadata": "new"}),
    ({"name": "new", "metadata": "m1"}, False, {"name": "new"}),
    ({"name": "new", "metadata": "newer"}, True, {"name": "new", "metadata": "newer"}),
    ({"name": "n2", "metadata": "m1"}, False, {"metadata": "m1"}),  # nothing else: back to m1 is what is meant
    ({"name": "", "metadata": "m0"}, False, {"metadata": "m0"}),
    ({"name": "n1", "metadata": ""}, False, {"name": "n1"}),
    ({"name": "n2", "metadata": "m2"}, False, {}),
]


@pytest.mark.parametrize(("asked", "otherwise", "changes"), CASES)
def test_what_a_client_means(asked: dict[str, str], otherwise: bool, changes: dict[str, str]) -> None:
    echoes = Echoes()
    for field, value in (("metadata", "m0"), ("metadata", "m1"), ("name", "n1"), ("name", "")):
        echoes.replaced(100.0, field, value)
    meant = echoes.meant(101.0, NOW, asked, otherwise=otherwise)
    assert {field: value for field, value in meant.items() if value is not None} == changes


def test_what_was_replaced_long_ago_is_no_echo() -> None:
    echoes = Echoes()
    echoes.replaced(100.0, "metadata", "m1")
    asked = {"name": "", "metadata": "m1"}
    assert echoes.meant(100.0 + ECHO_SECONDS, NOW, asked, otherwise=True)["metadata"] == "m1"


async def test_attributes_do_not_bring_back_metadata_and_name(server: RoomServer, media: FakeMediaServer) -> None:
    """As the official clients send them, before they heard of the API's change."""
    async with client(server, media, "alice") as alice:
        participant: Participant = server.manager.rooms["test"].participants["alice"]
        first = rtc.UpdateParticipantMetadata(name="old", metadata="v1", request_id=1)
        await alice.send(update_metadata=first)
        await alice.settle()
        participant.update_by_api(name="new", metadata="v2")
        await alice.send(
            update_metadata=rtc.UpdateParticipantMetadata(name="old", metadata="v1", attributes={"k": "v"})
        )
        await alice.settle()
        assert (participant.name, participant.metadata, participant.attributes) == ("new", "v2", {"k": "v"})
        await alice.send(update_metadata=rtc.UpdateParticipantMetadata(name="new", metadata="v1"))
        await alice.settle()
        assert participant.metadata == "v1", "said alone, it is meant"

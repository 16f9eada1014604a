"""Messages, streams, calls and attributes between our SDK and the official one, through our server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from greenroom.server.app import RoomServer

from .rtc_pairs import PAIRS, WAIT, in_room

both_modes = pytest.mark.parametrize("dual", [False, True], ids=["single", "dual"])
all_pairs = pytest.mark.parametrize(("first", "second"), PAIRS)


@both_modes
@all_pairs
async def test_messages(room_server: RoomServer, first: str, second: str, dual: bool) -> None:
    async with in_room(room_server, first, second, dual=dual) as (alice, bob):
        for sender, receiver in ((alice, bob), (bob, alice)):
            await sender.me.publish_data(b"\0\1reliable", topic="chat")
            (packet,) = await receiver.seen("data_received", lambda p: p.data == b"\0\1reliable")
            assert (packet.participant.identity, packet.topic) == (sender.identity, "chat")
            assert packet.kind == receiver.sdk.DataPacketKind.KIND_RELIABLE
            await sender.me.publish_data("lossy", reliable=False, destination_identities=[receiver.identity])
            (packet,) = await receiver.seen("data_received", lambda p: p.data == b"lossy")
            assert packet.kind == receiver.sdk.DataPacketKind.KIND_LOSSY


@all_pairs
async def test_many_messages_in_order(room_server: RoomServer, first: str, second: str) -> None:
    async with in_room(room_server, first, second) as (alice, bob):
        for number in range(300):
            await alice.me.publish_data(str(number) + "x" * 5000)
        await bob.seen("data_received", lambda p: p.data.startswith(b"299x"))
        numbers = [int(p.data.rstrip(b"x")) for (p,) in bob.events("data_received")]
        assert numbers == list(range(300))


@both_modes
@all_pairs
@pytest.mark.parametrize("text", ["short", "long and varied €" * 30_000])
async def test_text_streams(room_server: RoomServer, first: str, second: str, dual: bool, text: str) -> None:
    async with in_room(room_server, first, second, dual=dual) as (alice, bob):
        got: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        bob.room.register_text_stream_handler("t", lambda reader, identity: got.set_result((reader, identity)))
        info = await alice.me.send_text(text, topic="t", attributes={"k": "v"})
        async with asyncio.timeout(WAIT):
            reader, identity = await got
            assert await reader.read_all() == text
        assert identity == "alice"
        assert reader.info.stream_id == info.stream_id
        assert reader.info.attributes["k"] == "v"


@all_pairs
async def test_text_written_bit_by_bit(room_server: RoomServer, first: str, second: str) -> None:
    async with in_room(room_server, first, second) as (alice, bob):
        got: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        bob.room.register_text_stream_handler("t", lambda reader, identity: got.set_result(reader))
        writer = await alice.me.stream_text(topic="t")
        await writer.write("one ")
        async with asyncio.timeout(WAIT):
            reader = await got
            await writer.write("two")
            await writer.aclose()
            assert "".join([piece async for piece in reader]) == "one two"


@all_pairs
async def test_files(room_server: RoomServer, first: str, second: str, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(bytes(range(256)) * 1000)
    async with in_room(room_server, first, second) as (alice, bob):
        got: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        bob.room.register_byte_stream_handler("f", lambda reader, identity: got.set_result(reader))
        await alice.me.send_file(str(path), topic="f")
        async with asyncio.timeout(WAIT):
            reader = await got
            assert b"".join([piece async for piece in reader]) == path.read_bytes()
        assert reader.info.name == "data.bin"


@both_modes
@all_pairs
async def test_calls(room_server: RoomServer, first: str, second: str, dual: bool) -> None:
    async with in_room(room_server, first, second, dual=dual) as (alice, bob):

        async def double(data: Any) -> str:
            assert data.caller_identity == "alice"
            return data.payload * 2

        def fail(data: Any) -> str:
            raise bob.sdk.RpcError(1, "no", "because")

        bob.me.register_rpc_method("double", double)
        bob.me.register_rpc_method("fail", fail)

        async def call(method: str, payload: str = "") -> str:
            return await alice.me.perform_rpc(destination_identity="bob", method=method, payload=payload)

        assert await call("double", "ab") == "abab"
        assert await call("double", "ab" * 20_000) == "ab" * 40_000
        with pytest.raises(alice.sdk.RpcError) as error:
            await call("fail")
        assert (error.value.code, error.value.message, error.value.data) == (1, "no", "because")
        with pytest.raises(alice.sdk.RpcError) as error:
            await call("unknown")
        assert error.value.code == 1400


@all_pairs
async def test_names_metadata_and_attributes(room_server: RoomServer, first: str, second: str) -> None:
    async with in_room(room_server, first, second) as (alice, bob):
        await alice.me.set_metadata("meta")
        await bob.seen("participant_metadata_changed", lambda p, old, new: (old, new) == ("", "meta"))
        await alice.me.set_name("Alice A.")
        await bob.seen("participant_name_changed", lambda p, old, new: new == "Alice A.")
        await alice.me.set_attributes({"mood": "good"})
        await bob.seen("participant_attributes_changed", lambda changed, p: changed == {"mood": "good"})
        seen = bob.room.remote_participants["alice"]
        assert (seen.name, seen.metadata, seen.attributes) == ("Alice A.", "meta", {"mood": "good"})
        await alice.seen("participant_attributes_changed")
        assert alice.me.attributes == {"mood": "good"}


@all_pairs
async def test_transcriptions_of_agents(room_server: RoomServer, first: str, second: str) -> None:
    async with in_room(room_server, first, second, agent=True) as (alice, bob):
        segment = alice.sdk.TranscriptionSegment(
            id="S1", text="hello", start_time=10, end_time=20, language="en", final=True
        )
        await alice.me.publish_transcription(alice.sdk.Transcription("alice", "TR_any", [segment]))
        segments, participant, _ = await bob.seen("transcription_received")
        assert [(s.id, s.text, s.final) for s in segments] == [("S1", "hello", True)]
        assert participant.identity == "alice"


@all_pairs
async def test_data_tracks(room_server: RoomServer, first: str, second: str) -> None:
    async with in_room(room_server, first, second) as (alice, bob):
        local = await alice.me.publish_data_track(name="pose")
        (remote,) = await bob.seen("data_track_published")
        assert (remote.info.name, remote.publisher_identity) == ("pose", "alice")
        stream = remote.subscribe()

        async def push() -> None:
            number = 0
            while True:
                local.try_push(alice.sdk.DataTrackFrame(payload=f"frame {number}".encode(), user_timestamp=77))
                number += 1
                await asyncio.sleep(0.05)

        pushing = asyncio.create_task(push())
        try:
            async with asyncio.timeout(WAIT):
                frame = await stream.read()
        finally:
            pushing.cancel()
        assert frame.payload.startswith(b"frame ")
        assert frame.user_timestamp == 77

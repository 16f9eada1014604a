"""Data streams between two rooms: every size and every kind of receiver."""

import asyncio
import random
from pathlib import Path

import pytest
from livekit.protocol import models

from greenroom import rtc
from tests.unit.rtc_link import Link

BIG = "".join(random.Random(1).choices("aöü€🎈 ", k=40_000))


async def _receive_text(link: Link, **send: object) -> tuple[str, rtc.TextStreamReader]:
    got: asyncio.Future[rtc.TextStreamReader] = asyncio.get_running_loop().create_future()
    link.rooms["bob"].register_text_stream_handler("t", lambda reader, identity: got.set_result(reader))
    await link["alice"].send_text(topic="t", **send)  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        reader = await got
        return await reader.read_all(), reader


@pytest.mark.parametrize("protocol", [0, 1, 2])
@pytest.mark.parametrize("text", ["", "hello", BIG])
async def test_text_arrives_whole(protocol: int, text: str) -> None:
    link = Link(alice=2, bob=protocol)
    received, reader = await _receive_text(link, text=text, attributes={"a": "b"})
    assert received == text
    assert reader.info.attributes == {"a": "b"}
    assert reader.info.size == len(text.encode())
    assert all(packet.ByteSize() <= 15_100 for packet in link.sessions["alice"].sent)


async def test_short_text_is_one_packet_for_those_who_can() -> None:
    link = Link(alice=2, bob=2)
    await _receive_text(link, text="hello")
    assert link.sessions["alice"].kinds() == ["stream_header"]
    link = Link(alice=2, bob=2, carol=1)
    await _receive_text(link, text="hello")
    assert link.sessions["alice"].kinds() == ["stream_header", "stream_chunk", "stream_trailer"]
    link = Link(alice=2, bob=2, carol=1)
    await _receive_text(link, text="hello", destination_identities=["bob"])
    assert link.sessions["alice"].kinds() == ["stream_header"]


async def test_long_repetitive_text_is_compressed_into_one_packet() -> None:
    link = Link(alice=2, bob=2)
    received, _ = await _receive_text(link, text="again " * 20_000)
    assert received == "again " * 20_000
    [packet] = link.sessions["alice"].sent
    assert packet.stream_header.compression == models.DataStream.CompressionType.DEFLATE_RAW


async def test_the_trailer_goes_to_the_destinations_only() -> None:
    link = Link(alice=2, bob=0, carol=0)
    await _receive_text(link, text="x", destination_identities=["bob"])
    assert all(list(packet.destination_identities) == ["bob"] for packet in link.sessions["alice"].sent)


async def test_writers_stream_piece_by_piece() -> None:
    link = Link(alice=2, bob=2)
    pieces: asyncio.Queue[str] = asyncio.Queue()

    async def handler(reader: rtc.TextStreamReader, identity: str) -> None:
        async for piece in reader:
            pieces.put_nowait(piece)
        pieces.put_nowait(f"end of {identity}: {reader.info.attributes}")

    link.rooms["bob"].register_text_stream_handler("t", handler)
    writer = await link["alice"].stream_text(topic="t")
    async with asyncio.timeout(5):
        for word in ("one ", "two"):
            await writer.write(word)
            assert await pieces.get() == word
        await writer.aclose(attributes={"final": "yes"})
        await writer.aclose()
        assert await pieces.get() == "end of alice: {'final': 'yes'}"
    with pytest.raises(RuntimeError, match="closed"):
        await writer.write("three")


async def test_streams_on_behalf_of_somebody_else() -> None:
    link = Link(alice=2, bob=2)
    seen: list[str] = []
    link.rooms["bob"].register_text_stream_handler("t", lambda reader, identity: seen.append(identity))
    writer = await link["alice"].stream_text(topic="t", sender_identity="carol")
    await writer.aclose()
    assert seen == ["carol"]


@pytest.mark.parametrize("protocol", [0, 2])
@pytest.mark.parametrize("size", [0, 10, 14_000, 100_000, 400_000])
async def test_files(tmp_path: Path, protocol: int, size: int) -> None:
    path = tmp_path / "noise.png"
    data = random.Random(size).randbytes(size)
    path.write_bytes(data)
    link = Link(alice=2, bob=protocol)
    got: asyncio.Future[rtc.ByteStreamReader] = asyncio.get_running_loop().create_future()
    link.rooms["bob"].register_byte_stream_handler("f", lambda reader, identity: got.set_result(reader))
    async with asyncio.timeout(10):
        await link["alice"].send_file(str(path), topic="f")
        reader = await got
        assert await reader.read_all() == data
    assert (reader.info.name, reader.info.mime_type, reader.info.size) == ("noise.png", "image/png", size)


async def test_a_reader_fails_when_the_sender_leaves() -> None:
    link = Link(alice=2, bob=2)
    got: asyncio.Future[rtc.TextStreamReader] = asyncio.get_running_loop().create_future()
    link.rooms["bob"].register_text_stream_handler("t", lambda reader, identity: got.set_result(reader))
    writer = await link["alice"].stream_text(topic="t")
    await writer.write("half")
    link.leave("alice")
    reader = await got
    assert await reader.__anext__() == "half"
    with pytest.raises(rtc.StreamError, match="left"):
        await reader.__anext__()


async def test_an_abnormal_end_is_an_error() -> None:
    link = Link(alice=2, bob=2)
    got: asyncio.Future[rtc.TextStreamReader] = asyncio.get_running_loop().create_future()
    link.rooms["bob"].register_text_stream_handler("t", lambda reader, identity: got.set_result(reader))
    with pytest.raises(ZeroDivisionError):
        async with await link["alice"].stream_text(topic="t"):
            1 / 0  # noqa: B018
    with pytest.raises(rtc.StreamError, match="abnormally"):
        await (await got).read_all()


def _header(**fields: object) -> models.DataStream.Header:
    header = models.DataStream.Header(stream_id="s", topic="t", **fields)  # type: ignore[arg-type]
    header.byte_header.name = "x"
    return header


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([("chunk", 0, b"ab"), ("chunk", 2, b"ef")], "chunk 1 of stream s was lost"),
        ([("chunk", 0, b"ab"), ("trailer",)], "ended after 2 of 4 bytes"),
        ([("chunk", 0, b"abcdefg")], "exceeds 6 bytes"),
    ],
)
async def test_broken_streams(steps: list[tuple], error: str) -> None:
    link = Link(alice=2, bob=2)
    streams = link.rooms["bob"]._core.streams
    streams.max_payload = 6
    readers: list[rtc.ByteStreamReader] = []
    link.rooms["bob"].register_byte_stream_handler("t", lambda reader, _: readers.append(reader))
    streams.handle_header(_header(total_length=4), "alice")
    for kind, *rest in steps:
        if kind == "chunk":
            chunk = models.DataStream.Chunk(stream_id="s", chunk_index=rest[0], content=rest[1])
            streams.handle_chunk(chunk, "alice")
        else:
            streams.handle_trailer(models.DataStream.Trailer(stream_id="s"), "alice")
    with pytest.raises(rtc.StreamError, match=error):
        await readers[0].read_all()


async def test_garbage_that_claims_to_be_compressed_is_an_error() -> None:
    link = Link(alice=2, bob=2)
    readers: list[rtc.ByteStreamReader] = []
    link.rooms["bob"].register_byte_stream_handler("t", lambda reader, _: readers.append(reader))
    header = _header(compression=models.DataStream.CompressionType.DEFLATE_RAW, inline_content=b"\xff\xff\xff\xff")
    link.rooms["bob"]._core.streams.handle_header(header, "alice")
    with pytest.raises(rtc.StreamError, match="decompressed"):
        await readers[0].read_all()


async def test_another_participant_cannot_write_into_a_stream() -> None:
    link = Link(alice=2, bob=2)
    readers: list[rtc.ByteStreamReader] = []
    link.rooms["bob"].register_byte_stream_handler("t", lambda reader, _: readers.append(reader))
    streams = link.rooms["bob"]._core.streams
    streams.handle_header(_header(), "alice")
    streams.handle_chunk(models.DataStream.Chunk(stream_id="s", chunk_index=0, content=b"evil"), "mallory")
    streams.handle_chunk(models.DataStream.Chunk(stream_id="s", chunk_index=0, content=b"good"), "alice")
    streams.handle_chunk(models.DataStream.Chunk(stream_id="s", chunk_index=0, content=b"again"), "alice")
    streams.handle_trailer(models.DataStream.Trailer(stream_id="s"), "alice")
    assert await readers[0].read_all() == b"good"


def test_a_topic_has_one_handler_and_rpc_keeps_its_own() -> None:
    room = rtc.Room()
    room.register_text_stream_handler("t", lambda *_: None)
    with pytest.raises(ValueError, match="already set"):
        room.register_text_stream_handler("t", lambda *_: None)
    room.unregister_text_stream_handler("t")
    room.register_text_stream_handler("t", lambda *_: None)
    with pytest.raises(ValueError, match="RPC"):
        room.register_text_stream_handler("lk.rpc_request", lambda *_: None)

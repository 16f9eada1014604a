"""Two peer connections that this program holds, joined over loopback: real ICE, DTLS, RTP and SCTP, no room."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator

import numpy as np
import pytest

from greenroom import rtc
from greenroom.rtc import sdp as descriptions
from tests.conftest import until
from tests.unit.rtc_link import Link

from .peer_sides import Side, connect, ends, frequency, quiet, shows

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 30), (30, 30, 220), (230, 230, 230)
Audio, Video = rtc.RemoteAudioTrack, rtc.RemoteVideoTrack


def near(heard: float, wanted: float) -> bool:
    return abs(heard - wanted) < 8


async def test_sound_and_pictures_both_ways_with_one_offer():
    async with Side("ann") as ann, Side("ben") as ben:
        options = rtc.TrackPublishOptions(stream="ann-stream")
        sent = [ann.pc.add_track(ann.tone(400), options), ann.pc.add_track(ann.picture(RED, BLUE), options)]
        ben.pc.add_track(ben.tone(700))
        ben.pc.add_track(ben.picture(GREEN, WHITE))
        assert ann.pc.connection_state == "new" and ann.pc.signaling_state == "stable"
        await connect(ann, ben)
        assert ann.states == ben.states == ["connecting", "connected"]
        # One section per kind carries both directions, and is known by its mid at once.
        assert [each.current_direction for each in ann.pc.transceivers] == ["sendrecv"] * 2
        assert [each.mid for each in ann.pc.transceivers] == [each.mid for each in ben.pc.transceivers]
        assert [each.mid for each in sent] == [each.mid for _, each in ben.tracks]
        assert [each.remote_stream_ids for _, each in ben.tracks] == [("ann-stream",)] * 2
        assert all(track.sid == each.remote_track_id for track, each in ben.tracks)
        heard = await asyncio.gather(frequency(await ben.track(Audio)), frequency(await ann.track(Audio)))
        assert near(heard[0], 400) and near(heard[1], 700), heard
        await shows(await ben.track(Video), RED, BLUE)
        await shows(await ann.track(Video), GREEN, WHITE)
        assert not ann.pc.negotiation_needed and not ben.pc.negotiation_needed

        def kinds(entries: list[rtc.stats.RtcStats]) -> set[tuple[str | None, str]]:
            found = set()
            for entry in entries:
                which = entry.WhichOneof("stats")
                flow = entry.inbound_rtp if which == "inbound_rtp" else entry.outbound_rtp
                packets = flow.received.packets_received if which == "inbound_rtp" else flow.sent.packets_sent
                if which in ("inbound_rtp", "outbound_rtp") and packets > 10:
                    found.add((which, flow.stream.kind))
            return found

        wanted = {(flow, kind) for flow in ("inbound_rtp", "outbound_rtp") for kind in ("audio", "video")}

        async def all_counted() -> bool:
            return kinds(await ann.pc.stats()) == wanted

        await until(all_counted, "figures of each kind in each direction")
        [path, *_] = await ann.pc.stats()
        pair = path.candidate_pair.candidate_pair
        assert pair.bytes_sent > 1000 and pair.bytes_received > 1000


async def test_mute_and_unmute():
    async with Side("ann") as ann, Side("ben") as ben:
        sender = ann.pc.add_track(ann.tone(400), direction="sendonly")
        await connect(ann, ben)
        assert [each.current_direction for each in ben.pc.transceivers] == ["recvonly"]
        track = await ben.track(Audio)
        assert near(await frequency(track), 400)
        async with rtc.AudioStream(track) as stream:
            await quiet(stream, False)
            sender.mute()
            assert sender.muted
            await quiet(stream, True)
            sender.unmute()
            await quiet(stream, False)
        assert near(await frequency(track), 400)
        assert not ann.pc.negotiation_needed


async def test_adding_removing_and_using_a_section_again():
    async with Side("ann") as ann, Side("ben") as ben:
        first = ann.tone(400, "first")
        sender = ann.pc.add_track(first, rtc.TrackPublishOptions(stream="one"), direction="sendonly")
        await connect(ann, ben)
        heard = await ben.track(Audio)
        mid = sender.mid
        stream = rtc.AudioStream(heard)

        # A second one beside it.
        beside = ann.pc.add_track(ann.picture(RED, BLUE), direction="sendonly")
        await until(lambda: ann.needed, "the program is told that an offer is due")
        await ann.pc.negotiate(ben.pc.accept_offer)
        await shows(await ben.track(Video), RED, BLUE)
        assert near(await frequency(heard), 400) and len(ben.tracks) == 2, "what was there stays the same object"

        # The first goes; its streams end.
        ann.pc.remove_track(first)
        await ann.pc.negotiate(ben.pc.accept_offer)
        assert ben.ended == [heard]
        await ends(stream)
        await ends(rtc.AudioStream(heard))
        assert [each.current_direction for each in ben.pc.transceivers] == ["inactive", "recvonly"]

        # Another one takes its section: no third section, a new track.
        again = ann.pc.add_track(ann.tone(900, "again"), rtc.TrackPublishOptions(stream="two"), direction="sendonly")
        assert again is sender and again.mid == mid
        await ann.pc.negotiate(ben.pc.accept_offer)
        track = await ben.track(Audio, 2)
        assert track is not heard and ben.tracks[-1][1].mid == mid
        assert ben.tracks[-1][1].remote_stream_ids == ("two",)
        assert near(await frequency(track), 900)
        assert len(descriptions.sections(ann.pc.local_description)) == 2
        # The removed track may be sent again, by another connection too.
        with pytest.raises(ValueError, match="sent by a connection already"):
            ann.pc.add_track(beside.local_track)
        ben.pc.add_track(first)
        await ben.pc.negotiate(ann.pc.accept_offer)
        assert near(await frequency(await ann.track(Audio)), 400)


async def test_a_gateway_that_uses_its_sections_for_other_streams():
    """As Janus does for multistream subscriptions: the section stays, its name changes in the gateway's next offer."""
    async with Side("gateway") as gateway, Side("ben") as ben:
        tracks = {hz: gateway.tone(hz) for hz in (400, 700, 1000)}
        for hz in (400, 700):
            gateway.pc.add_track(tracks[hz], rtc.TrackPublishOptions(stream=f"feed-{hz}"), direction="sendonly")
        await connect(gateway, ben)
        by_feed = {each.remote_stream_ids[0]: (track, each.mid) for track, each in ben.tracks}
        for hz in (400, 700):
            assert near(await frequency(by_feed[f"feed-{hz}"][0]), hz)
        old, mid = by_feed["feed-400"]
        stream = rtc.AudioStream(old)
        # Removed and used again within one offer: the section never is inactive, only its name changes.
        gateway.pc.remove_track(tracks[400])
        gateway.pc.add_track(tracks[1000], rtc.TrackPublishOptions(stream="feed-1000"), direction="sendonly")
        await gateway.pc.negotiate(ben.pc.accept_offer)
        assert ben.ended == [old]
        await ends(stream)
        track, each = ben.tracks[-1]
        assert (each.mid, each.remote_stream_ids) == (mid, ("feed-1000",))
        assert near(await frequency(track), 1000)
        assert near(await frequency(by_feed["feed-700"][0]), 700), "the other one is not disturbed"
        assert len(ben.tracks) == 3


async def test_what_is_not_wanted_is_not_received():
    async with Side("ann") as ann, Side("ben") as ben:
        ann.pc.add_track(ann.tone(400), direction="sendonly")
        await connect(ann, ben)
        heard, section = ben.tracks[0]
        ben.pc.set_receiving(section, False)
        assert section.direction == "inactive"
        await ben.pc.negotiate(ann.pc.accept_offer)
        assert ben.ended == [heard] and section.current_direction == "inactive"
        # It stays so in an offer of the other side, until the program changes its mind.
        await ann.pc.negotiate(ben.pc.accept_offer)
        assert section.current_direction == "inactive" and len(ben.tracks) == 1
        ben.pc.set_receiving(section, True)
        await ben.pc.negotiate(ann.pc.accept_offer)
        assert near(await frequency(await ben.track(Audio, 2)), 400)


async def test_an_offered_section_is_answered_with_our_track():
    """What a WHEP server does: the other side offers to receive and nothing else."""
    async with Side("viewer") as viewer, Side("server") as server:
        viewer.pc.add_transceiver("audio", "recvonly")
        viewer.pc.add_transceiver("video", "recvonly")
        server.pc.add_track(server.tone(500))
        server.pc.add_track(server.picture(BLUE, GREEN))
        await connect(viewer, server)
        assert [each.current_direction for each in server.pc.transceivers] == ["sendonly"] * 2
        assert near(await frequency(await viewer.track(Audio)), 500)
        await shows(await viewer.track(Video), BLUE, GREEN)
        assert not server.tracks and not server.pc.negotiation_needed


async def test_data_channels():
    async with Side("ann") as ann, Side("ben") as ben:
        chat = ann.pc.create_data_channel("chat")
        lossy = ann.pc.create_data_channel("lossy", ordered=False, max_retransmits=0)
        assert chat.ready_state == "connecting"
        with pytest.raises(rtc.ConnectError, match="connecting, not open"):
            await chat.send("too early")
        with pytest.raises(ValueError, match="already"):
            ann.pc.create_data_channel("chat")
        await connect(ann, ben)
        await asyncio.gather(chat.wait_open(), lossy.wait_open())
        await chat.send("grüße")
        await chat.send(b"\x00\xff")
        await lossy.send(memoryview(b"lossy"))
        await until(lambda: len(ben.channels) == 2, "both channels are there")
        theirs = {channel.label: channel for channel in ben.channels}
        got: list[str | bytes] = []
        # Messages that came before anybody listened are not lost.
        await asyncio.sleep(0.3)
        theirs["chat"].on("message", got.append)
        await until(lambda: got == ["grüße", b"\x00\xff"], "text as text, bytes as bytes, in their order")

        # One that the answerer opens, without a negotiation.
        back: list[str | bytes] = []
        opened = ben.pc.create_data_channel("back")
        assert not ben.pc.negotiation_needed
        await opened.wait_open()
        await until(lambda: len(ann.channels) == 1, "the channel is there")
        ann.channels[0].on("message", back.append)
        await opened.send("hello")
        await until(lambda: back == ["hello"], "its message")

        # Ten megabytes: sending waits for room, drained is drained.
        received = 0

        def count(message: str | bytes) -> None:
            nonlocal received
            received += len(message)

        theirs["chat"].on("message", count)
        for _ in range(160):
            await chat.send(bytes(64_000))
            assert chat.buffered_amount <= (1 << 20) + 64_000
        await chat.wait_drained()
        assert chat.buffered_amount <= 64 << 10
        await until(lambda: received == 160 * 64_000, "all of it")
        with pytest.raises(ValueError, match="limit"):
            await chat.send(bytes(300_000))
        with pytest.raises(ValueError, match="empty"):
            await chat.send("")

        # Closed for one is closed for both; the label is free again.
        closed: list[str] = []
        theirs["chat"].on("close", lambda: closed.append("theirs"))
        await chat.aclose()
        await chat.aclose()
        assert chat.ready_state == "closed"
        await until(lambda: closed == ["theirs"], "the other side learns it")
        with pytest.raises(rtc.ConnectError, match="closed"):
            await theirs["chat"].send("gone")


async def test_a_label_is_used_again():
    async with Side("ann") as ann, Side("ben") as ben:
        first = ann.pc.create_data_channel("chat")
        await connect(ann, ben)
        await first.wait_open()
        got: list[str | bytes] = []
        for round in range(3):
            await until(lambda: ben.channels and ben.channels[-1].ready_state == "open", "ben has the channel")
            await first.aclose()

            def free() -> rtc.DataChannel | None:
                try:
                    return ann.pc.create_data_channel("chat")
                except ValueError:
                    return None

            # The new one may be there before the old one's end: then both are one object for the other side.
            first = await until(free, "the label is free")
            await first.wait_open()
            await first.send(f"round {round}")

            def heard(wanted: str = f"round {round}") -> bool:
                ben.channels[-1].on("message", got.append)
                return wanted in got

            await until(heard, "the message")
            assert first.ready_state == ben.channels[-1].ready_state == "open"


async def test_a_new_path_while_media_flow():
    async with Side("ann") as ann, Side("ben") as ben:
        ann.pc.add_track(ann.tone(400))
        await connect(ann, ben)
        track = await ben.track(Audio)
        before = ann.pc.local_description
        await ann.pc.negotiate(ben.pc.accept_offer, ice_restart=True)

        def ufrag(text: str) -> str:
            return next(line for line in text.splitlines() if line.startswith("a=ice-ufrag:"))

        assert ufrag(ann.pc.local_description) != ufrag(before)
        await asyncio.gather(ann.pc.wait_connected(), ben.pc.wait_connected())
        assert near(await frequency(track, 2.0), 400) and not ben.ended
        # And one that the other side asks for.
        ben.pc.restart_ice()
        assert ben.pc.negotiation_needed
        await ben.pc.negotiate(ann.pc.accept_offer)
        assert not ben.pc.negotiation_needed
        assert near(await frequency(track, 1.0), 400)


async def test_both_offer_at_once():
    async with Side("ann") as ann, Side("ben") as ben:
        ann.pc.add_track(ann.tone(400), direction="sendonly")
        ann.pc.create_data_channel("chat")
        ben.pc.add_track(ben.tone(700), direction="sendonly")
        theirs, ours = await ben.pc.create_offer(), await ann.pc.create_offer()
        assert ann.pc.signaling_state == ben.pc.signaling_state == "have-local-offer"
        with pytest.raises(rtc.ConnectError, match="waits for its answer"):
            await ann.pc.create_offer()
        # Ann gives way; Ben does not look at what she offered.
        await ben.pc.set_answer(await ann.pc.accept_offer(theirs))
        assert ours != ann.pc.local_description
        await until(lambda: ann.needed, "what she wanted is not forgotten")
        await ann.pc.negotiate(ben.pc.accept_offer)
        await asyncio.gather(ann.pc.wait_connected(), ben.pc.wait_connected())
        heard = await asyncio.gather(frequency(await ben.track(Audio)), frequency(await ann.track(Audio)))
        assert near(heard[0], 400) and near(heard[1], 700), heard
        await until(lambda: [channel.label for channel in ben.channels] == ["chat"], "the channel as well")


async def test_offers_take_turns_and_unanswered_ones_are_taken_back():
    async with Side("ann") as ann, Side("ben") as ben:
        ann.pc.add_track(ann.tone(400))

        async def never(offer: str) -> str:
            await asyncio.sleep(60)
            raise AssertionError("unreachable")

        with pytest.raises(rtc.ConnectError, match=r"not answered within 0\.2 s"):
            await ann.pc.negotiate(never, timeout=0.2)
        assert ann.pc.signaling_state == "stable" and ann.pc.negotiation_needed

        async def refused(offer: str) -> str:
            raise OSError("the gateway is down")

        with pytest.raises(OSError, match="gateway"):
            await ann.pc.negotiate(refused)
        await asyncio.gather(*(ann.pc.negotiate(ben.pc.accept_offer) for _ in range(3)))
        await ben.pc.wait_connected()
        assert near(await frequency(await ben.track(Audio)), 400)


async def test_candidates_that_come_by_themselves():
    async with Side("ann") as ann, Side("ben") as ben:
        ann.pc.create_data_channel("chat")
        offer = await ann.pc.create_offer()
        lines = offer.splitlines()
        candidates = [line[2:] for line in lines if line.startswith("a=candidate:")]
        assert candidates, "an offer has all candidates of this side"
        for candidate in [*candidates, "candidate:1 1 tcp 1 127.0.0.1 9 typ host", "", None]:
            await ben.pc.add_ice_candidate(candidate)
        with pytest.raises(ValueError, match="'rubbish' is no candidate"):
            await ben.pc.add_ice_candidate("rubbish")
        for number in range(200):
            await ben.pc.add_ice_candidate(f"candidate:{number} 1 udp 1 192.0.2.1 9 typ host")
        bare = "\r\n".join(line for line in lines if not line.startswith("a=candidate:")) + "\r\n"
        answer = await ben.pc.accept_offer(bare)
        await ann.pc.set_answer(
            "\r\n".join(li for li in answer.splitlines() if not li.startswith("a=candidate:")) + "\r\n"
        )
        await asyncio.gather(ann.pc.wait_connected(), ben.pc.wait_connected())


async def test_who_waits_for_room_on_a_channel_learns_of_a_goodbye():
    async with Side("ann") as ann, Side("ben") as ben:
        chat = ann.pc.create_data_channel("chat")
        await connect(ann, ben)
        await chat.wait_open()
        sending = [asyncio.create_task(chat.send(bytes(200_000), timeout=60)) for _ in range(20)]
        draining = asyncio.create_task(chat.wait_drained(60))
        await asyncio.sleep(0)
        assert not all(task.done() for task in sending), "more than the buffer takes"
        await ben.pc.aclose()
        done, waiting = await asyncio.wait([*sending, draining], timeout=10)
        assert not waiting
        assert all(isinstance(task.exception(), rtc.ConnectError | None) for task in done)
        assert "was closed" in str(draining.exception()) and "was closed" in str(sending[-1].exception())


async def test_a_goodbye_and_a_second_close():
    async with Side("ann") as ann, Side("ben") as ben:
        ann.pc.add_track(ann.tone(400))
        ours = ben.tone(700)
        ben.pc.add_track(ours)
        chat = ben.pc.create_data_channel("chat")
        await connect(ann, ben)
        if ben.pc.negotiation_needed:
            await ben.pc.negotiate(ann.pc.accept_offer)
        await chat.wait_open()
        track = await ben.track(Audio)
        stream = rtc.AudioStream(track)
        await ann.pc.aclose()
        await ann.pc.aclose()
        assert ann.states[-1] == ann.pc.connection_state == "closed"
        await until(lambda: ben.pc.connection_state == "failed", "ben learns it", 3)
        assert "closed the connection" in ben.pc.failure
        assert ben.ended == [track] and chat.ready_state == "closed"
        assert ben.pc.transceivers[0].local_track is None, "the track is free"
        async with Side("cleo") as cleo:
            cleo.pc.add_track(ours)
        await ends(stream)
        for call in (ben.pc.create_offer(), ben.pc.wait_connected(), ann.pc.create_offer(), ann.pc.wait_connected()):
            with pytest.raises(rtc.ConnectError, match="closed"):
                await call
        assert await ann.pc.stats() == await ben.pc.stats() == []


ELSEWHERE = """
import asyncio, sys
from greenroom import rtc

async def main():
    pc = rtc.PeerConnection()
    while line := await asyncio.to_thread(sys.stdin.buffer.readline):
        offer = (await asyncio.to_thread(sys.stdin.buffer.read, int(line))).decode()
        answer = (await pc.accept_offer(offer)).encode()
        sys.stdout.buffer.write(b"%d\\n" % len(answer) + answer)
        sys.stdout.buffer.flush()

asyncio.run(main())
"""


class Elsewhere:
    """A peer connection in a process of its own, that answers offers."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def answer(self, offer: str) -> str:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(b"%d\n" % len(offer.encode()) + offer.encode())
        await stdin.drain()
        return (await stdout.readexactly(int(await stdout.readline()))).decode()


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ELSEWHERE, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    yield Elsewhere(process)
    if process.returncode is None:
        process.kill()
        await process.wait()


async def test_one_side_vanishes(elsewhere: Elsewhere):
    async with Side("ann", disconnect_timeout=1.0) as ann:
        ann.pc.add_track(ann.tone(400))
        await ann.pc.negotiate(elsewhere.answer)
        await ann.pc.wait_connected()
        elsewhere.process.kill()
        await until(lambda: "disconnected" in ann.states, "the loss is noticed", 30)
        await until(lambda: ann.pc.connection_state == "failed", "and given up", 5)
        with pytest.raises(rtc.ConnectError, match="did not come back within 1 s"):
            await ann.pc.wait_connected()


async def test_a_failed_connection_comes_back(elsewhere: Elsewhere):
    async with Side("ann", disconnect_timeout=0.5) as ann:
        chat = ann.pc.create_data_channel("chat")
        await ann.pc.negotiate(elsewhere.answer)
        await chat.wait_open()
        elsewhere.process.send_signal(signal.SIGSTOP)
        await until(lambda: ann.pc.connection_state == "failed", "the loss is noticed", 30)
        elsewhere.process.send_signal(signal.SIGCONT)
        await ann.pc.negotiate(elsewhere.answer, ice_restart=True)
        await until(lambda: ann.pc.connection_state == "connected", "it is back")
        assert not ann.pc.failure
        await chat.send("still here")
        await chat.wait_drained()


async def test_nobody_is_there():
    async with Side("ann", connect_timeout=1.0) as ann, Side("ben") as ben:
        ann.pc.create_data_channel("chat")
        answer = await ben.pc.accept_offer(await ann.pc.create_offer())
        await ben.pc.aclose()
        await ann.pc.set_answer(answer)
        with pytest.raises(rtc.ConnectError, match=r"within 1 s|nothing within"):
            await ann.pc.wait_connected(5)
        assert ann.states == ["connecting", "failed"]


async def test_garbage_for_descriptions():
    chance = random.Random(7)
    async with Side("ann") as ann, Side("ben") as ben:
        with pytest.raises(rtc.ConnectError, match="nothing to offer"):
            await ann.pc.create_offer()
        with pytest.raises(rtc.ConnectError, match="no offer waits"):
            await ann.pc.set_answer("v=0")
        ann.pc.add_track(ann.tone(400))
        ben.pc.add_track(ben.tone(700))
        offer = await ann.pc.create_offer()
        without = {
            name: "\r\n".join(li for li in offer.splitlines() if name not in li) for name in ("fingerprint", "a=mid")
        }
        bad = ["", "hello", "v=0", "v=0\r\n", "\0" * 100, "v=0\r\nm=audio x\r\n", "v=0" * 500_000, *without.values()]
        for text in bad:
            with pytest.raises(ValueError, match=r"\w+ \w+"):
                await ben.pc.accept_offer(text)
            with pytest.raises(ValueError, match=r"\w+ \w+"):
                await ann.pc.set_answer(text)
        with pytest.raises(ValueError, match="an offer or an answer"):
            await ben.pc.set_remote_description("pranswer", offer)  # type: ignore[arg-type]
        assert ann.pc.signaling_state == "have-local-offer", "an unreadable answer leaves the offer as it was"
        # Cut and scrambled ones: a sentence or an answer, never anything else, and never the end of the connection.
        for _ in range(150):
            async with Side("target") as target:
                target.pc.add_track(target.tone(700))
                characters = list(offer)
                for _ in range(chance.randrange(1, 30)):
                    characters[chance.randrange(len(characters))] = chr(chance.randrange(32, 127))
                text = "".join(characters)[: chance.randrange(50, len(offer) + 1)]
                try:
                    await target.pc.accept_offer(text)
                except (ValueError, rtc.ConnectError) as error:
                    assert str(error)
        # All of that left both sides as they were.
        await ann.pc.set_answer(await ben.pc.accept_offer(offer))
        await asyncio.gather(ann.pc.wait_connected(), ben.pc.wait_connected())
        assert near(await frequency(await ben.track(Audio)), 400)
        assert near(await frequency(await ann.track(Audio)), 700)


async def test_an_answer_that_does_not_fit_takes_the_offer_back():
    async with Side("ann") as ann, Side("ben") as ben, Side("cleo") as cleo:
        ann.pc.add_track(ann.tone(400))
        cleo.pc.create_data_channel("other")
        await ann.pc.create_offer()
        with pytest.raises(ValueError, match="cannot be used"):
            await ann.pc.set_answer(await ben.pc.accept_offer(await cleo.pc.create_offer()))
        assert ann.pc.signaling_state == "stable" and ann.pc.negotiation_needed


async def test_impossible_arguments():
    async with Side("ann") as ann:
        with pytest.raises(ValueError, match="not a local track"):
            ann.pc.add_track("microphone")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="recvonly"):
            ann.pc.add_transceiver("audio", "sendrecv")
        with pytest.raises(ValueError, match="audio or video"):
            ann.pc.add_transceiver("text")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="not sent by this connection"):
            ann.pc.remove_track(ann.tone(400))
        with pytest.raises(ValueError, match="max_retransmits"):
            ann.pc.create_data_channel("x", max_retransmits=-1)
        with pytest.raises(ValueError, match="bytes"):
            ann.pc.create_data_channel("x" * 300)
        track = ann.tone(500)
        ann.pc.remove_track(ann.pc.add_track(track))
        assert not ann.pc.transceivers and not ann.pc.negotiation_needed
    with pytest.raises(rtc.ConnectError, match="closed"):
        ann.pc.add_track(track)


async def test_a_track_is_sent_by_one_connection_at_a_time():
    room = Link(alice=2)["alice"]
    async with Side("ann") as ann, Side("ben") as ben:
        track = ann.tone(400)
        ann.pc.add_track(track)
        with pytest.raises(ValueError, match="sent by a connection already"):
            ben.pc.add_track(track)
        with pytest.raises(rtc.PublishTrackError, match="sent by a peer connection"):
            await room.publish_track(track)
        await ann.pc.aclose()
        ben.pc.add_track(track)


async def test_simulcast_on_a_section_of_its_own():
    async with Side("ann") as ann, Side("ben") as ben:
        source = rtc.VideoSource(640, 480)
        pixels = np.full((480, 640, 4), 255, np.uint8)
        pixels[:, :320, :3], pixels[:, 320:, :3] = RED, BLUE

        async def show() -> None:
            while True:
                source.capture_frame(rtc.VideoFrame(640, 480, rtc.VideoBufferType.RGBA, pixels.tobytes()))
                await asyncio.sleep(0.1)

        ann.feed(show())
        track = rtc.LocalVideoTrack.create_video_track("camera", source)
        ann.pc.add_track(track, rtc.TrackPublishOptions(simulcast=True), direction="sendonly")
        await connect(ann, ben)
        assert "a=simulcast:send" in ann.pc.local_description
        await shows(await ben.track(Video), RED, BLUE)

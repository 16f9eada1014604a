"""A participant on the `livekit` version that `livekit-agents` pins. Run by `test_pinned_livekit.py`, with that Python.

usage: pinned_participant.py URL TOKEN single|dual
Publishes a 440 Hz tone and a red picture, answers the RPC method `echo`, and prints one JSON line for each thing it gets:
{"version"}, {"data"}, {"text"}, {"hz"}, {"rgb"}. Ends when its standard input does.
"""

import asyncio
import json
import sys
from importlib.metadata import version

import numpy as np
from livekit import rtc


def say(**values):
    print(json.dumps(values), flush=True)


async def measure_tone(track):
    blocks = []
    async for event in rtc.AudioStream(track, sample_rate=48000, num_channels=1):
        block = np.frombuffer(event.frame.data, np.int16)
        if blocks or np.abs(block).max() > 500:
            blocks.append(block)
        if sum(map(len, blocks)) >= 48000:
            break
    samples = np.concatenate(blocks)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    say(hz=float(np.argmax(spectrum) * 48000 / len(samples)))


async def measure_colour(track):
    async for event in rtc.VideoStream(track, format=rtc.VideoBufferType.RGBA):
        frame = event.frame
        picture = np.frombuffer(frame.data, np.uint8).reshape(frame.height, frame.width, 4)
        colour = picture[frame.height // 2, frame.width // 2, :3].astype(int).tolist()
        if max(colour) > 60:  # not the black that a decoder may begin with
            say(rgb=colour)
            return


async def main(url, token, mode):
    room = rtc.Room()
    tasks = set()

    def spawn(work):
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    @room.on("track_subscribed")
    def subscribed(track, publication, participant):
        spawn(measure_tone(track) if track.kind == rtc.TrackKind.KIND_AUDIO else measure_colour(track))

    @room.on("data_received")
    def data(packet):
        say(data=packet.data.decode(), topic=packet.topic)

    async def read(reader):
        say(text=await reader.read_all())

    room.register_text_stream_handler("notes", lambda reader, identity: spawn(read(reader)))
    await room.connect(url, token, rtc.RoomOptions(single_peer_connection=mode == "single"))
    me = room.local_participant

    @me.register_rpc_method("echo")
    async def echo(call):
        return f"{call.caller_identity}:{call.payload}"

    microphone, camera = rtc.AudioSource(48000, 1, 200), rtc.VideoSource(320, 240)
    await me.publish_track(rtc.LocalAudioTrack.create_audio_track("mic", microphone))
    await me.publish_track(rtc.LocalVideoTrack.create_video_track("cam", camera))

    async def tone():
        for start in range(0, 48000 * 60, 480):
            samples = 9000 * np.sin(2 * np.pi * 440 * np.arange(start, start + 480) / 48000)
            await microphone.capture_frame(rtc.AudioFrame(samples.astype(np.int16).tobytes(), 48000, 1, 480))

    async def picture():
        red = np.zeros((240, 320, 4), np.uint8)
        red[:, :, 0], red[:, :, 3] = 200, 255
        frame = rtc.VideoFrame(320, 240, rtc.VideoBufferType.RGBA, red.tobytes())
        while True:
            camera.capture_frame(frame)
            await asyncio.sleep(0.05)

    spawn(tone())
    spawn(picture())
    say(version=version("livekit"))
    await asyncio.to_thread(sys.stdin.read)
    for task in list(tasks):
        task.cancel()
    await room.disconnect()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))

"""Live transcription, as printed in the talk "Software Participants in WebRTC Calls": only the imports are ours.

greenroom dev examples/02_transcription.py
greenroom call --say "What time is it?"     # in another terminal: it is heard, and answered by nobody
"""

from greenroom import rtc as livekit
from greenroom.agents import Agent
from greenroom.agents.transcription import Transcriber


class Transcription(Agent):
    def on_audio_track(
        self,
        track: livekit.Track,
        participant: livekit.Participant,
    ):
        transcriber = Transcriber(audio_track=track, callback=self._transcriber_cb)
        transcriber.start()

    def _transcriber_cb(self, event: Transcriber.Event):
        print(f"transcription event: {event.type} - text: {event.text} - seconds: {event.time_seconds}")

    def should_process(self, track: livekit.TrackPublication, participant: livekit.Participant) -> bool:
        if participant.identity != "caller":
            return False
        return track.kind == livekit.TrackKind.AUDIO

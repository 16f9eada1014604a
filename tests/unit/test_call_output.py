"""What a synthetic call prints, and how it judges what was understood."""

import io
import re
import struct
import wave

import pytest
from rich.console import Console

from greenroom.agents.caller import Call
from greenroom.agents.caller.ear import Ear
from greenroom.agents.caller.events import CallEvent, ExitCode
from greenroom.agents.caller.script import Line, UnreadableRecording, agreement, load_wav, speak
from greenroom.cli.transcript import CallPrinter
from tests.unit.speech_fakes import FakeTTS

TURN = {
    "latency_ms": 612,
    "agent_ms": {"endpointing": 480, "transcription": 3, "llm_first_token": 2, "tts_first_audio": 41, "total": 526},
}
EVENTS = [
    CallEvent("connected", 0.1, values={"room": "r", "identity": "caller", "ms": 31}),
    CallEvent("agent", 0.2, values={"identity": "agent-1", "listens": True, "ms": 200}),
    CallEvent("say", 0.3, "What is [bold]two plus two?"),
    CallEvent("understood", 0.4, "what is two", final=False),
    CallEvent("understood", 0.5, "what is two plus two"),
    CallEvent("caption", 0.6, "2 plus 2 is 4."),
    CallEvent("heard", 0.7, "two plus two is four"),
    CallEvent("turn", 0.8, values=TURN),
    CallEvent("end", 0.9, values={"exit_code": 0, "result": "success"}),
]


def printed(events, **console) -> str:
    out = io.StringIO()
    with CallPrinter(Console(file=out, highlight=False, **console)) as printer:
        for event in events:
            printer.show(event)
    return out.getvalue()


def test_plain_output_is_aligned_lines():
    assert printed(EVENTS, width=60).splitlines() == [
        "            joined room r as caller in 31 ms",
        "            agent-1 is there and listens, 200 ms after the start",
        "    caller  What is [bold]two plus two?",
        "understood  what is two ...",
        "understood  what is two plus two",
        "     agent  2 plus 2 is 4.",
        "     heard  two plus two is four",
        "   latency  612 ms from the end of speech to the first sound of the answer"
        "  (endpointing 480, transcription 3, first token 2, first speech 41)",
        "",
        "            every line was understood and answered",
    ]


def test_an_agent_that_does_not_say_that_it_listens_is_not_said_to_listen():
    event = CallEvent("agent", 0.2, values={"identity": "a", "listens": None, "ms": 4300})
    assert printed([event], width=80).strip() == "a is there (it does not say that it listens), 4300 ms after the start"


def test_what_is_written_is_shown_and_is_no_spoken_answer():
    end = CallEvent("end", 0.9, values={"exit_code": 3, "result": "not_answered"})
    chat = CallEvent("chat", 0.5, "Hello, caller!", values={"identity": "a"})
    assert printed([chat, end], width=80).split("\n")[:2] == [
        "      chat  Hello, caller!",
        "            answered in writing only",
    ]
    assert printed([end], width=80).strip() == "nobody answered"
    assert chat.as_json() == {"event": "chat", "at": 0.5, "text": "Hello, caller!", "identity": "a"}


def test_a_line_that_was_heard_and_not_answered_has_no_latency():
    turn = CallEvent("turn", 0.8, values={"latency_ms": None, "overlaps": False, "agent_ms": {}})
    end = CallEvent("end", 0.9, values={"exit_code": 0, "result": "success", "only_heard": "a"})
    assert printed([turn, end], width=80).split() == "every line was heard by a, which does not speak".split()


def test_an_answer_that_overlaps_the_line_has_no_latency():
    values = {"latency_ms": None, "overlaps": True, "agent_ms": {}}
    assert "no figure: the answer began before" in printed([CallEvent("turn", 0.8, values=values)], width=80)


def test_an_agent_that_failed_is_named_once_and_no_connection_is_blamed():
    error = CallEvent("error", 0.5, "the agent failed: ValueError: no model")
    end = CallEvent("end", 0.6, values={"exit_code": 1, "result": "agent_failed"})
    assert printed([EVENTS[0], error, end], width=80).splitlines()[1:] == [
        "     error  the agent failed: ValueError: no model"
    ]


def test_no_connection_is_said_of_a_call_that_never_had_one():
    end = CallEvent("end", 0.6, values={"exit_code": 5, "result": "not_connected"})
    assert printed([end], width=80).strip() == "no connection"
    assert printed([EVENTS[0], end], width=80).splitlines()[-1].strip() == "the call was cut"


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("begins", "ends", "line_ended", "judged", "latency"),
    [
        (2.0, 3.0, 1.5, 1.5, 0.5),  # an answer
        (1.6, 3.0, 1.5, 2.5, 0.1),  # one that begins before anybody looks: the line had silence at its end
        (1.0, 3.0, 1.5, 1.5, None),  # an echo with a delay
        (1.0, 2.0, 1.5, 2.5, None),  # one that is over before anybody looks
    ],
)
async def test_the_ear_tells_an_answer_from_sound_that_had_begun_before(
    monkeypatch, begins, ends, line_ended, judged, latency
):
    clock = Clock()
    monkeypatch.setattr("greenroom.agents.caller.ear.time", clock)
    ear = Ear(None, None, lambda event: None)
    ear.listen_from(float("inf"))
    looked = False
    for step in range(400):
        at = step / 100
        clock.now = 100.0 + at
        if not looked and at >= judged:
            looked = True
            ear.listen_from(100.0 + line_ended)
        ear._frame(struct.pack("<h", 5000 if begins <= at < ends else 0) * 160)
    heard = await ear.wait_audible(1)
    assert heard is not None and ear.overlaps is (latency is None)
    if latency is not None:
        assert heard - 100.0 - line_ended == pytest.approx(latency, abs=0.02)


def test_on_a_terminal_long_lines_stay_in_their_column():
    text = printed([CallEvent("caption", 0, "word " * 30)], width=40, force_terminal=True, color_system=None)
    rows = [row.replace("\x1b[?25l", "") for row in text.splitlines() if "word" in row]
    assert len(rows) > 3 and rows[0].startswith("     agent  word")
    assert all(row.startswith("            word") for row in rows[1:])


def test_events_as_json_have_only_what_is_known():
    assert EVENTS[3].as_json() == {"event": "understood", "at": 0.4, "text": "what is two", "final": False}
    assert EVENTS[-1].as_json() == {"event": "end", "at": 0.9, "exit_code": 0, "result": "success"}


@pytest.mark.parametrize(
    ("said", "understood", "low", "high"),
    [
        ("What is 7 times 8?", "what is seven times eight", 1.0, 1.0),
        ("One hundred and twelve!", "112", 1.0, 1.0),
        ("Tell me a joke.", "tell me a joke", 1.0, 1.0),
        ("Tell me a joke.", "tell me a job", 0.7, 0.8),
        ("Good morning.", "the weather is fine", 0.0, 0.0),
        ("Good morning.", "", 0.0, 0.0),
        ("...", "", 1.0, 1.0),
    ],
)
def test_agreement_counts_words(said, understood, low, high):
    assert low <= agreement(said, understood) <= high


def write_wav(path, samples, *, rate=8_000, channels=1, width=2):
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(samples)
    return path


def test_stereo_recordings_become_mono_and_know_where_speech_ends(tmp_path):
    frames = struct.pack("<4h", 4000, 2000, -4000, -2000) * 2_000 + bytes(4 * 4_000)
    utterance = load_wav(write_wav(tmp_path / "a.wav", frames, channels=2))
    assert utterance.sample_rate == 8_000 and utterance.duration == pytest.approx(1.0)
    assert utterance.speech_end == pytest.approx(0.5) and struct.unpack("<2h", utterance.pcm[:4]) == (3000, -3000)


def riff(code: int, bits: int, samples: bytes, *, extensible: bool) -> bytes:
    """A WAV of one channel at 8 kHz, with a chunk of odd length before the samples."""
    size = bits // 8
    form = struct.pack("<HHIIHH", 0xFFFE if extensible else code, 1, 8_000, 8_000 * size, size, bits)
    if extensible:
        guid = struct.pack("<H", code) + bytes.fromhex("000000001000800000aa00389b71")
        form += struct.pack("<HHI", 22, bits, 0) + guid
    chunks = ((b"fmt ", form), (b"LIST", b"odd"), (b"data", samples))
    body = b"".join(name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(
    ("code", "bits", "samples"),
    [
        (1, 8, bytes((192, 64, 128))),
        (1, 16, struct.pack("<3h", 16_384, -16_384, 0)),
        (1, 24, b"\0\0\x40\0\0\xc0\0\0\0"),
        (1, 32, struct.pack("<3i", 2**30, -(2**30), 0)),
        (3, 32, struct.pack("<3f", 0.5, -0.5, float("nan"))),
        (3, 64, struct.pack("<3d", 0.5, -0.5, 0)),
    ],
)
def test_recordings_of_every_kind_of_samples_are_played(tmp_path, code, bits, samples, extensible):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(code, bits, samples, extensible=extensible))
    assert struct.unpack("<3h", load_wav(path).pcm) == (16_384, -16_384, 0)


def test_an_extensible_recording_of_another_format_says_which(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(6, 8, bytes(3), extensible=True))
    with pytest.raises(UnreadableRecording, match=r"A-law; convert it to 16-bit PCM"):
        load_wav(path)


def garbage(path) -> list[tuple[object, str]]:
    """Files that are no recordings, and words that must be in the reason."""
    good = write_wav(path / "good.wav", b"\1\2" * 100).read_bytes()
    made = {
        "text.wav": (b"hello", "ends before its header"),
        "empty.wav": (b"", "ends before its header"),
        "other.wav": (b"ID3\4" + bytes(100), "not a readable WAV file .*RIFF"),
        "head.wav": (good[:20], "not a readable WAV"),
        "law.wav": (good[:20] + b"\7\0" + good[22:], "samples are mu-law; convert it to 16-bit PCM"),
        "unknown.wav": (good[:20] + b"\x34\x12" + good[22:], "unknown format 4660"),
        "half.wav": (good[:20] + b"\3\0" + good[22:], "16-bit floating-point samples"),
        "still.wav": (good[:24] + bytes(4) + good[28:], "0 Hz"),
        "nobody.wav": (good[:22] + bytes(2) + good[24:], "not a readable WAV"),
        "silent.wav": (good[:44], "no audio in it"),
    }
    for name, (content, _) in made.items():
        (path / name).write_bytes(content)
    return [(path / name, words) for name, (_, words) in made.items()]


def test_recordings_that_cannot_be_played_say_why(tmp_path):
    for path, words in (
        (tmp_path / "none.wav", r"not a readable WAV file \(No such file"),
        *garbage(tmp_path),
    ):
        with pytest.raises(UnreadableRecording, match=words):
            load_wav(path)


def test_a_recording_that_was_cut_off_is_played_as_far_as_it_goes(tmp_path):
    path = write_wav(tmp_path / "a.wav", struct.pack("<4h", 4000, 2000, -4000, -2000) * 100, channels=2)
    path.write_bytes(path.read_bytes()[:-3])
    assert load_wav(path).duration == pytest.approx(199 / 8_000)


async def test_a_recording_that_cannot_be_played_is_wrong_usage_and_costs_no_call(tmp_path):
    for path, words in garbage(tmp_path):
        events = []
        lines = [Line("hello"), Line(wav=path)]
        call = Call("ws://127.0.0.1:9", "no token", lines, tts=FakeTTS(), stt=None, on_event=events.append)
        result = await call.run()
        assert result.exit_code == ExitCode.USAGE == 2
        assert [event.kind for event in events] == ["error", "end"]
        assert re.search(words, events[0].text) and path.name in events[0].text
        assert "wrong usage" in printed(events, width=200)


async def test_a_text_is_synthesised():
    utterance = await speak(Line("two words"), FakeTTS(0.5))
    assert utterance.duration == pytest.approx(1.0) and str(utterance.line) == "two words"

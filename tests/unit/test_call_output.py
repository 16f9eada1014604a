"""What a synthetic call prints, and how it judges what was understood."""

import io
import struct
import wave

import pytest
from rich.console import Console

from greenroom.agents.caller.events import CallEvent
from greenroom.agents.caller.script import Line, agreement, load_wav, speak
from greenroom.cli.transcript import CallPrinter
from tests.unit.speech_fakes import FakeTTS

TURN = {
    "latency_ms": 612,
    "agent_ms": {"endpointing": 480, "transcription": 3, "llm_first_token": 2, "tts_first_audio": 41, "total": 526},
}
EVENTS = [
    CallEvent("connected", 0.1, values={"room": "r", "identity": "caller", "ms": 31}),
    CallEvent("agent", 0.2, values={"identity": "agent-1", "ms": 200}),
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


def test_recordings_that_cannot_be_played_say_why(tmp_path):
    (tmp_path / "text.wav").write_text("hello")
    for path, words in (
        (tmp_path / "none.wav", "not a readable WAV"),
        (tmp_path / "text.wav", "not a readable WAV"),
        (write_wav(tmp_path / "byte.wav", b"123", width=1), "8-bit samples"),
        (write_wav(tmp_path / "empty.wav", b""), "no audio"),
    ):
        with pytest.raises(ValueError, match=words):
            load_wav(path)


async def test_a_text_is_synthesised():
    utterance = await speak(Line("two words"), FakeTTS(0.5))
    assert utterance.duration == pytest.approx(1.0) and str(utterance.line) == "two words"

"""What voices that are networks share: clauses, the shape of the sound, whose turn it is, and the process's requests."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from greenroom.agents.speech.protocols import MissingProvider, ProviderError
from greenroom.plugins.kokoro.symbols import LONGEST, VOCABULARY, ids as kokoro_ids
from greenroom.plugins.piper.model import FIRST_FRAMES, NEIGHBOURS, Symbols, in_chunks
from greenroom.plugins.voices.clauses import MARKS, Clause, clauses, pieces
from greenroom.plugins.voices.onnx_graph import Graph, GraphError
from greenroom.plugins.voices.phonemes import phonemes
from greenroom.plugins.voices.server import HEADER, LENGTH, Piece, Turns, serve
from greenroom.plugins.voices.shape import AUDIBLE, Shaper, samples

WAIT = 10.0


@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "Well, read it: now; or not!": [("Well", ","), ("read it", ":"), ("now", ";"), ("or not", "!")],
        "Yes": [("Yes", "")],
        "What?! No...": [("What", "?"), ("No", ".")],
        'He said "go" (now) - or else.': [("He said go", ","), ("now", ","), ("or else", ".")],
        "It costs 3,50 at 10:30, in 1.2.": [("It costs 3,50 at 10:30", ","), ("in 1.2", ".")],
        "well-known don't 'quoted'": [("well-known don't quoted", "")],
        "你好，世界。": [("你好", ","), ("世界", ".")],
        "... , ?": [],
        "a , . b": [("a", "."), ("b", "")],
    }.items(),
)
def test_clauses_keep_their_marks(text: str, expected: list[tuple[str, str]]) -> None:
    assert [(clause.text, clause.mark) for clause in clauses(text)] == expected


@given(st.text(max_size=200))
def test_no_letter_is_lost_between_clauses(text: str) -> None:
    parts = clauses(text)
    assert all(any(map(str.isalnum, part.text)) and part.mark in ("", *MARKS) for part in parts)
    assert [each for part in parts for each in part.text if each.isalnum()] == [each for each in text if each.isalnum()]


@given(st.lists(st.integers(1, 80).map(lambda words: Clause("word " * (words - 1) + "word", ",")), max_size=12))
def test_pieces_are_short_and_hold_everything(parts: list[Clause]) -> None:
    cut = pieces(parts, first=40, longest=100)
    assert " ".join(clause.text for piece in cut for clause in piece) == " ".join(clause.text for clause in parts)
    for piece in cut:
        assert len(piece) == 1 or sum(len(clause.text) + 2 for clause in piece) <= 102
        assert all(len(clause.text) <= 200 for clause in piece)
    if cut and len(cut[0]) > 1:
        assert sum(len(clause.text) + 2 for clause in cut[0]) <= 42


# --- symbols ---


def test_symbols_are_decomposed_padded_and_counted() -> None:
    table = {"^": [1], "_": [0], "$": [2], "a": [10], "\u0303": [11], ",": [12], " ": [3], "b": [13], ".": [14]}
    symbols = Symbols(table)
    assert symbols.ids([("\u00e3", ","), ("b☃", ".")]) == [1, 0, 10, 0, 11, 0, 12, 0, 3, 0, 13, 0, 14, 0, 2]
    assert symbols.dropped == 1


def test_a_table_without_pad_is_refused() -> None:
    with pytest.raises(ProviderError, match="lacks _"):
        Symbols({"^": [1], "$": [2]})


def test_kokoro_writes_diphthongs_as_one_letter() -> None:
    symbols = {number: symbol for symbol, number in VOCABULARY.items()}

    def written(text: str, **options: bool) -> str:
        numbers = kokoro_ids(text, **options)
        assert numbers[0] == numbers[-1] == 0
        return "".join(symbols[number] for number in numbers[1:-1])

    assert written("dˈeɪ ɡˈoʊ nˈaʊ mˈaɪ bˈɔɪ, dʒˈʌdʒ tʃˈɜːtʃ.") == "dˈA ɡˈO nˈW mˈI bˈY, ʤˈʌʤ ʧˈɜɹʧ."
    assert written("ɡˈəʊ ðˈeə", british=True) == "ɡˈQ ðˈɛː"
    assert written("☃a") == "a"
    assert len(kokoro_ids("a" * 2_000)) == LONGEST + 2


needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


@needs_espeak
def test_each_clause_has_its_phonemes() -> None:
    one, two, three = phonemes(["hello", "Mr Smith, Jr. -- said. [[x]]", "yes"], "en-us")
    assert one == "həlˈoʊ" and three == "jˈɛs" and "smˈɪθ" in two and "sˈɛd" in two
    assert phonemes([], "en-us") == []
    assert "(" not in phonemes(["Das Meeting im Office"], "de")[0]


@needs_espeak
def test_an_unknown_language_is_an_error() -> None:
    with pytest.raises(ProviderError, match="espeak-ng failed"):
        phonemes(["hello"], "xx-none")


def test_without_the_program_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingProvider, match="apt-get install espeak-ng"):
        phonemes(["hello"], "en-us")


def test_a_program_that_hangs_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*args: Any, **kwargs: Any) -> None:
        raise subprocess.TimeoutExpired("espeak-ng", 10)

    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ProviderError, match="timed out"):
        phonemes(["hello"], "en-us")


# --- the network's file ---


@given(st.binary(max_size=200))
def test_what_is_no_network_is_refused(data: bytes) -> None:
    try:
        Graph(data)
    except GraphError:
        return
    except UnicodeDecodeError:
        pytest.fail("names that are no text must be a GraphError")


@pytest.mark.parametrize("count", [1, 10, FIRST_FRAMES, FIRST_FRAMES + 5, FIRST_FRAMES + NEIGHBOURS, 200, 433])
def test_chunks_give_the_same_sound_as_the_whole(count: int) -> None:
    """A decoder that hears its neighbours, as far as the real one does."""
    reach = np.hanning(2 * NEIGHBOURS + 3)[1:-1].astype(np.float32)
    calls = []

    def decode(frames: np.ndarray) -> np.ndarray:
        calls.append(frames.shape[2])
        heard = np.convolve(np.pad(frames[0, 0], NEIGHBOURS), reach, "valid")
        return np.repeat(heard, 4)

    frames = np.random.default_rng(1).normal(size=(1, 1, count)).astype(np.float32)
    whole = decode(frames)
    calls.clear()

    class Source:
        def __len__(self) -> int:
            return count

        def __call__(self, start: int, end: int) -> np.ndarray:
            return frames[:, :, start:end]

    np.testing.assert_allclose(np.concatenate(list(in_chunks(decode, Source()))), whole, atol=1e-5)
    assert calls[0] <= FIRST_FRAMES + 2 * NEIGHBOURS


# --- shape ---

RATE = 22_050


def tone(seconds: float, loud: float = 0.5) -> np.ndarray:
    return (loud * np.sin(np.arange(int(seconds * RATE)) * 0.06 + 1)).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.full(int(seconds * RATE), AUDIBLE / 10, np.float32)


def shaped(*chunks: np.ndarray, pause: float = 0.2) -> np.ndarray:
    shaper = Shaper(RATE)
    data = b"".join(shaper.feed(chunk.copy()) for chunk in chunks) + shaper.end(pause)
    return np.frombuffer(data, np.int16).astype(float) / 32_767


@pytest.mark.parametrize("size", [100, 1_000, 100_000])
def test_a_piece_begins_and_ends_with_little_silence(size: int) -> None:
    whole = np.concatenate([silence(0.5), tone(0.5), silence(0.3), tone(0.5), silence(0.8)])
    out = shaped(*(whole[at : at + size] for at in range(0, len(whole), size)))
    loud = np.flatnonzero(np.abs(out) > AUDIBLE)
    assert loud[0] / RATE < 0.02
    assert len(out) / RATE == pytest.approx(0.015 + 1.3 + 0.2, abs=0.005)
    # A pause within a piece stays.
    assert np.abs(out[int(0.6 * RATE) : int(0.75 * RATE)]).max() < AUDIBLE


def test_nothing_clicks_where_pieces_meet() -> None:
    shaper = Shaper(RATE)
    data = b""
    for _ in range(3):
        data += shaper.feed(tone(0.3)) + shaper.end(0.1)
    out = np.frombuffer(data, np.int16).astype(float) / 32_767
    within = np.abs(np.diff(tone(0.3))).max()
    starts = np.flatnonzero((np.abs(out[1:]) > 0) & (out[:-1] == 0)) + 1
    assert len(starts) >= 3
    assert all(np.abs(np.diff(out[max(0, at - 5) : at + 40])).max() < 2 * within for at in starts)


def test_what_is_too_loud_is_bent_and_not_cut() -> None:
    out = np.frombuffer(samples(tone(0.2, 1.3)), np.int16)
    assert np.abs(out.astype(int)).max() < 32_767
    assert (np.diff(np.flatnonzero(np.abs(out) == np.abs(out).max())) > 1).all()
    np.testing.assert_allclose(np.frombuffer(samples(tone(0.2, 0.5)), np.int16), tone(0.2, 0.5) * 32_767, atol=1)


def test_silence_alone_is_only_the_pause() -> None:
    assert len(shaped(silence(1.0), pause=0.1)) == int(0.1 * RATE)


# --- the process ---


def test_those_come_first_whose_sound_is_needed_first() -> None:
    turns, order = Turns(1), []
    begun = {name: threading.Event() for name in ("late", "soon", "later")}

    def work(name: str, needed_at: float) -> None:
        begun[name].set()
        with turns.turn(needed_at):
            order.append(name)

    with turns.turn(0.0):
        threads = []
        for name, needed_at in (("later", 9.0), ("late", 5.0), ("soon", 1.0)):
            thread = threading.Thread(target=work, args=(name, needed_at))
            thread.start()
            threads.append(thread)
            assert begun[name].wait(WAIT)
        while turns.waiting < 3:
            threading.Event().wait(0.005)
    for thread in threads:
        thread.join(WAIT)
    assert order == ["soon", "late", "later"]


class FakeModel:
    """Speaks a tone per word. `gate`: each step waits for a permission."""

    sample_rate = RATE
    gain = 1.0

    def __init__(self, gate: threading.Semaphore | None = None) -> None:
        self.gate = gate
        self.steps: list[str] = []
        self.stepped = threading.Semaphore(0)

    def plan(self, text: str, options: dict[str, Any]) -> list[Piece]:
        if text == "wrong":
            raise ProviderError("that cannot be said")
        return [Piece([len(word)], ".") for word in text.split()]

    def render(self, piece: Piece, options: dict[str, Any]) -> Iterator[np.ndarray]:
        for _ in range(piece.ids[0]):
            if self.gate is not None:
                assert self.gate.acquire(timeout=WAIT)
            self.steps.append(threading.current_thread().name)
            self.stepped.release()
            if piece.ids[0] == 13:
                raise RuntimeError("bad luck")
            yield tone(0.1)


@contextmanager
def request(model: FakeModel, turns: Turns, body: bytes, name: str = "one") -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    ours.settimeout(WAIT)
    thread = threading.Thread(target=serve, args=(theirs, model, turns), name=name)
    thread.start()
    try:
        ours.sendall(LENGTH.pack(len(body)) + body)
        yield ours
    finally:
        ours.close()
        thread.join(WAIT)
        assert not thread.is_alive()


def say(text: str) -> bytes:
    return json.dumps({"text": text}).encode()


def receive(connection: socket.socket) -> tuple[bytes, bytes]:
    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = connection.recv(count - len(data))
            if not more:
                return b""
            data += more
        return data

    head = exactly(HEADER.size)
    if not head:
        return b"", b""
    kind, length = HEADER.unpack(head)
    return kind, exactly(length)


def test_the_first_sound_comes_before_the_rest_is_made() -> None:
    gate = threading.Semaphore(1)
    model = FakeModel(gate)
    with request(model, Turns(1), say("word")) as connection:
        kind, body = receive(connection)
        assert kind == b"a" and body
        assert len(model.steps) == 1
        for _ in range(3):
            gate.release()
        kinds = []
        while (message := receive(connection))[0]:
            kinds.append(message[0])
        assert kinds[-1] == b"z" and set(kinds[:-1]) == {b"a"}


def test_who_goes_stops_the_work_after_the_step_that_runs() -> None:
    gate = threading.Semaphore(2)
    model = FakeModel(gate)
    with request(model, Turns(1), say("wordwordword " * 20)) as connection:
        assert receive(connection)[0] == b"a"
        assert model.stepped.acquire(timeout=WAIT) and model.stepped.acquire(timeout=WAIT)
        connection.close()
        gate.release(100)
    assert len(model.steps) <= 3


def test_two_at_once_take_turns() -> None:
    gate = threading.Semaphore(1)
    model, turns = FakeModel(gate), Turns(1)
    with request(model, turns, say("wordwordword"), "one") as one:
        assert receive(one)[0] == b"a"
        with request(model, turns, say("wordwordword"), "two") as two:
            # The first has a step that waits for its permission; the second comes next, and then they alternate.
            while turns.waiting < 1:
                threading.Event().wait(0.005)
            gate.release(23)
            for connection in (one, two):
                while (message := receive(connection))[0] == b"a":
                    pass
                assert message[0] == b"z"
    assert model.steps.index("two") <= 2
    assert model.steps[:12].count("one") < 12 and sorted(model.steps) == ["one"] * 12 + ["two"] * 12


def test_what_cannot_be_said_is_an_error_and_not_the_end() -> None:
    model, turns = FakeModel(), Turns(1)
    with request(model, turns, say("wrong")) as connection:
        assert receive(connection) == (b"e", b"that cannot be said")
    with request(model, turns, say("x" * 13)) as connection:
        assert receive(connection) == (b"e", b"the voice failed: RuntimeError: bad luck")
    with request(model, turns, say("yes")) as connection:
        assert receive(connection)[0] == b"a"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b"\xff" * 10])
def test_a_request_that_is_none_ends_the_connection(body: bytes) -> None:
    with request(FakeModel(), Turns(1), body) as connection:
        assert receive(connection) == (b"", b"")


def test_who_goes_while_waiting_for_a_turn_costs_nothing() -> None:
    model, turns = FakeModel(), Turns(1)
    with turns.turn(0.0):
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=serve, args=(theirs, model, turns))
        thread.start()
        ours.sendall(LENGTH.pack(len(say("word"))) + say("word"))
        while turns.waiting < 1:
            threading.Event().wait(0.005)
        ours.close()
    thread.join(WAIT)
    assert not thread.is_alive() and model.steps == []

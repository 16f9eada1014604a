"""What is long: nothing is said twice at a cut, and a model that stops after the first words is asked again."""

from __future__ import annotations

import numpy as np

from greenroom.plugins.whisper.decode import Hearing, Segment, Word
from greenroom.plugins.whisper.features import SAMPLE_RATE
from greenroom.plugins.whisper.recognise import recognise

VOICE = np.random.default_rng(1).normal(0, 0.1, SAMPLE_RATE * 40).astype(np.float32)


class Model:
    """A fake that answers from a list, and takes down how much it heard."""

    def __init__(self, *hearings: Hearing) -> None:
        self._hearings = list(hearings)
        self.heard: list[float] = []

    def hear(self, batch, **_options):
        self.heard += [round(len(samples) / SAMPLE_RATE, 1) for samples in batch]
        return [self._hearings.pop(0) for _ in batch]


def hearing(text: str, begin: float = 0.0, step: float = 0.4) -> Hearing:
    words = tuple(Word(word, begin + i * step, begin + (i + 0.9) * step, 0.9) for i, word in enumerate(text.split()))
    return Hearing(text, "en", (), words, -0.1, 0.0)


def numbered(count: int) -> str:
    return " ".join(f"word{i}" for i in range(count))


def test_a_word_at_the_cut_is_said_once():
    sound = VOICE.copy()
    softest = int(25.1 * SAMPLE_RATE)
    sound[softest - 400 : softest + 400] = 0.0
    first = f"{numbered(62)} and then"
    model = Model(hearing(first), hearing(f"And {numbered(30)}", 0.02))
    (answer,) = recognise(model, [sound], words=True)
    assert answer.text == f"{numbered(62)} and {numbered(30)}", "the first piece is cut behind its 63rd word"
    assert [word.text for word in answer.words] == answer.text.split()
    assert model.heard == [28.0, 14.9]
    assert all(a.start <= b.start for a, b in zip(answer.words, answer.words[1:], strict=False))


def test_the_same_word_later_on_stays():
    model = Model(hearing(numbered(69) + " that"), hearing(f"that {numbered(30)}", 0.9))
    (answer,) = recognise(model, [VOICE], words=True)
    assert answer.text.split().count("word0") == 2 and f"that {numbered(30)}" in answer.text


def test_a_text_that_stops_after_its_first_words_is_heard_again_in_halves():
    sound = VOICE[: 20 * SAMPLE_RATE].copy()
    sound[9 * SAMPLE_RATE : int(9.1 * SAMPLE_RATE)] = 0.0
    model = Model(hearing("a hundred miles"), hearing(numbered(20)), hearing(numbered(25)))
    (answer,) = recognise(model, [sound], words=True, thorough=True)
    assert answer.text == f"{numbered(20)} {numbered(25)}"
    assert model.heard[0] == 20.0 and abs(model.heard[1] - 9.0) <= 0.1 and sum(model.heard[1:]) == 20.0
    assert 9.0 <= answer.words[20].start <= 9.1


def test_a_partial_text_is_not_and_a_short_answer_neither():
    for seconds, thorough in ((20, False), (7, True)):
        model = Model(hearing("yes please"))
        (answer,) = recognise(model, [VOICE[: seconds * SAMPLE_RATE]], thorough=thorough)
        assert answer.text == "yes please" and len(model.heard) == 1


def test_noise_without_words_stays_without():
    nothing = Hearing("you", "en", (), (), -2.0, 0.9)
    model = Model(*[nothing] * 9)
    (answer,) = recognise(model, [VOICE[: 20 * SAMPLE_RATE]], thorough=True)
    assert answer.text == "" and 1 < len(model.heard) < 9, "halves that are short are heard once"


def test_who_goes_on_after_what_the_model_took_for_the_end_is_heard():
    sound = np.concatenate([VOICE[: 2 * SAMPLE_RATE], np.zeros(4_000, np.float32), VOICE[: 3 * SAMPLE_RATE // 2]])
    ended = Hearing("Please repeat after me.", "en", (Segment("Please repeat after me.", 0.0, 2.1),), (), -0.1, 0.0)
    rest = Hearing("Cats are friends.", "en", (Segment("Cats are friends.", 0.1, 1.6),), (), -0.1, 0.0)
    model = Model(ended, rest)
    (answer,) = recognise(model, [sound], thorough=True)
    assert answer.text == "Please repeat after me. Cats are friends."
    assert [round(s.start, 1) for s in answer.segments] == [0.0, 2.2]
    model = Model(ended)
    assert recognise(model, [sound[: int(2.4 * SAMPLE_RATE)]], thorough=True)[0].text == ended.text
    assert len(model.heard) == 1, "the end of a word and silence are no more speech"

"""What is shown while somebody speaks, and what of it need not be decoded again."""

from __future__ import annotations

import numpy as np

from greenroom.plugins.whisper.agreement import Agreement
from greenroom.plugins.whisper.decode import Word
from greenroom.plugins.whisper.recognise import Recognition, gaps, joined
from greenroom.plugins.whisper.settled import Settled


def test_only_what_two_decodings_agree_on_is_shown():
    agreement = Agreement()
    assert agreement.update("What is.") is None
    assert agreement.update("What is seven") == "What is"
    assert agreement.update("What is seven times.") == "What is seven"
    assert agreement.update("What is 7 times eight?") is None, "nothing new is agreed on"
    assert agreement.update("What is 7 times eight? Please.") == "What is 7 times eight"


def test_never_more_than_one_word_is_taken_back():
    agreement = Agreement()
    agreement.update("one two three")
    assert agreement.update("one two three four") == "one two three"
    assert agreement.update("nine nine") is None
    assert agreement.update("nine nine") is None
    assert agreement.prepared("nine nine") is None
    assert agreement.prepared("one two free four") == "one two free four"


def test_at_a_pause_the_whole_is_shown_and_shown_again():
    agreement = Agreement()
    assert agreement.prepared("Hello there.") == "Hello there."
    assert agreement.prepared("Hello there.") == "Hello there."
    assert agreement.prepared("") is None


def speech(seconds: float, *silences: tuple[float, float]) -> np.ndarray:
    samples = np.random.default_rng(1).standard_normal(int(seconds * 16_000)).astype(np.float32) / 10
    for start, end in silences:
        samples[int(start * 16_000) : int(end * 16_000)] /= 1_000
    return samples


def words(*texts_and_starts: tuple[str, float]) -> tuple[Word, ...]:
    starts = [start for _, start in texts_and_starts]
    ends = [*starts[1:], starts[-1] + 0.4]
    return tuple(Word(text, start, end, 1.0) for (text, start), end in zip(texts_and_starts, ends, strict=True))


SAID = words(("Please", 1.0), ("hold", 2.0), ("the", 4.0), ("line.", 5.0), ("We", 6.4), ("are", 7.5), ("busy", 9.5))


def test_gaps_are_where_it_is_quiet_around_the_beginnings_of_words():
    found = gaps(speech(11.0, (3.9, 4.0), (6.3, 6.4)), SAID, 3.0, 9.0)
    assert [gap.words for gap in found] == [2, 3, 4, 5]
    softest = min(found, key=lambda gap: gap.level)
    assert softest.words in (2, 4) and softest.level < 0.01
    assert [gap.words for gap in found if gap.level < 0.1] == [2, 4]


def test_what_two_decodings_agree_on_is_settled_at_a_silence_between_sentences():
    text = "Please hold the line. We are busy"
    settled = Settled(bytearray((speech(11.0, (3.9, 4.0), (6.3, 6.4)) * 32_767).astype(np.int16).tobytes()))
    assert not settled.judge(Recognition(text, "en", (), SAID), 11.0), "nothing to agree with"
    assert settled.judge(Recognition(text, "en", (), SAID), 11.0)
    assert settled.texts == ["Please hold the line."]
    assert abs(settled.seconds - (11.0 - 6.35)) < 0.1
    assert settled.whole("We are busy.") == "Please hold the line. We are busy."


def test_speech_without_a_silence_is_not_settled_early():
    settled = Settled(bytearray((speech(11.0) * 32_767).astype(np.int16).tobytes()))
    for _ in range(2):
        assert not settled.judge(Recognition("Please hold the line. We are busy", "en", (), SAID), 11.0)
    assert settled.texts == []


def test_the_text_of_the_first_words_keeps_its_spaces():
    assert joined(SAID[:3], "Please hold  the line. We") == "Please hold  the"
    assert joined([Word("東", 0, 1, 1), Word("京", 1, 2, 1)], "東京都") == "東京"

"""Streamed text is cut into sentences as early as possible, and never inside numbers or abbreviations."""

import pytest

from greenroom.agents.speech.sentences import SentenceSplitter, speakable


def split(deltas: list[str], **options: int) -> list[str]:
    splitter = SentenceSplitter(**options)
    out = [sentence for delta in deltas for sentence in splitter.push(delta)]
    return out + splitter.flush()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hello. How are you?", ["Hello.", "How are you?"]),
        ("It is 3.14 exactly. Yes.", ["It is 3.14 exactly.", "Yes."]),
        ("Dr. Smith is here. Good.", ["Dr. Smith is here.", "Good."]),
        ("Come at 5 p.m. today. Bye!", ["Come at 5 p.m. today.", "Bye!"]),
        ("One\nTwo", ["One", "Two"]),
        ("Really? Yes", ["Really?", "Yes"]),
        ("No end", ["No end"]),
        ("", []),
        ("So am I. And you?", ["So am I.", "And you?"]),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_sentences_do_not_depend_on_how_the_text_arrives(text, sentences, size):
    assert split([text[i : i + size] for i in range(0, len(text), size)]) == sentences


def test_closing_marks_belong_to_the_sentence_before():
    assert split(['He said "No." Really?! Yes.']) == ['He said "No."', "Really?!", "Yes."]
    assert split(list('He said "No." Really?! Yes.')) == ['He said "No.', "Really?", "Yes."]


def test_a_sentence_is_given_out_before_the_next_one_begins():
    splitter = SentenceSplitter()
    assert splitter.push("Hello there.") == ["Hello there."]
    assert splitter.push(" More") == []


def test_a_number_at_the_end_waits_for_what_follows():
    splitter = SentenceSplitter()
    assert splitter.push("It is 3.") == []
    assert splitter.push("14.") == []
    assert splitter.flush() == ["It is 3.14."]


def test_only_the_first_long_sentence_is_cut_at_a_clause_and_only_while_its_end_is_unknown():
    long = "When all the guests have come to the room and found a seat, we can begin with the talk, I think, at last. "
    assert split([long, long]) == [long.strip()] * 2
    first, *rest = split(list(long + long))
    assert first == "When all the guests have come to the room and found a seat,"
    assert rest[-1] == long.strip()


def test_marks_that_cannot_be_spoken_are_dropped():
    assert speakable("**Hello** [you](http://x) 😀\n# Title") == "Hello you Title"

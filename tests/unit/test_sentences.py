"""Streamed text is cut where a voice would breathe, the same way however it arrives, and nothing of it is lost."""

import pytest
from hypothesis import given, strategies as st

from greenroom.agents.speech.sentences import LONGEST, SentenceSplitter, join, speakable


def split(deltas: list[str], **options: int) -> list[str]:
    splitter = SentenceSplitter(**options)
    out = [sentence for delta in deltas for sentence in splitter.push(delta)]
    return out + splitter.flush()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hello. How are you?", ["Hello.", "How are you?"]),
        ("It is 3.14 exactly. Yes.", ["It is 3.14 exactly.", "Yes."]),
        ("It is 3. Yes.", ["It is 3.", "Yes."]),
        ("Dr. Smith is here. Good.", ["Dr. Smith is here.", "Good."]),
        ("Come at 5 p.m. today. Bye!", ["Come at 5 p.m. today.", "Bye!"]),
        ("Come at 5 p.m. Then go.", ["Come at 5 p.m.", "Then go."]),
        ("One\nTwo", ["One", "Two"]),
        ("Really? Yes", ["Really?", "Yes"]),
        ("No end", ["No end"]),
        ("", []),
        ("So am I. And you?", ["So am I.", "And you?"]),
        ("Visit livekit.io or docs.example.com. Bye.", ["Visit livekit.io or docs.example.com.", "Bye."]),
        ("See https://a.example/b?c=d.e! Then go.", ["See https://a.example/b?c=d.e!", "Then go."]),
        ("Mail jane.doe@example.co.uk. Thanks.", ["Mail jane.doe@example.co.uk.", "Thanks."]),
        ("Take v1.0.12 today. Done.", ["Take v1.0.12 today.", "Done."]),
        ("It costs $3.50. Or 1,234.56 €. Fine.", ["It costs $3.50.", "Or 1,234.56 €.", "Fine."]),
        ("It is 10:30. Or 22:30:15? Yes.", ["It is 10:30.", "Or 22:30:15?", "Yes."]),
        ("Ask J. R. Smith, e.g. now. Ok.", ["Ask J. R. Smith, e.g. now.", "Ok."]),
        ("Ask no. 5 now. No. Yes.", ["Ask no. 5 now.", "No.", "Yes."]),
        ("Acme Inc. is here. We met Acme Inc. Good.", ["Acme Inc. is here.", "We met Acme Inc.", "Good."]),
        ("Well... maybe. Yes... But no.", ["Well... maybe.", "Yes...", "But no."]),
        ("Hm… maybe… Ja.", ["Hm… maybe…", "Ja."]),
        ('He said "No." Really?! Yes.', ['He said "No."', "Really?!", "Yes."]),
        ('"Who?" she asked. "Me," I said.', ['"Who?" she asked.', '"Me," I said.']),
        ("(He left.) Then she came.", ["(He left.)", "Then she came."]),
        ("**Note.** Next. _Last!_ End", ["**Note.**", "Next.", "_Last!_", "End"]),
        ("1. First thing\n2. Second thing", ["1. First thing", "2. Second thing"]),
        ("今日は晴れです。明日は雨でしょう。", ["今日は晴れです。", "明日は雨でしょう。"]),
        ("「はい。」と言った。次！", ["「はい。」", "と言った。", "次！"]),
        ("यह एक है। वह दो है।", ["यह एक है।", "वह दो है।"]),
        ("هل أنت هنا؟ نعم. حسنا.", ["هل أنت هنا؟", "نعم.", "حسنا."]),
        ("Привет. Как дела? Хорошо.", ["Привет.", "Как дела?", "Хорошо."]),
        ("hi there. how are you? fine.", ["hi there.", "how are you?", "fine."]),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_sentences_do_not_depend_on_how_the_text_arrives(text, sentences, size):
    assert split([text[i : i + size] for i in range(0, len(text), size)]) == sentences


PIECES = st.sampled_from(
    [
        *'aI3，好。「」é.…!?,: \n"()*_@/-',
        *("Dr", "e.g", "14", "Word", "livekit", "io", "no", "p.m", "नम", "..", "**", "  "),
        *('?" ', '." ', ". ", ", ", "word " * 12),
    ]
)


@given(st.lists(PIECES, max_size=60).map("".join), st.data())
def test_the_sentences_depend_on_the_text_alone(text, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    pieces = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = split([text])
    assert split(pieces) == split(list(text)) == whole
    assert "".join("".join(whole).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() and len(sentence) <= LONGEST + 60 for sentence in whole)


def test_a_sentence_is_given_out_as_soon_as_it_is_certain():
    splitter = SentenceSplitter()
    assert splitter.push("Hello there.") == []
    assert splitter.push(" ") == ["Hello there."]
    assert splitter.push("Dr.") == splitter.push(" ") == splitter.push("No! ")[1:] == []


def test_text_without_punctuation_is_spoken_too():
    sentences = split(["word " * 500])
    assert len(sentences) > 5 and join(sentences).split() == ["word"] * 500
    assert max(map(len, split(["好" * 2_000]))) <= LONGEST


def test_sentences_are_joined_as_their_script_does():
    assert join(["One.", "Two."]) == "One. Two." and join(["一。", "二。"]) == "一。二。" and join([]) == ""


def test_a_number_at_the_end_waits_for_what_follows():
    splitter = SentenceSplitter()
    assert splitter.push("It is 3.") == []
    assert splitter.push("14.") == []
    assert splitter.flush() == ["It is 3.14."]


def test_only_the_first_sentence_is_cut_at_a_clause_when_it_is_long():
    long = "When all the guests have come to the room and found a seat, we can begin with the talk, I think, at last. "
    first, second, *rest = split([long, long])
    assert first == "When all the guests have come to the room and found a seat,"
    assert second == "we can begin with the talk, I think, at last." and rest == [long.strip()]
    assert split(["Well, all of you, here we are. "]) == ["Well, all of you, here we are."]


MEANT = (
    "2*3 is 6, 7 * 8 = 56, 2**3",
    "5 > 3 and 2 < 4",
    "snake_case_name in C#",
    "about ~10 | x~y",
    "#1 at 3.14 on a_b",
    "-5 degrees",
)


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("**Hello** [you](http://x) 😀\n# Title", "Hello you Title"),
        ("**Bold**, *it*, ***both***, __more__, ~~gone~~ and `code`", "Bold, it, both, more, gone and code"),
        ("**One sentence of two.", "One sentence of two."),
        ("The second.**", "The second."),
        ("* an item\n- another\n+ third", "an item another third"),
        ("> quoted", "quoted"),
        ("| a | b |", "a , b"),
        *((text, text) for text in MEANT),
    ],
)
def test_marks_that_mean_nothing_aloud_are_dropped_and_others_stay(text, spoken):
    assert speakable(text) == spoken

"""What holds for spoken text whatever the text is."""

from __future__ import annotations

import re

from hypothesis import example, given, settings, strategies as st

from greenroom.agents.speech.spoken_text import spoken_text

PARTS = st.sampled_from(
    "5 12 2026 3/4 1/2 10:30 pm a.m. $5.20 €3 £1.5m 50% km kg Dr. St. Mr. etc. e.g. U.S. NASA FBI's and/or - – . , ... ? ! ( ) [ ] "
    "x * + = > < ^ ² ½ # @ & / ~ ' \" ° °C jane@example.com https://a.b/c www.x.de 2026-11-29 Nov. 5th 21st 1990s '90s 007 1,234.5 "
    "-5 +1 555-1234 555 v1.2.3 A I OK the hello don't C# mp3 😀 **bold** `code` No. 5- s ms _x_ | # > St Main Elm".split()
)
PHRASES = st.lists(st.tuples(PARTS, st.sampled_from(["", " ", "  ", "\n"])), max_size=12).map(
    lambda parts: "".join(word + space for word, space in parts)
)


@settings(max_examples=1_500, deadline=None)
@given(st.one_of(PHRASES, st.text(max_size=60)))
@example("[](abc)")
@example("½")
@example("🄀")
def test_whatever_has_letters_or_digits_is_said_and_stays_as_it_is(text: str) -> None:
    for language in ("en-us", "en-gb", "de"):
        said = spoken_text(text, language=language)
        assert any(map(str.isalnum, said)) or not any(map(str.isalnum, text))
        assert spoken_text(said, language=language) == said


@settings(max_examples=500, deadline=None)
@given(PHRASES)
def test_what_is_said_is_words_and_marks(text: str) -> None:
    said = spoken_text(text)
    assert re.fullmatch(r"[A-Za-zéñ' ,;:.!?-]*", said), said
    assert "  " not in said and said == said.strip()

"""Spoken arithmetic: finds the calculation in a sentence and works it out exactly.

A recursive-descent parser over words. Precedence as on paper: roots and powers, then times and divided by, then plus and
minus. When a reading with "and" inside a number fails ("add one hundred and twelve"), the other reading is tried, and when
nothing fits, homophones are allowed where a number must stand ("what is too plus for").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from greenroom.agents.speech.numbers import parse_number, say_number, tokenize

__all__ = ["ArithmeticAnswer", "solve"]

_MAX_DIGITS = 24

Number = Fraction | float


@dataclass(frozen=True, slots=True)
class ArithmeticAnswer:
    expression: str
    """The calculation as understood, for example "7 times 8"."""
    value: Number | None
    problem: str = ""
    """Why there is no value."""

    def sentence(self) -> str:
        if self.value is None:
            return self.problem
        return f"{self.expression[:1].upper()}{self.expression[1:]} is {say_number(self.value)}."


class _NoParse(Exception):
    pass


class _Impossible(Exception):
    """Understood, but without a sensible value."""


_ADD = {"plus": "plus", "+": "plus", "added to": "plus", "and": "plus", "plots": "plus", "pulse": "plus"}
_SUBTRACT = {"minus": "minus", "-": "minus", "−": "minus", "–": "minus", "less": "minus", "take away": "minus"}
_MULTIPLY = {"times": "times", "multiplied by": "times", "multiplied with": "times", "*": "times", "×": "times", "x": "times",
             "time": "times", "multiply by": "times"}  # fmt: skip
_DIVIDE = {"divided by": "divided by", "over": "divided by", "/": "divided by", "÷": "divided by", "divide by": "divided by",
           "divided bye": "divided by", "divided buy": "divided by"}  # fmt: skip
_MODULO = {"modulo": "modulo", "mod": "modulo"}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8, "tenth": 10}
_MULTIPLES = {"twice": 2, "double": 2, "triple": 3, "thrice": 3}
_ORDINALS = {word: n for n, word in enumerate("second third fourth fifth sixth seventh eighth ninth tenth".split(), 2)}
_FILLER = frozenset(
    "please now then thanks thank you equal equals to is = make makes me for exactly again be sir".split()
)
_AND_IS_PLUS = ("what is", "what's", "how much is", "how much are", "add")


@dataclass(slots=True)
class _Value:
    value: Number
    said: str
    operators: int = 0


class _Parser:
    def __init__(self, tokens: list[str], *, use_and: bool, homophones: bool, and_is_plus: bool) -> None:
        self.tokens = tokens
        self.at = 0
        self.use_and = use_and
        self.homophones = homophones
        self.and_is_plus = and_is_plus

    def take(self, phrase: str) -> bool:
        words = phrase.split()
        if self.tokens[self.at : self.at + len(words)] == words:
            self.at += len(words)
            return True
        return False

    def take_one(self, table: dict[str, str]) -> str | None:
        return next((table[phrase] for phrase in sorted(table, key=len, reverse=True) if self.take(phrase)), None)

    def need(self, *phrases: str) -> None:
        if not any(self.take(phrase) for phrase in phrases):
            raise _NoParse

    def command(self) -> _Value:
        """`add A to B`, `subtract A from B`, ... or a plain expression."""
        start = self.at
        if self.take("add") or self.take("at") or self.take("and"):
            try:
                left = self.product()
                values = [left]
                while self.take("and") or self.take("to") or self.take("plus") or self.take("with"):
                    values.append(self.product())
                if len(values) < 2:
                    raise _NoParse
                total = values[0]
                for value in values[1:]:
                    total = _combine(total, "plus", value)
                return total
            except _NoParse:
                self.at = start
                if self.tokens[start] == "add":
                    raise
                self.at += 1
                return self.sum()
        if self.take("subtract") or self.take("take away") or self.take("take"):
            left = self.product()
            self.need("from")
            return _combine(self.product(), "minus", left)
        if self.take("multiply"):
            left = self.sum()
            self.need("by", "with", "and", "times", "bye", "buy")
            return _combine(left, "times", self.sum())
        if self.take("divide"):
            left = self.sum()
            self.need("by", "bye", "buy", "with")
            return _combine(left, "divided by", self.sum())
        return self.sum()

    def sum(self) -> _Value:
        left = self.product()
        while True:
            mark = self.at
            if self.take("and") and not self.and_is_plus:
                self.at = mark
                return left
            self.at = mark
            operator = self.take_one(_ADD) or self.take_one(_SUBTRACT)
            if operator is None:
                return left
            try:
                left = _combine(left, operator, self.product())
            except _NoParse:
                self.at = mark
                return left

    def product(self) -> _Value:
        left = self.power()
        while True:
            mark = self.at
            operator = self.take_one(_MULTIPLY) or self.take_one(_DIVIDE) or self.take_one(_MODULO)
            if operator is None:
                return left
            try:
                left = _combine(left, operator, self.power())
            except _NoParse:
                self.at = mark
                return left

    def power(self) -> _Value:
        base = self.atom()
        while True:
            mark = self.at
            if self.take("squared") or self.take("square") or self.take("squares"):
                base = _raise(base, _Value(Fraction(2), "2"), f"{base.said} squared")
            elif self.take("cubed"):
                base = _raise(base, _Value(Fraction(3), "3"), f"{base.said} cubed")
            elif self.take("factorial") or self.take("!"):
                base = _factorial(base)
            elif any(map(self.take, ("to the power of", "to the power off", "raised to", "power", "^"))):
                try:
                    self.take("the power of")
                    base = _raise(base, self.power(), None)
                except _NoParse:
                    self.at = mark
                    return base
            elif self.take("to the") and self.at < len(self.tokens) and self.tokens[self.at] in _ORDINALS:
                exponent = _ORDINALS[self.tokens[self.at]]
                self.at += 1
                self.take("power")
                base = _raise(base, _Value(Fraction(exponent), str(exponent)), None)
            else:
                self.at = mark
                return base

    def atom(self) -> _Value:
        self.take("the")
        for negative in ("minus", "negative", "-"):
            if self.take(negative):
                inner = self.atom()
                return _Value(-inner.value, f"minus {inner.said}", inner.operators)
        for phrase in ("square root of", "square root off", "root of", "square route of", "square root"):
            if self.take(phrase):
                return _root(self.power(), 2)
        if self.take("cube root of") or self.take("cubic root of"):
            return _root(self.power(), 3)
        if self.tokens[self.at : self.at + 1] and self.tokens[self.at] in _ORDINALS:
            degree = _ORDINALS[self.tokens[self.at]]
            if self.take(f"{self.tokens[self.at]} root of"):
                return _root(self.power(), degree)
        if self.take("factorial of"):
            return _factorial(self.power())
        if self.take("square of"):
            inner = self.power()
            return _raise(inner, _Value(Fraction(2), "2"), f"{inner.said} squared")
        for word, operator in (
            ("sum", "plus"),
            ("product", "times"),
            ("difference", "minus"),
            ("quotient", "divided by"),
        ):
            if self.take(f"{word} of") or self.take(f"{word} between"):
                and_is_plus, self.and_is_plus = self.and_is_plus, False
                left = self.product()
                self.need("and")
                result = _combine(left, operator, self.product())
                self.and_is_plus = and_is_plus
                return result
        if (part := self.part()) is not None:
            return part
        parsed = parse_number(self.tokens, self.at, use_and=self.use_and, homophones=self.homophones)
        if parsed is None:
            raise _NoParse
        value, self.at = parsed
        number = _Value(value, say_number(value))
        if self.take("percent of") or self.take("per cent of") or self.take("% of") or self.take("percent off"):
            whole = self.power()
            self.take("%")  # recognisers write "20% of 50%" for "twenty percent of fifty"; the number is the same
            return _Value(
                value * _exact(whole.value) / 100, f"{number.said} percent of {whole.said}", whole.operators + 1
            )
        return number

    def part(self) -> _Value | None:
        mark = self.at
        if self.at < len(self.tokens) and self.tokens[self.at] in _MULTIPLES:
            word = self.tokens[self.at]
            self.at += 1
            inner = self.atom()
            return _Value(inner.value * _MULTIPLES[word], f"{word} {inner.said}", inner.operators + 1)
        written = self.tokens[self.at : self.at + 4]
        if (
            len(written) == 4
            and written[1] == "/"
            and written[3] == "of"
            and written[0].isdigit()
            and written[2].isdigit()
        ):
            if not int(written[2]):
                raise _Impossible("Dividing by zero has no answer.")
            self.at += 4
            inner = self.atom()
            value = _exact(inner.value) * Fraction(int(written[0]), int(written[2]))
            return _Value(value, f"{written[0]}/{written[2]} of {inner.said}", inner.operators + 1)
        article = self.take("a") or self.take("one")
        if self.at < len(self.tokens) and self.tokens[self.at] in _PARTS:
            word = self.tokens[self.at]
            self.at += 1
            if self.take("of"):
                inner = self.atom()
                said = f"{'a ' if word != 'half' else ''}{word} of {inner.said}"
                return _Value(_exact(inner.value) / _PARTS[word], said, inner.operators + 1)
            if article and word != "half":
                return _Value(Fraction(1, _PARTS[word]), f"a {word}")
        self.at = mark
        return None


def _exact(value: Number) -> Fraction:
    return value if isinstance(value, Fraction) else Fraction(value).limit_denominator(10**9)


def _combine(left: _Value, operator: str, right: _Value) -> _Value:
    a, b = left.value, right.value
    if operator == "plus":
        value = a + b
    elif operator == "minus":
        value = a - b
    elif operator == "times":
        value = a * b
    elif b == 0:
        raise _Impossible("Dividing by zero has no answer.")
    elif operator == "modulo":
        value = a % b
    else:
        value = a / b
    if abs(value) >= 10**_MAX_DIGITS:
        raise _Impossible("That number is too long to say.")
    return _Value(value, f"{left.said} {operator} {right.said}", left.operators + right.operators + 1)


def _raise(base: _Value, exponent: _Value, said: str | None) -> _Value:
    said = said or f"{base.said} to the power of {exponent.said}"
    power = exponent.value
    if base.value == 0 and power < 0:
        raise _Impossible("Dividing by zero has no answer.")
    size = abs(float(base.value))
    if abs(float(power)) * max(1.0, math.log10(size or 1.0)) > _MAX_DIGITS * (1 if size > 1 else 40):
        raise _Impossible("That number is too long to say.")
    if isinstance(base.value, Fraction) and isinstance(power, Fraction) and power.denominator == 1:
        value: Number = base.value ** int(power)
    elif base.value < 0:
        raise _Impossible("That has no real answer.")
    else:
        value = float(base.value) ** float(power)
    return _Value(value, said, base.operators + 1)


def _root(inner: _Value, degree: int) -> _Value:
    name = {2: "square", 3: "cube"}.get(degree) or next(word for word, n in _ORDINALS.items() if n == degree)
    said = f"the {name} root of {inner.said}"
    if inner.value < 0 and degree % 2 == 0:
        raise _Impossible(f"A negative number has no real {name} root.")
    exact = _exact(inner.value)
    sign = -1 if exact < 0 else 1
    top, bottom = (round(abs(n) ** (1 / degree)) for n in (exact.numerator, exact.denominator))
    if Fraction(top, bottom) ** degree == abs(exact):
        return _Value(Fraction(sign * top, bottom), said, inner.operators + 1)
    return _Value(sign * abs(float(inner.value)) ** (1 / degree), said, inner.operators + 1)


def _factorial(inner: _Value) -> _Value:
    if not isinstance(inner.value, Fraction) or inner.value.denominator != 1 or not 0 <= inner.value <= 20:
        raise _Impossible("I only know the factorials from 0 to 20.")
    return _Value(Fraction(math.factorial(int(inner.value))), f"{inner.said} factorial", inner.operators + 1)


def solve(text: str) -> ArithmeticAnswer | None:
    """The calculation asked for in `text`, or None when there is none."""
    tokens = tokenize(text)
    if len(tokens) > 60:
        return None
    joined = " ".join(tokens)
    and_is_plus = any(phrase in joined for phrase in _AND_IS_PLUS)
    for homophones in (False, True):
        for start in range(len(tokens)):
            for use_and in (True, False):
                parser = _Parser(tokens[start:], use_and=use_and, homophones=homophones, and_is_plus=and_is_plus)
                try:
                    found = parser.command()
                except _NoParse:
                    continue
                except _Impossible as problem:
                    return ArithmeticAnswer("", None, str(problem))
                rest = parser.tokens[parser.at :]
                if found.operators and all(word in _FILLER for word in rest):
                    return ArithmeticAnswer(found.said, found.value)
    return None

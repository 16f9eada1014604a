#!/usr/bin/env python3
"""Finds files of a Rust crate that import each other, directly or round a longer way; run by `make lint`.

Files that import each other can only be understood, tested and changed together. What both need belongs in a third file
below them. Whatever path leads to another file counts, in `use` or in the midst of the code, if it starts with `crate`,
`super`, `self`, a child module or a name imported from there. A name leads to the file that defines it, not to one that
re-exports it. No imports are `mod`, and a `pub use` of names that the file itself makes no use of: a parent may hold and
publish children that know it.

    scripts/import_circles.py [WORKSPACE]     exit status 1 when there is a circle that ALLOWED does not name
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

# Pairs of files that may still import each other, as "crate: file <-> file". An entry that is no longer needed is an
# error, so that this list only gets shorter.
ALLOWED: set[str] = set()

TOKEN = re.compile(
    r"""
      (?P<skip> //[^\n]* | /\*.*?\*/ | \s+ )
    | (?P<string> b?r(?P<hashes>\#*)".*?"(?P=hashes) | [bc]?"(?:\\.|[^"\\])*" | b?'(?:\\(?:u\{[^}]*\}|x..|.)|[^'\\])' )
    | (?P<word> [A-Za-z_][A-Za-z0-9_]* )
    | (?P<punctuation> :: | . )
    """,
    re.VERBOSE | re.DOTALL,
)

Module = tuple[str, ...]


def tokens(text: str) -> list[tuple[str, int]]:
    """Words and punctuation with their lines; comments and literals are left out."""
    found: list[tuple[str, int]] = []
    line = 1
    for match in TOKEN.finditer(text):
        if match.lastgroup in ("word", "punctuation"):
            found.append((match.group(), line))
        line += match.group().count("\n")
    return found


@dataclass
class WrittenPath:
    """A path as it is written, and where."""

    inline: Module  # inline modules around it
    segments: Module
    line: int


@dataclass
class Use(WrittenPath):
    """One name that a `use` brings in."""

    name: str
    public: bool


@dataclass
class Source:
    """What one file says."""

    uses: list[Use] = field(default_factory=list)
    paths: list[WrittenPath] = field(default_factory=list)
    words: set[str] = field(default_factory=set)  # outside `use`
    elsewhere: set[str] = field(default_factory=set)  # child modules whose files `#[path]` names


def read_use(stream: list[tuple[str, int]], at: int, prefix: Module) -> tuple[list[tuple[Module, str, int]], int]:
    """The paths of a `use` tree that begins at `at`, the names they bring in, and where the tree ends."""
    path, line, name = prefix, stream[at][1], ""
    while stream[at][0] not in (";", ",", "}"):
        word = stream[at][0]
        if word == "{":
            found: list[tuple[Module, str, int]] = []
            at += 1
            while stream[at][0] != "}":
                inner, at = read_use(stream, at, path)
                found += inner
                if stream[at][0] == ",":
                    at += 1
            return found, at + 1
        if word == "as":
            at += 1
            name = stream[at][0]
        elif word == "self" and prefix:
            name = prefix[-1]  # use a::{self}
        elif word != "::":
            path += (word,)
        at += 1
    return [(path, name or path[-1], line)], at


def read(text: str) -> Source:
    """Every `use`, path and word of a file."""
    source = Source()
    stream = tokens(text)
    open_modules: list[tuple[str, int]] = []
    depth, at, last = 0, 0, len(stream) - 1
    public = False  # between `pub` and what it is about
    while at <= last:
        word, line = stream[at]
        following = stream[at + 1][0] if at < last else ""
        inline = tuple(name for name, _ in open_modules)
        if word == "mod" and at + 2 <= last and stream[at + 2][0] == "{":
            open_modules.append((following, depth))
            depth += 1
            at += 3
        elif word == "path" and following == "=" and at > 1 and (stream[at - 2][0], stream[at - 1][0]) == ("#", "["):
            at = next(i for i in range(at, last) if stream[i][0] == "mod") + 1
            source.elsewhere.add(stream[at][0])
        elif word == "use" and following != "<":  # `use<'a>` names captured lifetimes
            found, at = read_use(stream, at + 1, ())
            source.uses += [Use(inline, path, where, name, public) for path, name, where in found]
            public = False
        elif word == "pub":
            public = True
            at += 1
            if stream[at][0] == "(":
                at = next(i for i in range(at, last) if stream[i][0] == ")") + 1
        else:
            segments: Module = ()
            if word[0].isidentifier():
                public = False
                segments = (word,)
                source.words.add(word)
            while segments and at + 2 <= last and stream[at + 1][0] == "::" and stream[at + 2][0][0].isidentifier():
                segments += (stream[at + 2][0],)
                at += 2
            if len(segments) > 1:
                source.paths.append(WrittenPath(inline, segments, line))
            depth += {"{": 1, "}": -1}.get(word, 0)
            if word == "}" and open_modules and open_modules[-1][1] == depth:
                open_modules.pop()
            at += 1
    return source


def modules(src: Path) -> dict[Module, Path]:
    """The module that each file below a crate's `src` is."""
    found: dict[Module, Path] = {}
    for file in sorted(src.rglob("*.rs")):
        name = file.relative_to(src).with_suffix("").parts
        found[name[:-1] if name[-1] in ("mod", "lib", "main") else name] = file
    return found


class Crate:
    """The files of one crate and which of them imports which."""

    def __init__(self, src: Path) -> None:
        self.files = modules(src)
        self.sources = {module: read(file.read_text()) for module, file in self.files.items()}
        self.graph: dict[Module, dict[Module, int]] = {module: {} for module in self.files}
        for module, source in self.sources.items():
            used = [use for use in source.uses if not use.public or use.name in source.words]
            for path in [*used, *source.paths]:
                target = self.resolve(module, path.inline, path.segments)
                if target is not None and target != module:
                    self.graph[module].setdefault(target, path.line)

    def resolve(self, module: Module, inline: Module, path: Module, hops: int = 0) -> Module | None:
        """The file that defines what a path written in `module` names; None outside the crate."""
        ups = next((i for i, word in enumerate(path) if word != "super"), len(path))
        if path[0] == "crate":
            here, rest = (), path[1:]
        elif ups:
            scope = module + inline
            here, rest = scope[: len(scope) - ups], path[ups:]
        elif path[0] == "self":
            here, rest = module + inline, path[1:]
        elif not inline and (module + path[:1] in self.files or self.imported(module, path[0])):
            here, rest = module, path
        else:
            return None
        while here and here not in self.files:
            here = here[:-1]  # an inline module of that file
        for at, word in enumerate(rest):
            if (*here, word) in self.files:
                here += (word,)
                continue
            if here in self.sources and word in self.sources[here].elsewhere:
                return None
            use = self.imported(here, word)
            if use and hops < 8 and (here, use.segments) != (module, path):
                target = self.resolve(here, (), use.segments + rest[at + 1 :], hops + 1)
                return target if target is not None or use.segments[0] not in ("crate", "super", "self") else here
            break
        return here if here in self.files else None

    def imported(self, module: Module, name: str) -> Use | None:
        """The `use` of a file that brings in a name."""
        uses = self.sources[module].uses if module in self.sources else []
        return next((use for use in uses if not use.inline and use.name == name), None)


def circles(graph: dict[Module, dict[Module, int]]) -> list[list[Module]]:
    """Groups of modules each of which reaches all others of its group (Tarjan)."""
    index: dict[Module, int] = {}
    low: dict[Module, int] = {}
    stack: list[Module] = []
    groups: list[list[Module]] = []

    def visit(module: Module) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in graph[module]:
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            at = stack.index(module)
            if len(stack) - at > 1:
                groups.append(sorted(stack[at:]))
            del stack[at:]

    for module in graph:
        if module not in index:
            visit(module)
    return groups


def check(src: Path, unused: set[str]) -> list[str]:
    """What is wrong in one crate; takes the entries of ALLOWED that it needed out of `unused`."""
    crate = Crate(src)
    graph = crate.graph
    name = {module: str(file.relative_to(src)) for module, file in crate.files.items()}
    for module in crate.files:
        for other in [target for target in graph[module] if module in graph[target]]:
            entry = f"{src.parent.name}: {' <-> '.join(sorted((name[module], name[other])))}"
            if entry in ALLOWED:
                unused.discard(entry)
                del graph[module][other], graph[other][module]
    problems = []
    for group in circles(graph):
        lines = [f"{src.parent.name}: these files import each other"]
        for module in group:
            lines += [
                f"  {crate.files[module]}:{line} imports {name[target]}"
                for target, line in sorted(graph[module].items())
                if target in group
            ]
        problems.append("\n".join(lines))
    return problems


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    unused = set(ALLOWED)
    problems = [problem for src in sorted(root.glob("native/*/src")) for problem in check(src, unused)]
    problems += [f"{entry}: no longer a circle, take it out of ALLOWED" for entry in sorted(unused)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""Cuts a network that is stored as one ONNX graph in two, so that its halves can be run apart.

onnxruntime runs a graph from its inputs to its outputs and nothing between. An ONNX file is a protocol-buffers message, of
which a dozen fields are enough here (their numbers are those of `onnx.proto`), so no further package is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

__all__ = ["Graph", "GraphError", "Node"]

_GRAPH = 7
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 1, 5, 11, 12, 13
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_TYPE, _NODE_ATTRIBUTE = 1, 2, 3, 4, 5
_TENSOR_NAME = 8
_INFO_NAME = 1
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 6, 11
_FLOAT = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class GraphError(ValueError):
    """The graph is not what was expected."""


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    kind: str
    """Type of operator: `Conv`, `Add` ..."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    raw: memoryview = field(repr=False)


class Graph:
    """The parts of an ONNX file. Raises GraphError for what is none, and for graphs with graphs inside (loops, branches),
    because what those use from outside is not seen here."""

    def __init__(self, data: bytes) -> None:
        self.nodes: list[Node] = []
        self._head: list[memoryview] = []
        self._other: list[memoryview] = []
        self._weights: dict[str, memoryview] = {}
        self._inputs: dict[str, memoryview] = {}
        self._outputs: dict[str, memoryview] = {}
        for number, whole, value in _fields(memoryview(data)):
            if number == _GRAPH:
                self._read(value)
            else:
                self._head.append(whole)
        if not self.nodes or not self._outputs:
            raise GraphError("there is no graph in it")

    @property
    def inputs(self) -> list[str]:
        return list(self._inputs)

    @property
    def outputs(self) -> list[str]:
        return list(self._outputs)

    def part(self, *, given: Iterable[str] = (), wanted: Iterable[str] = ()) -> bytes:
        """An ONNX file of what leads from the tensors `given` (else the graph's own inputs) to those `wanted` (else its
        outputs). Tensors at the cut are of type float32 and of any shape."""
        start, end = list(given), list(wanted) or self.outputs
        makers = {output: node for node in self.nodes for output in node.outputs}
        needed: set[str] = set()
        inputs: set[str] = set()
        weights: set[str] = set()
        pending = list(end)
        while pending:
            name = pending.pop()
            if name in start or name in self._inputs:
                inputs.add(name)
            elif name in self._weights:
                weights.add(name)
            elif name in makers:
                node = makers[name]
                if node.outputs[0] not in needed:
                    needed.add(node.outputs[0])
                    pending += [each for each in node.inputs if each]
            else:
                raise GraphError(f"nothing makes the tensor {name!r}")
        graph: list[bytes | memoryview] = [*self._other]
        graph += [_message(_NODE, node.raw) for node in self.nodes if node.outputs[0] in needed]
        graph += [_message(_INITIALIZER, raw) for name, raw in self._weights.items() if name in weights]
        graph += [
            _message(_INPUT, self._inputs.get(name) or _float_info(name))
            for name in [*self._inputs, *start]
            if name in inputs
        ]
        graph += [_message(_OUTPUT, self._outputs.get(name) or _float_info(name)) for name in end]
        return b"".join([*self._head, _message(_GRAPH, b"".join(graph))])

    def _read(self, graph: memoryview) -> None:
        for number, whole, value in _fields(graph):
            if number == _NODE:
                self.nodes.append(_node(value))
            elif number == _INITIALIZER:
                self._weights[_text(value, _TENSOR_NAME)] = value
            elif number == _INPUT:
                self._inputs[_text(value, _INFO_NAME)] = value
            elif number == _OUTPUT:
                self._outputs[_text(value, _INFO_NAME)] = value
            elif number != _VALUE_INFO:
                self._other.append(whole)
        # Older files name their weights among the inputs too.
        self._inputs = {name: raw for name, raw in self._inputs.items() if name not in self._weights}


def _node(raw: memoryview) -> Node:
    inputs, outputs, name, kind = [], [], "", ""
    for number, _, value in _fields(raw):
        if number == _NODE_INPUT:
            inputs.append(_decoded(value))
        elif number == _NODE_OUTPUT:
            outputs.append(_decoded(value))
        elif number == _NODE_NAME:
            name = _decoded(value)
        elif number == _NODE_TYPE:
            kind = _decoded(value)
        elif number == _NODE_ATTRIBUTE and any(
            n in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS) for n, _, _ in _fields(value)
        ):
            raise GraphError("there are graphs inside the graph")
    return Node(name, kind, tuple(inputs), tuple(outputs), raw)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Number, all bytes, and content of each field of a message."""
    at = 0
    while at < len(data):
        start = at
        key, at = _varint(data, at)
        kind = key & 7
        begin = at
        if kind == _BYTES:
            length, begin = _varint(data, at)
            at = begin + length
        elif kind == _VARINT:
            _, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise GraphError("it is no ONNX file")
        if at > len(data):
            raise GraphError("the file ends too early")
        yield key >> 3, data[start:at], data[begin:at]


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise GraphError("it is no ONNX file")


def _text(raw: memoryview, wanted: int) -> str:
    for number, _, value in _fields(raw):
        if number == wanted:
            return _decoded(value)
    return ""


def _decoded(raw: memoryview) -> str:
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError:
        raise GraphError("a name in it is no text") from None


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _message(number: int, body: bytes | memoryview) -> bytes:
    return b"".join((_number(number << 3 | _BYTES), _number(len(body)), body))


def _float_info(name: str) -> bytes:
    """A `ValueInfoProto` of that name: a tensor of float32."""
    tensor = _message(1, _number(1 << 3 | _VARINT) + _number(_FLOAT))
    return _message(1, name.encode()) + _message(2, tensor)

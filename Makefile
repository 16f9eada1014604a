# Greenroom. `make demo` is the place to start; `make help` lists the rest.
export GREENROOM_CACHE ?= $(HOME)/.cache/greenroom
export CARGO_TARGET_DIR ?= $(GREENROOM_CACHE)/target
export GREENROOM_AGENTS_PYTHON ?= $(GREENROOM_CACHE)/venv-official-agents/bin/python
FUZZ_SECONDS ?= 20
DEMO_APP ?= examples/04_kitt.py

.PHONY: help demo setup setup-test test test-native test-python test-web lint fuzz fuzz-guided bench speech-eval speech-peers wheel clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: setup ## build everything and hear one spoken call answered (ONCE=1: then exit)
	@.venv/bin/greenroom dev $(DEMO_APP) --demo $(if $(ONCE),--once,)

setup: ## install and build what `greenroom` needs, into .venv
	@scripts/setup

setup-test:
	@scripts/setup --test

test: setup-test ## run every test, groups side by side
	@scripts/test_groups.py

test-native: ## the Rust tests
	cargo test --release --locked --workspace

fuzz: ## fuzz every native parser and whole sessions for FUZZ_SECONDS in all
	cargo run --release --locked -q -p greenroom-fuzz -- --seconds $(FUZZ_SECONDS)

fuzz-guided: ## the same led by coverage, until the first finding: FUZZ_SECONDS=1800 (600), FUZZ_TARGETS, FUZZ_JOBS
	native/fuzz/guided.sh $(if $(filter file,$(origin FUZZ_SECONDS)),600,$(FUZZ_SECONDS)) $(FUZZ_TARGETS)

test-python: ## unit, sim, interop and end-to-end tests
	.venv/bin/python -m pytest

test-web: ## type-check and unit-test the playground
	npm --prefix web run check

lint: ## ruff, types, rustfmt, clippy, and imports that go round in circles
	.venv/bin/python -m ruff check src tests examples bench scripts
	.venv/bin/python -m ruff format --check src tests examples bench scripts
	.venv/bin/python -m mypy
	scripts/lint_native

bench: setup ## all benchmarks, one JSON line per figure
	.venv/bin/python -m bench

speech-eval: setup ## hearing and speaking with the real models, 12 minutes: ROW=people|synthetic|waiting|turns|calls, JSON=1
	.venv/bin/greenroom models get whisper-base whisper-tiny piper-joe kokoro
	.venv/bin/python -m bench speech $(if $(JSON),,--table) $(foreach row,$(ROW),--row $(row)) $(if $(QUICK),--quick)

speech-peers: ## what speech-eval measures beside us, in an environment of its own (1 GB)
	scripts/speech_peers

wheel: setup ## a wheel in dist/
	scripts/wheel

clean: ## forget what was built (caches outside the checkout stay)
	rm -rf .venv build dist src/greenroom/web src/greenroom/*.so web/node_modules

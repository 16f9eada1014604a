"""Benchmarks: `python -m bench [NAME...]`. See docs/bench.md."""

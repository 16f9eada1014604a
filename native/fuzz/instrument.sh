#!/bin/sh
# Stands before rustc (RUSTC_WORKSPACE_WRAPPER): the crates under test are built with the counters libFuzzer reads and with
# arithmetic checked. The fuzzer itself and the crates of others are built as always.
case " $* " in
*" --crate-name greenroom_fuzz"*) exec "$@" ;;
*" --crate-name greenroom_"*)
	exec "$@" -C passes=sancov-module -C overflow-checks=on -C debug-assertions=on \
		-C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
		-C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares
	;;
*) exec "$@" ;;
esac

#!/usr/bin/env bash
# Coverage-guided fuzzing with the stable toolchain: builds the targets with libFuzzer and runs them, one after the other, for
# so many seconds in all. Stops at the first finding, keeps its input and says how to repeat it.
#
#   native/fuzz/guided.sh [SECONDS] [TARGET...]      without targets: all, whole sessions for half of the time
#
# FUZZ_JOBS=2 runs so many processes; GREENROOM_FUZZ_WITHOUT=rule,rule suspends rules whose findings are known.
# What is learned stays in $GREENROOM_CACHE/fuzz/corpus, findings in $GREENROOM_CACHE/fuzz/findings.
set -euo pipefail
cd "$(dirname "$0")/../.."

CACHE=${GREENROOM_CACHE:-$HOME/.cache/greenroom}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
WORK=$CACHE/fuzz
FINDINGS=$WORK/findings
BLIND=$CARGO_TARGET_DIR/release/greenroom-fuzz
GUIDED=$CARGO_TARGET_DIR/release/greenroom-fuzz-guided
SESSION="shard session"

# number_after TEXT LOG: the last number that follows TEXT.
number_after() { grep -oE "$1 *[0-9]+" "$2" | grep -oE '[0-9]+$' | tail -n 1 || true; }

# run TARGET SECONDS
run() {
  local target=$1 name=${1// /-} longest=2048 control=100 jobs=()
  # Programs of up to 128 operations, of any length from the beginning.
  if [ "$target" = "$SESSION" ]; then longest=516 control=0; fi
  if [ "${FUZZ_JOBS:-1}" -gt 1 ]; then jobs=("-fork=$FUZZ_JOBS"); fi
  local corpus=$WORK/corpus/$name log=$WORK/$name.log history=$FINDINGS/$name.history
  mkdir -p "$corpus"
  printf '%-24s %5d s  ' "$target" "$2"
  if GREENROOM_FUZZ_TARGET=$target GREENROOM_FUZZ_HISTORY=$history "$GUIDED" "$corpus" "$WORK/seeds/$target" \
      "-max_total_time=$2" "-max_len=$longest" "-len_control=$control" -timeout=60 -rss_limit_mb=2048 -print_final_stats=1 \
      "-artifact_prefix=$FINDINGS/$name-" "${jobs[@]}" >"$log" 2>&1; then
    printf 'ok, %s inputs, coverage %s to %s edges\n' "$(number_after number_of_executed_units: "$log")" \
      "$(number_after 'INITED cov:' "$log")" "$(number_after ' cov:' "$log")"
    return
  fi
  printf 'FAILED\n'
  grep -E -A 3 'panicked at|ERROR: libFuzzer' "$log" | head -n 8
  local input; input=$(grep -oE 'Test unit written to .*' "$log" | sed 's/Test unit written to //' | head -n 1 || true)
  printf '\nThe whole output is in %s\nRepeat with:\n' "$log"
  printf '  cargo run --release -p greenroom-fuzz -- --target "%s" --file "%s"\n' "$target" "$input"
  printf 'or, where it takes what came before it:\n'
  printf '  cargo run --release -p greenroom-fuzz -- --target "%s" --history "%s"\n' "$target" "$history"
  exit 1
}

main() {
  local seconds=${1:-600} targets=() target parts=0
  if [ $# -gt 0 ]; then shift; fi
  command -v "${CXX:-c++}" >/dev/null || { echo "libFuzzer is C++: install a compiler (g++), or name one in CXX" >&2; exit 2; }
  cargo build --release --locked -q -p greenroom-fuzz
  RUSTC_WORKSPACE_WRAPPER=$PWD/native/fuzz/instrument.sh \
    cargo build --release --locked -q -p greenroom-fuzz --features guided --bin greenroom-fuzz-guided
  rm -rf "$WORK/seeds"; mkdir -p "$FINDINGS"
  "$BLIND" --seeds "$WORK/seeds"

  targets=("$@")
  if [ ${#targets[@]} -eq 0 ]; then mapfile -t targets < <("$BLIND" --list); fi
  for target in "${targets[@]}"; do [ "$target" = "$SESSION" ] || parts=$((parts + 1)); done
  for target in "${targets[@]}"; do
    if [ ${#targets[@]} -eq 1 ] || [ $parts -eq 0 ]; then run "$target" "$seconds"
    elif [ "$target" = "$SESSION" ]; then run "$target" $((seconds / 2))
    elif [ $parts -eq ${#targets[@]} ]; then run "$target" $((seconds / parts + 1))
    else run "$target" $((seconds / 2 / parts + 1))
    fi
  done
  echo "no finding"
}

# Read as a whole before it runs, so that an edit does not change a run under way.
main "$@"; exit

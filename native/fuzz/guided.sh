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

SECONDS_IN_ALL=${1:-600}; [ $# -gt 0 ] && shift
CACHE=${GREENROOM_CACHE:-$HOME/.cache/greenroom}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
WORK=$CACHE/fuzz; FINDINGS=$WORK/findings; mkdir -p "$WORK/corpus" "$FINDINGS"

command -v "${CXX:-c++}" >/dev/null || { echo "libFuzzer is C++: install a compiler (g++), or name one in CXX" >&2; exit 2; }
cargo build --release --locked -q -p greenroom-fuzz
RUSTC_WORKSPACE_WRAPPER=$PWD/native/fuzz/instrument.sh \
  cargo build --release --locked -q -p greenroom-fuzz --features guided --bin greenroom-fuzz-guided
BLIND=$CARGO_TARGET_DIR/release/greenroom-fuzz
GUIDED=$CARGO_TARGET_DIR/release/greenroom-fuzz-guided

mapfile -t ALL < <("$BLIND" --list)
TARGETS=("$@"); [ $# -eq 0 ] && TARGETS=("${ALL[@]}")
rm -rf "$WORK/seeds"
"$BLIND" --seeds "$WORK/seeds"

# run TARGET SECONDS
run() {
  local target=$1 corpus="$WORK/corpus/${1// /-}" longest=2048 control=100 before after
  [ "$target" = "shard session" ] && { longest=516; control=0; }
  mkdir -p "$corpus"
  local folders=("$corpus" "$WORK/seeds/$target")
  printf '%-24s %5ds ' "$target" "$2"
  export GREENROOM_FUZZ_TARGET=$target GREENROOM_FUZZ_HISTORY=$FINDINGS/${target// /-}.history
  local log="$WORK/${target// /-}.log" jobs=()
  [ "${FUZZ_JOBS:-1}" -gt 1 ] && jobs=("-fork=$FUZZ_JOBS")
  if "$GUIDED" "${folders[@]}" "-max_total_time=$2" "-max_len=$longest" "-len_control=$control" -timeout=60 -rss_limit_mb=2048 \
      -print_final_stats=1 "-artifact_prefix=$FINDINGS/${target// /-}-" "${jobs[@]}" >"$log" 2>&1; then
    before=$(grep -oE 'INITED cov: [0-9]+' "$log" | grep -oE '[0-9]+$' | head -n 1 || true)
    after=$(grep -oE 'cov: [0-9]+' "$log" | grep -oE '[0-9]+$' | tail -n 1 || true)
    printf 'ok, %s inputs, coverage %s to %s edges\n' \
      "$(grep -oE 'number_of_executed_units: [0-9]+' "$log" | grep -oE '[0-9]+$' || echo '?')" "${before:-?}" "${after:-?}"
  else
    printf 'FAILED\n'
    grep -E -A 3 'panicked at|ERROR: libFuzzer' "$log" | head -n 8
    local input; input=$(grep -oE 'Test unit written to .*' "$log" | sed 's/Test unit written to //' | head -n 1 || true)
    printf '\nThe whole output is in %s\nRepeat with:\n  cargo run --release -p greenroom-fuzz -- --target "%s" --file "%s"\n' \
      "$log" "$target" "$input"
    printf 'or, where it takes what came before it:\n  cargo run --release -p greenroom-fuzz -- --target "%s" --history "%s"\n' \
      "$target" "$GREENROOM_FUZZ_HISTORY"
    exit 1
  fi
}

parts=0
for target in "${TARGETS[@]}"; do [ "$target" = "shard session" ] || parts=$((parts + 1)); done
for target in "${TARGETS[@]}"; do
  if [ $parts -eq 0 ]; then run "$target" "$SECONDS_IN_ALL"
  elif [ "$target" = "shard session" ]; then run "$target" $((SECONDS_IN_ALL / 2))
  else run "$target" $((SECONDS_IN_ALL / 2 / parts + 1))
  fi
done
echo "no finding"

#!/usr/bin/env bash
# Runs the tests layer by layer and stops at the first that fails.
#
#   test.sh fast    the pure half of the Rust code
#   test.sh all     everything; what `make test` runs
#   test.sh long    about 75 minutes: fresh seeds, fuzzing and many faults of real processes, and beside them
#                   every scenario of the operator
#
# The last line is "N passed, N failed, N skipped", summed over the layers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

PURE=(proto machine group shard api plan check sim)
INSIDE=(tls log link host service server)

# Layers in order: name | when | usual time | command. One that does not exist yet is added here. `beside` is
# part of `long`, too, and goes on while the next ones run: it waits most of its time, they compute.
layers() {
  cat <<'END'
set-up of the pure half  | fast | 1 s    | scripts/setup.sh fast
set-up                   | all  | 2 s    | scripts/setup.sh kube
format                   | both | 2 s    | cargo fmt --all --check -- --color=never
walls                    | both | 10 s   | cargo test --locked -p multiraft-walls
pure crates              | both | 60 s   | cargo test --locked $(packages "${PURE[@]}")
simulation               | all  | 60 s   | SIM_FIRST=$(fresh) SIM_SEEDS=1000 SIM_TICKS=2000 cargo test --locked -p multiraft-sim --test seeds no_seed -- --nocapture
checkers                 | all  | 30 s   | cargo test --locked -p multiraft-porcupine -- --nocapture
clippy                   | all  | 2 min  | cargo clippy --locked --workspace --all-targets -- -D warnings
hostile bytes            | all  | 20 s   | cargo test --locked -p multiraft-fuzz
node crates              | all  | 2 min  | cargo test --locked $(packages "${INSIDE[@]}")
instructions             | all  | 40 s   | cargo test --locked -p multiraft-bench --test instructions
client                   | all  | 20 s   | cargo test --locked -p multiraft-client
operator                 | all  | 1 min  | cargo test --locked -p multiraft-controller
release build            | all  | 3 min  | cargo build --release --locked --workspace --bins
processes                | all  | 3 min  | MULTIRAFT_BIN=$TARGET/release cargo test --locked -p multiraft-e2e --test processes -- --test-threads=1 --nocapture
faults                   | all  | 5 min  | MULTIRAFT_BIN=$TARGET/release cargo test --locked -p multiraft-e2e --test faults -- --test-threads=1 --nocapture
wire                     | all  | 1 min  | MULTIRAFT_BIN=$TARGET/release cargo test --locked -p multiraft-e2e --test wire
TLS                      | all  | 2 min  | MULTIRAFT_BIN=$TARGET/release cargo test --locked -p multiraft-e2e --test tls -- --test-threads=1
interop                  | all  | 50 s   | MULTIRAFT_BIN=$TARGET/release cargo test --locked -p multiraft-e2e --test interop -- --nocapture
contract                 | all  | 5 s    | proto/check.sh
resource definitions     | all  | 5 s    | scripts/crds.sh --check
chart                    | all  | 5 s    | charts/check.sh
local Kubernetes         | all  | 90 s   | tests/e2e/cluster/selftest.sh
Kubernetes               | all  | 10 s   | tests/e2e/cluster/cluster.sh ensure
chart on Kubernetes      | all  | 1 min  | MULTIRAFT_BIN=$TARGET/release tests/e2e/modes.sh
system on Kubernetes     | all  | 9 min  | MULTIRAFT_BIN=$TARGET/release tests/e2e/run.sh
TLS on Kubernetes        | all  | 3 min  | MULTIRAFT_BIN=$TARGET/release tests/e2e/tls.sh
set-up for long tests    | long | 2 s    | scripts/setup.sh kube
long release build       | long | 3 min  | cargo build --release --locked --workspace --bins
Kubernetes for long      | long   | 10 s   | tests/e2e/cluster/cluster.sh ensure
scenarios                | beside | 60 min | MULTIRAFT_BIN=$TARGET/release tests/e2e/scenarios.sh long
planted defects          | long   | 20 s   | cargo test --locked -p multiraft-sim --test planted -- --nocapture
long simulation          | long   | 25 min | SIM_FIRST=$(date +%s)0000 SIM_SEEDS=12000 SIM_TICKS=2000 cargo test --locked -p multiraft-sim --test seeds no_seed -- --nocapture
fuzzing                  | long   | 4 min  | cargo run --locked -p multiraft-fuzz -- run 240
long faults              | long   | 35 min | FAULTS=long MULTIRAFT_BIN=$TARGET/release cargo test --locked -p multiraft-e2e --test faults -- --test-threads=1 --nocapture
END
}

main() {
  export CARGO_TERM_COLOR=never
  local wanted=${1:-all} name when usual command
  TARGET=$(scripts/target.sh)
  LOGS=$TARGET/test-logs
  mkdir -p "$LOGS"
  [[ $wanted = fast ]] || export PATH=$PATH:$(scripts/setup.sh bin)
  PASSED=0 FAILED=0 SKIPPED=0 BESIDE=
  RUN=${MULTIRAFT_RUN:-/tmp/multiraft-kube}
  # One that runs already is used, and left.
  FOUND=$([[ -n ${KUBECONFIG:-} || -f $RUN/settings ]] && echo yes || echo no)
  trap finish EXIT
  while IFS='|' read -r name when usual command; do
    name=$(trim "$name") when=$(trim "$when")
    case $wanted/$when in
      long/beside) beside "$name" "$(trim "$usual")" "$(trim "$command")" ;;
      fast/both | all/both | "$when/$when") layer "$name" "$(trim "$usual")" "$(trim "$command")" ;;
    esac
  done < <(layers)
  [[ -z $BESIDE ]] || conclude_beside
}

layer() { # name, usual time, command
  local log=$LOGS/${1// /-}.log started=$SECONDS status=0 program
  program=$(first_script "$3")
  if [[ -n $program && ! -x $program ]]; then
    echo "--- $1: skipped, $program does not exist yet"
    SKIPPED=$((SKIPPED + 1))
    return
  fi
  echo "--- $1 (usually $2)"
  # A file, not a pipe: daemons that a layer starts must not hold this script open.
  (eval "$3") >"$log" 2>&1 || status=$?
  conclude "$1" "$log" "$3" "$started" "$status"
}

# One at a time: a shell waits for a job of its own by number.
beside() { # name, usual time, command
  local log=$LOGS/${1// /-}.log
  echo "--- $1 (usually $2), beside what follows"
  (eval "$3") >"$log" 2>&1 &
  BESIDE=$! BESIDE_IS=("$1" "$log" "$3" "$SECONDS")
}

conclude_beside() {
  local status=0
  echo "--- waiting for ${BESIDE_IS[0]}"
  wait "$BESIDE" || status=$?
  BESIDE=
  conclude "${BESIDE_IS[@]}" "$status"
}

conclude() { # name, log, command, second of its start, exit code
  count "$1" "$2" "$3"
  if (($5)); then
    ((FAILED)) || FAILED=1
    tail -60 "$2"
    echo "--- $1 FAILED after $((SECONDS - $4)) s; all of it: $2"
    exit 1
  fi
  printf '    %s%d s\n' "$COUNTED" $((SECONDS - $4))
}

# Adds up the results in a log: cargo's, or the lines of our own scripts. A check without any counts
# as one test, a preparation as none.
count() { # name, log, command
  local p f i
  read -r p f i < <(awk '
    /^test result:/ {p += $4; f += $6; i += $8; cargo = 1}
    # A test that could not inject its fault here passes for cargo.
    /fault skipped: / {i++; p--}
    /^test .* \.\.\. ok/ || / holds: / {own++}
    END {print cargo ? p : own + 0, f + 0, i + 0}' "$2")
  COUNTED=
  ((p + f + i == 0)) || COUNTED="$p passed, $f failed, $i skipped, "
  case $1/$3 in
    set-up* | *build/* | Kubernetes*/* | *cargo\ test*) ;;
    *) ((p + f + i)) || p=1 ;;
  esac
  PASSED=$((PASSED + p)) FAILED=$((FAILED + f)) SKIPPED=$((SKIPPED + i))
}

# Ends whatever the run started, and says the sum last.
finish() {
  local status=$?
  if [[ -n $BESIDE ]]; then
    pkill -TERM -P "$BESIDE" || true
    wait "$BESIDE" || true
  fi
  if [[ $FOUND = no && -f $RUN/settings ]]; then
    tests/e2e/cluster/cluster.sh down >"$LOGS/down.log" 2>&1 || echo "taking Kubernetes down failed: $LOGS/down.log"
  fi
  echo "all layers: $SECONDS s"
  echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
  exit "$status"
}

# Seeds of the simulation that only this commit has: each change is judged by other runs than the last,
# and again by the same ones.
fresh() { printf '%d' "0x$(git rev-parse --short=8 HEAD 2>/dev/null || echo 1)"; }

packages() { printf -- '-p multiraft-%s ' "$@"; }

# The script of ours that a command runs, if it is one.
first_script() {
  local word
  for word in $1; do
    case $word in
      *=*) ;;
      */*.sh) echo "$word" && return ;;
      *) return ;;
    esac
  done
}

trim() { sed -E 's/^ +| +$//g' <<<"$1"; }

main "$@"

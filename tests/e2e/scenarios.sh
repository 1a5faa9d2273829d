#!/usr/bin/env bash
# Every scenario of the operator on a real Kubernetes, under load, with the clients' histories checked,
# as a table. At the first that fails it stops.
#
#   scenarios.sh             all of them (about 25 minutes)
#   scenarios.sh NAME…       the chart, a cluster, and these
#   scenarios.sh list        their names
#   scenarios.sh long        all, with every call as a place to crash, and longer churn
#
# Uses the cluster that `cluster.sh ensure` found or started. MULTIRAFT_BIN: folder of the programs.
# ROWS: file for a line of figures for each scenario (default: scenarios.txt beside the programs).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
for part in lib orders load scenarios/changes scenarios/losses scenarios/crashes scenarios/apiserver scenarios/gone \
  scenarios/upgrade scenarios/rivals scenarios/fields scenarios/quiet scenarios/fleet; do
  # shellcheck source=/dev/null
  source "tests/e2e/$part.sh"
done

# name | under load, alone or before (without the chart of this version) | claim | command
scenarios() {
  cat <<'END'
upgrade            | before | operator and nodes become those of this release, and the nodes go back | upgrade
scale              | load   | three nodes become five and three again                              | scale_up_and_down
roll               | load   | a changed template reaches every pod                                 | roll
drain              | load   | every machine is drained in turn, one node away at a time            | drain_each
node-lost          | load   | a machine without power: its node is replaced elsewhere by itself    | node_lost
claim-deleted      | load   | a deleted claim: its node is replaced by itself                      | claim_deleted
data-wiped         | load   | deleted files: their node is replaced by itself                      | wiped
crash-scale-up     | load   | the operator dies while a node is added                              | without_installed_operator crash_scale_up
crash-scale-down   | load   | the operator dies while a node is removed                            | without_installed_operator crash_scale_down
crash-roll         | load   | the operator dies while pods are made anew                           | without_installed_operator crash_roll
crash-replace      | load   | the operator dies while a node is replaced                           | without_installed_operator crash_replace
two-operators      | load   | two operators act at once                                            | without_installed_operator two_operators
api-server-stalled | load   | the API server accepts and says nothing                              | api_server_stalls
fields             | alone  | each field of the spec has its effect, or is refused                 | every_field
idle               | load   | a settled cluster costs no write                                     | idle
sizes              | alone  | a cluster is ready in seconds, however many groups it has           | sizes
fleet              | alone  | ten thousand groups cost the operator little                        | fleet
apply-again        | alone  | applying again changes nothing                                       | apply_again 3
gone               | alone  | a deleted namespace is gone within a minute                          | gone_with_operator
gone-alone         | alone  | the same when no operator runs                                       | gone_without_operator
rights             | alone  | the operator needs all that it may do, and nothing else              | rights
END
}

main() {
  case ${1:-} in
    list) scenarios | awk '{print $1}' && rm -rf "$WORK" && return ;;
    long)
      shift
      CRASHES=all LIVES=2 CHURN=${CHURN:-10}
      ;;
  esac
  CHURN=${CHURN:-1}
  ROWS=${ROWS:-$BIN/scenarios.txt}
  : >"$ROWS"
  begin
  [[ $OWN = no ]] || { echo "machines are lost here, and the API server stalls: unset KUBECONFIG"; exit 1; }
  LOAD_MACHINE=n1
  each before "$@"
  run "the chart installs" install_chart
  run "a manifest becomes a counting cluster" counting_cluster
  each later "$@"
  table
  echo "$PASSED tests passed"
}

each() { # before or later, names (none: all)
  local when=$1 name mode claim command
  shift
  while IFS='|' read -r name mode claim command; do
    name=$(trim "$name") mode=$(trim "$mode") command=$(trim "$command")
    [[ $# = 0 || " $* " = *" $name "* ]] || continue
    [[ $when = before && $mode = before || $when = later && $mode != before ]] || continue
    # Words of the table, split on purpose.
    # shellcheck disable=SC2086
    case $mode in
      load) run "$(trim "$claim")" under_load "$name" $command ;;
      alone) run "$(trim "$claim")" timed "$name" $command ;;
      before) run "$(trim "$claim")" $command ;;
    esac
    more "$name"
  done < <(scenarios)
}

# A scenario without clients.
timed() { # name, command…
  local name=$1 started=$SECONDS before
  shift
  before=$(audited)
  "$@"
  echo "scenario name=$name failed=- gap_ms=- violations=- seconds=$((SECONDS - started)) writes=$(writes_since "$before")" | tee -a "$ROWS"
}

# The scenario's own figures, into its line.
more() { # name
  local words
  words=$(sed -n '/API writes$/d; s/^FIGURE //p' "$WORK/log" | paste -sd';' | sed 's/;/; /g')
  [[ -z $words ]] || sed -i "/^scenario name=$1 /s|\$| more=\"${words//|/}\"|" "$ROWS"
}

table() {
  {
    echo "scenario|failed|longest gap|violations|duration|API writes|more"
    sed -E 's/^scenario name=([^ ]*) .*failed=([^ ]*) gap_ms=([^ ]*) violations=([^ ]*) seconds=([^ ]*) writes=([^ ]*)( more="(.*)")?$/\1|\2|\3 ms|\4|\5 s|\6|\8/' "$ROWS"
  } | sed 's/|- ms|/|-|/' | column -t -s '|'
}

main "$@"

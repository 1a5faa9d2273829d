# Each field of the spec changed once: what tests/e2e/fields.txt says must be seen, or said.
# shellcheck shell=bash

every_field() {
  local field patch what where words rows=0
  manifest fields "{replicas: 1, groups: 2, version: $VERSION, storage: {size: 1Gi}}" | kubectl apply -n "$NAMESPACE" -f -
  kubectl wait -n "$NAMESPACE" mrc/fields --for=condition=Ready --timeout=120s
  while IFS='|' read -r field patch what where words; do
    field=$(trim "$field") patch=$(trim "$patch") what=$(trim "$what") where=$(trim "$where") words=$(trim "$words")
    [[ -n $what && $field != \#* ]] || continue
    echo "row $field: $patch"
    case $what in
      tested) grep -q "\b$words\b" "$where" ;;
      refused) refused "$where" patched "$patch" --dry-run=server ;;
      *) shows "$patch" "$what" "$where" "$words" ;;
    esac
    rows=$((rows + 1))
  done <tests/e2e/fields.txt
  kubectl delete -n "$NAMESPACE" mrc fields --wait=false
  echo "FIGURE $rows rows"
}

patched() { # patch, arguments
  local patch=${1//repository: R/repository: $REGISTRY/multiraft-node}
  shift
  kubectl patch -n "$NAMESPACE" mrc fields --type=merge -p "spec: ${patch//tag: V/tag: $VERSION}" "$@"
}

shows() { # patch, object, jsonpath, words
  patched "$1"
  within 180 says "$2" "$3" "$4" || {
    kubectl get -n "$NAMESPACE" "$2" -o yaml
    kubectl get -n "$NAMESPACE" mrc fields -o yaml
    return 1
  }
}

says() { # object, jsonpath, words
  local said
  said=$(kubectl get -n "$NAMESPACE" "$1" --ignore-not-found -o jsonpath="$2" 2>/dev/null)
  [[ $said == *"$3"* || ( $3 = absent && -z $said ) ]]
}

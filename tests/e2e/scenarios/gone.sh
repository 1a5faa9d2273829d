# A namespace with a cluster in it is deleted.
# shellcheck shell=bash

gone_with_operator() { gone with; }

gone_without_operator() {
  installed_operator 2
  gone without
  installed_operator 2
}

gone() { # with or without
  local space=multiraft-gone-$1 started
  space "$space"
  sample 3 | kubectl apply -n "$space" -f -
  kubectl wait -n "$space" mrc/orders --for=condition=Ready --timeout=120s
  [[ $1 = with ]] || installed_operator 0
  started=$SECONDS
  kubectl delete namespace "$space" --timeout=180s
  echo "FIGURE gone in $((SECONDS - started)) s"
  ((SECONDS - started <= 60))
}

# Certificates of the user's own, by openssl.
# shellcheck shell=bash

certificate_authority() { # name
  openssl ecparam -name prime256v1 -genkey -noout -out "$WORK/$1.key"
  openssl req -x509 -key "$WORK/$1.key" -out "$WORK/$1.crt" -days 30 -subj "/CN=$1" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign 2>/dev/null
}

# Makes a Secret, or puts other certificates into it.
secret() { # namespace, name, days, alternative names
  local folder=$WORK/$1-$2
  mkdir -p "$folder"
  openssl ecparam -name prime256v1 -genkey -noout -out "$folder/tls.key"
  openssl req -new -key "$folder/tls.key" -subj "/CN=$2" |
    openssl x509 -req -CA "$WORK/ca.crt" -CAkey "$WORK/ca.key" -set_serial "0x$(openssl rand -hex 8)" -days "$3" \
      -out "$folder/tls.crt" -extfile <(printf 'extendedKeyUsage=clientAuth,serverAuth\nsubjectAltName=%s\n' "$4") 2>/dev/null
  cp "$WORK/ca.crt" "$folder/ca.crt"
  kubectl create secret generic -n "$1" "$2" --from-file="$folder" --dry-run=client -o yaml | kubectl apply -f -
}

nodes_secret() { # cluster, days
  secret "$NAMESPACE" "$1-tls" "$2" \
    "URI:multiraft://$1.$NAMESPACE/node/$1,DNS:$1,DNS:$1.$NAMESPACE.svc,DNS:*.$1-peers.$NAMESPACE.svc"
}

operator_secret() { # days
  secret "$SYSTEM" operator-tls "$1" "URI:multiraft://multiraft-operator/operator/test"
}

client_secret() { # name, identity
  secret "$NAMESPACE" "$1" 30 "URI:multiraft://$2"
}

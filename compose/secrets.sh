#!/bin/sh
# Generate what compose.yaml needs, once: tokens in secrets.env, and in secrets/ the certificates by
# which the engines know each other. The authority's key is thrown away: nobody can make another.
# `telemetry up` does the same in telemetry/stack/certificates.py.
set -eu
umask 077
cd "$(dirname "$0")/.."
if [ -e secrets.env ] || [ -e secrets ]; then
  echo "secrets.env or secrets/ exists already: remove both to generate new ones" >&2
  exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/extensions" <<END
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[stack]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1, IP:::1, DNS:localhost, DNS:collector, DNS:prometheus, DNS:loki, DNS:alertmanager, DNS:grafana
END
for name in authority stack; do
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/$name-key.pem"
  openssl req -new -key "$work/$name-key.pem" -subj "/CN=telemetry $name" -out "$work/$name.csr"
done
openssl x509 -req -days 3650 -in "$work/authority.csr" -signkey "$work/authority-key.pem" \
  -extfile "$work/extensions" -extensions authority -out "$work/ca.pem"
openssl x509 -req -days 3650 -in "$work/stack.csr" -CA "$work/ca.pem" -CAkey "$work/authority-key.pem" \
  -CAcreateserial -extfile "$work/extensions" -extensions stack -out "$work/stack.pem"

{
  for name in ADMIN_TOKEN GATEWAY_TOKEN WEBHOOK_TOKEN GRAFANA_PASSWORD OTLP_TOKEN APPS_TOKEN; do
    echo "TELEMETRY_$name=$(openssl rand -hex 24)"
  done
  echo "TELEMETRY_TLS_CA='$(cat "$work/ca.pem")'"
  echo "TELEMETRY_TLS_CERTIFICATE='$(cat "$work/stack.pem")'"
  echo "TELEMETRY_TLS_KEY='$(cat "$work/stack-key.pem")'"
} > "$work/secrets.env"
# Containers read the files as other users: only the folder keeps out this machine's.
mkdir secrets
for name in ca.pem stack.pem stack-key.pem; do
  install -m 444 "$work/$name" "secrets/$name"
done
mv "$work/secrets.env" secrets.env
echo "generated secrets.env and secrets/"

#!/bin/sh
# Speaks TLS with itself, trusting a certificate authority made for this: tls.sh PYTHON SCRATCH TESTS
set -eu
python=$1 scratch=$2 tests=$3

cd "$scratch"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=Test authority' -keyout ca.key -out ca.pem 2>/dev/null
openssl req -newkey rsa:2048 -nodes -subj '/CN=localhost' -keyout server.key -out server.csr 2>/dev/null
printf 'subjectAltName=DNS:localhost\n' >san
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.pem 2>/dev/null
"$python" "$tests/tls.py" ca.pem server.pem server.key

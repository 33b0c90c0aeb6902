#!/bin/sh
# Fails when gen/ is not what the .proto sources generate.
set -eu
fresh=$(mktemp -d); trap 'rm -rf "$fresh"' EXIT
buf lint
buf generate -o "$fresh"
diff -r "$fresh/gen" gen || { echo "packages/proto/gen is out of date: run 'npm run generate'"; exit 1; }

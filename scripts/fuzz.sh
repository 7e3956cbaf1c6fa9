#!/usr/bin/env bash
# Runs every fuzz target of the module for a while: fuzz.sh 60s. It ends at the first failure;
# go test says where it kept the input.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-60s}

targets=0
while read -r package; do
	while read -r target; do
		echo "fuzz: $package $target for $time"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package"
		targets=$((targets + 1))
	done < <(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true)
done < <(git grep -l --untracked '^func Fuzz' -- '*_test.go' | xargs -rn1 dirname | sort -u | sed 's|^|./|')
[ "$targets" -gt 0 ] || { echo "fuzz: there are no fuzz targets" >&2; exit 1; }
echo "fuzz: $targets targets, nothing found"

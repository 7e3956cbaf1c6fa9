#!/usr/bin/env bash
# Asks a deployment what a client would: smoke.sh URL [BODY]. BODY is a file with the JSON of a prediction; without one it
# is the guide's four features. It fails, and says what it got, unless
#   - POST URL/predict answers 200 within LATENCY seconds (1), with a field "prediction" and the header X-Weir-Variant,
#   - a path that no route has answers 404 no_route: it is weir that answers, not something before it.
set -euo pipefail

url=${1:?smoke.sh URL [BODY]}
url=${url%/}
body=${2:-}
latency=${LATENCY:-1}
tries=${TRIES:-5}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say() { printf 'smoke: %s\n' "$*" >&2; }

if [ -z "$body" ]; then
	body=$work/body
	printf '{"features":[0.5,1.2,-0.3,2.1]}' >"$body"
fi

# ask PATH ARGUMENTS prints the status and the seconds it took; "000 0" where nobody answers.
ask() {
	local path=$1
	shift
	curl --silent --show-error --max-time 30 --dump-header "$work/head" --output "$work/answer" --write-out '%{http_code} %{time_total}\n' "$@" "$url$path" ||
		echo "000 0"
}

predict() {
	local status took
	read -r status took < <(ask /predict --request POST --header 'Content-Type: application/json' --data-binary "@$body")
	[ "$status" = 200 ] || { say "POST $url/predict answered $status: $(head -c 300 "$work/answer" 2>/dev/null)"; return 1; }
	grep -q '"prediction"' "$work/answer" || { say "the answer has no prediction: $(head -c 300 "$work/answer")"; return 1; }
	grep -qi '^x-weir-variant:' "$work/head" || { say "the answer has no X-Weir-Variant: is weir before the model?"; return 1; }
	awk -v took="$took" -v most="$latency" 'BEGIN {exit !(took <= most)}' || { say "it took $took s, want at most $latency"; return 1; }
	say "POST $url/predict: $status in $took s, $(grep -i '^x-weir-variant:' "$work/head" | tr -d '\r')"
}

nowhere() {
	local status took
	read -r status took < <(ask /no-such-path-for-smoke-tests)
	[ "$status" = 404 ] && grep -q '"no_route"' "$work/answer" || { say "a path without a route answered $status after $took s: $(head -c 300 "$work/answer" 2>/dev/null)"; return 1; }
}

# The first answers after a deployment may be slow; each check has a few tries, and one must pass.
for check in predict nowhere; do
	for ((n = 1; ; n++)); do
		! "$check" || break
		[ "$n" -lt "$tries" ] || { say "$check failed $tries times"; exit 1; }
		sleep 1
	done
done
say "passed"

#!/usr/bin/env bash
# compare.sh [ROUNDS [SECONDS [RATE]]]: CPU time per proxied request of weir, nginx and HAProxy.
#
# Each proxy has core 0 to itself in its turn, generator and endpoint share core 1. The proxies take turns
# within a round, so that a machine whose speed drifts hurts all alike: quote the ratios. The CPU time is
# the scheduler's own account of the proxy's threads. 64 connections, bodies of 80 B up and 150 B down;
# open loop at RATE requests/s, or, with RATE 0, as fast as the answers come.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5} seconds=${2:-5} rate=${3:-2500}
load=(--rate "$rate" --arrivals poisson)
if [ "$rate" = 0 ]; then load=(--closed); fi

dir=$(mktemp -d)
pids=()
cleanup() {
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	wait 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT
sed "s|@DIR@|$dir|g" bench/peers/nginx.conf >"$dir/nginx.conf"
head -c 80 /dev/zero | tr '\0' x >"$dir/body"

GOMAXPROCS=1 taskset -c 1 bin/weir-bench endpoint --listen 127.0.0.1:19001,127.0.0.1:19002 >/dev/null 2>&1 &
pids+=($!)
GOMAXPROCS=1 taskset -c 0 bin/weir serve -c bench/peers/weir.yaml >"$dir/weir.log" 2>&1 &
weir=$!
taskset -c 0 nginx -c "$dir/nginx.conf" >"$dir/nginx.log" 2>&1 &
nginx=$!
taskset -c 0 haproxy -f bench/peers/haproxy.cfg >"$dir/haproxy.log" 2>&1 &
haproxy=$!
pids+=("$weir" "$nginx" "$haproxy")
for port in 19001 19002 19110 19120 19130; do
	for _ in $(seq 100); do
		if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue 2; fi
		sleep 0.1
	done
	echo "nothing listens on port $port" >&2
	cat "$dir"/*.log >&2
	exit 1
done

# cpu PID: nanoseconds of CPU time of the process and its children.
cpu() {
	local p
	for p in "$1" $(cat "/proc/$1/task/$1/children"); do cat /proc/"$p"/task/*/schedstat; done | awk '{s += $1} END {printf "%.0f", s}'
}

# measure PID PORT: "microseconds-per-request p50-ms p99-ms"
measure() {
	local before out
	before=$(cpu "$1")
	out=$(taskset -c 1 bin/weir-bench run --target "http://127.0.0.1:$2/predict" --method POST --body "$dir/body" \
		"${load[@]}" --duration "${seconds}s" --connections 64 -o json 2>/dev/null)
	awk -v ns="$(($(cpu "$1") - before))" '
		/"total":/ { total = 1 }
		total && /"requests":/ && !n { n = $2 + 0 }
		total && /"errors":/ && $2 + 0 { print "there were errors: " $2 > "/dev/stderr"; total = 0 }
		total && /"latency_ms":/ { latency = 1 }
		latency && /"p50":/ && !p50 { p50 = $2 + 0 }
		latency && /"p99":/ && !p99 { p99 = $2 + 0 }
		END { printf "%.1f %.2f %.2f", ns / 1000 / n, p50, p99 }' <<<"$out"
}

echo "${load[*]}, 64 connections; CPU in µs per request (ratio to nginx's in the same round)"
for round in $(seq "$rounds"); do
	n=$(measure "$nginx" 19120) h=$(measure "$haproxy" 19130) w=$(measure "$weir" 19110)
	awk -v n="$n" -v h="$h" -v w="$w" 'BEGIN {
		split(n, N); split(h, H); split(w, W)
		printf "nginx %s  haproxy %s (%.2f)  weir %s (%.2f)   p50 ms %s %s %s   p99 ms %s %s %s\n",
			N[1], H[1], H[1] / N[1], W[1], W[1] / N[1], N[2], H[2], W[2], N[3], H[3], W[3] }'
done

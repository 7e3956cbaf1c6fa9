#!/bin/sh
# Sets the replicas of a Swarm service to what weir asks for: GET /api/v1/scale/POOL, desired_replicas, which comes of the
# pool's key scale. The guide's script averages "docker stats" of task ids, which that command does not know, and so
# divides nothing by nothing; and CPU says little of a model server that waits for a GPU.
#
#   SERVICE=ml_ml-api POOL=ml-api WEIR_ADMIN=http://127.0.0.1:9901 TOKEN_FILE=… docker/swarm/autoscale.sh [--once]
#
# It changes nothing when weir cannot be asked, has no target for the pool, or answers what is no number: no answer is no
# reason to take replicas away. Nor while an update or a rollback of the service is under way, which a change would cut
# short. --once looks once, for cron, whose interval then is the cooldown; its exit status is 1 when the look failed.
#
# POSIX sh with curl or wget, for it also runs in the image docker:cli.
set -eu

SERVICE=${SERVICE:-ml_ml-api}
POOL=${POOL:-ml-api}
MIN_REPLICAS=${MIN_REPLICAS:-2}
MAX_REPLICAS=${MAX_REPLICAS:-10}
INTERVAL=${INTERVAL:-15}      # seconds from one look to the next
COOLDOWN=${COOLDOWN:-60}      # seconds after a change before the next; how long fewer must be enough is scale.down_after
WEIR_ADMIN=${WEIR_ADMIN:-http://127.0.0.1:9901}
TOKEN_FILE=${TOKEN_FILE:-}    # a file with a token alone; it may only read

say() { printf 'autoscale: %s\n' "$*"; }
complain() { say "$*" >&2; }

whole() { # whole TEXT: is it a number without sign and fraction?
	case $1 in
	'' | *[!0-9]* | ???????*) return 1 ;;
	esac
}

for number in MIN_REPLICAS MAX_REPLICAS INTERVAL COOLDOWN; do
	eval "value=\$$number"
	# shellcheck disable=SC2154 # value is set by eval
	whole "$value" || { complain "$number=$value is no whole number"; exit 2; }
done
[ "$MIN_REPLICAS" -ge 1 ] && [ "$MIN_REPLICAS" -le "$MAX_REPLICAS" ] ||
	{ complain "MIN_REPLICAS=$MIN_REPLICAS has to be at least 1 and at most MAX_REPLICAS=$MAX_REPLICAS"; exit 2; }

# ask prints weir's answer. With curl the token is not on a command line, where others of the machine can read it; wget,
# which is for the container, has no other way.
ask() {
	url=$WEIR_ADMIN/api/v1/scale/$POOL
	token=
	[ -z "$TOKEN_FILE" ] || token=$(cat "$TOKEN_FILE") || return 1
	if command -v curl >/dev/null; then
		{
			printf 'url = "%s"\n' "$url"
			[ -z "$token" ] || printf 'header = "Authorization: Bearer %s"\n' "$token"
		} | curl -fsS --max-time 10 --config -
	elif [ -n "$token" ]; then
		wget -q -T 10 -O - --header "Authorization: Bearer $token" "$url"
	else
		wget -q -T 10 -O - "$url"
	fi
}

# desired prints the number in an answer, which is one JSON object without such a key deeper in it; nothing for null.
desired() { tr -d ' \n\t' | sed -n 's/.*"desired_replicas":\([0-9][0-9]*\)[,}].*/\1/p'; }

# look does one round. It returns 1 when it could not find out what it needs.
look() {
	answer=$(ask) || { complain "weir at $WEIR_ADMIN was not to be asked about pool $POOL: nothing is changed"; return 1; }
	want=$(printf %s "$answer" | desired)
	whole "$want" || { complain "weir asks for no number of replicas of pool $POOL (does it have the key scale?): nothing is changed"; return 1; }
	state=$(docker service inspect --format '{{.Spec.Mode.Replicated.Replicas}} {{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}' "$SERVICE") ||
		{ complain "service $SERVICE was not to be looked at: nothing is changed"; return 1; }
	have=${state%% *}
	update=${state#* }
	whole "$have" || { complain "service $SERVICE has no number of replicas but \"$have\": nothing is changed"; return 1; }

	[ "$want" -ge "$MIN_REPLICAS" ] || want=$MIN_REPLICAS
	[ "$want" -le "$MAX_REPLICAS" ] || want=$MAX_REPLICAS
	[ "$want" -ne "$have" ] || return 0
	case $update in
	updating | rollback_started)
		say "$want replicas are wanted, there are $have: an update is under way, which comes first"
		return 0
		;;
	esac
	now=$(date +%s)
	if [ "$changed" -gt 0 ] && [ $((now - changed)) -lt "$COOLDOWN" ]; then
		say "$want replicas are wanted, there are $have: the last change is $((now - changed)) s ago, of $COOLDOWN s"
		return 0
	fi
	say "$SERVICE: from $have replicas to $want"
	docker service scale --detach "$SERVICE=$want" || { complain "service $SERVICE was not scaled"; return 1; }
	changed=$now
}

changed=0
if [ "${1:-}" = --once ]; then
	look
	exit
elif [ $# -gt 0 ]; then
	complain "usage: autoscale.sh [--once]"
	exit 2
fi
# "docker stop" is not to wait for the end of a pause.
trap 'exit 0' TERM INT
while :; do
	look || :
	sleep "$INTERVAL" &
	wait $!
done

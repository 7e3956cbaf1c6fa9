#!/usr/bin/env bash
# Tells a Slack channel how a deployment went: notify.sh STATUS TEXT. SLACK_WEBHOOK is the URL of the incoming webhook;
# without one nothing is sent, and that is said. It never fails a deployment.
set -euo pipefail

status=${1:?notify.sh STATUS TEXT} text=${2:?notify.sh STATUS TEXT}
if [ -z "${SLACK_WEBHOOK:-}" ]; then
	echo "notify: SLACK_WEBHOOK is not set: nobody was told: $status: $text" >&2
	exit 0
fi

case $status in
success) mark=":white_check_mark:" ;;
cancelled) mark=":no_entry_sign:" ;;
*) mark=":x:" ;;
esac

# JSON by hand, so that nothing has to be installed: backslashes, quotes and line ends are escaped, other controls go.
escaped=$(printf '%s' "$text" | tr -d '\000-\010\013-\037' | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/\t/ /g' | awk 'NR > 1 {printf "\\n"} {printf "%s", $0}')
printf '{"text":"%s Deployment %s\\n%s"}' "$mark" "$status" "$escaped" |
	curl --silent --show-error --fail --max-time 20 --retry 2 --header 'Content-Type: application/json' --data-binary @- --output /dev/null "$SLACK_WEBHOOK" ||
	echo "notify: the webhook did not take it" >&2

#!/usr/bin/env bash
# The guide's k8s-rollback.sh (5.2), weights first: rollback.sh NAMESPACE COLOUR
#
# All requests go to COLOUR (blue or green) from the next one on, at each weir, and the file of the cluster says so for pods
# that start later. Only then does the deployment of the other colour go back to the image before, which takes its time
# and by then concerns nobody. KEEP_IMAGE=1 leaves it as it is, to be looked at.
set -euo pipefail

namespace=${1:?rollback.sh NAMESPACE blue|green} to=${2:?rollback.sh NAMESPACE blue|green}
route=${ROUTE:-predict}
case $to in
blue) other=green split="{blue: 100, green: 0}" ;;
green) other=blue split="{blue: 0, green: 100}" ;;
*) echo "rollback: unknown colour $to, want blue or green" >&2; exit 2 ;;
esac
kube() { kubectl --namespace "$namespace" "$@"; }
weir() {
	local pod=$1
	shift
	kube exec "$pod" --container weir -- /weir "$@" --token-file /run/secrets/weir/tokens
}

pods=$(kube get pods --selector app.kubernetes.io/name=weir --field-selector status.phase=Running --output name)
[ -n "$pods" ] || { echo "rollback: no weir runs in the namespace $namespace" >&2; exit 1; }

echo "== what was changed last"
for pod in $pods; do
	echo "-- $pod"
	weir "$pod" history -n 5
done
kube rollout history "deployment/ml-api-$other"

echo "== all requests to $to"
failed=0
for pod in $pods; do
	weir "$pod" rollout abort "$route" --reason rollback >/dev/null 2>&1 || true # refused where none is under way
	weir "$pod" switch "$route" "$to" --force --reason rollback || { failed=1; echo "rollback: $pod was not switched" >&2; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
kube get configmap weir-config --output 'jsonpath={.data.weir\.yaml}' |
	sed -E "s|^( *split: *)\\{.*\\}( *# pipeline: split)\$|\\1$split\\2|" >"$work/weir.yaml"
if grep -qF "split: $split" "$work/weir.yaml"; then
	kube create configmap weir-config --from-file="weir.yaml=$work/weir.yaml" --dry-run=client --output yaml | kube apply --filename -
else
	failed=1
	echo "rollback: the ConfigMap weir-config has no line marked \"pipeline: split\": change it by hand, or new pods begin with it" >&2
fi

if [ -z "${KEEP_IMAGE:-}" ]; then
	echo "== $other back to the image before"
	kube rollout undo "deployment/ml-api-$other"
	kube rollout status "deployment/ml-api-$other" --timeout 10m
fi

echo "== what is now"
kube get pods --selector app.kubernetes.io/part-of=weir --output wide
for pod in $pods; do
	echo "-- $pod"
	weir "$pod" status || failed=1 # 3: degraded, and it says why
done
exit $failed

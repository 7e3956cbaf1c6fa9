#!/usr/bin/env bash
# The steps of a deployment of a model, as deploy.yaml runs them one after the other; each can be run by hand as well.
#
#   pipeline.sh look                what is deployed, into OUT/before.env: which colour serves, images, versions
#   pipeline.sh backup              a snapshot and the generation of each weir, and the objects, into OUT/backup
#   pipeline.sh deploy              IMAGE and VERSION to the colour that does not serve; returns when it is ready
#   pipeline.sh start               begins the rollout at each weir
#   pipeline.sh wait                returns when each has succeeded; fails as soon as one has not
#   pipeline.sh settle              writes the outcome into the file of the cluster: new pods begin with it
#   pipeline.sh undo                takes it all back: weights first, then the image. It may be run at any time
#
# Each replica of weir has weights and rollouts of its own, so each is told, in its own container (kubectl exec): no
# admin port has to be reachable from here. Settings come from the environment:
#
#   OVERLAY     a folder of docker/kubernetes/overlays    NAMESPACE   where it goes
#   IMAGE       of the new version, best with its digest  VERSION     its version
#   REASON      for weir's history                        TIMEOUT     of the rollout, 1h
#   OUT         working files, docker/pipeline/out        PATIENCE    seconds until pods and files are as told, 600
set -euo pipefail
cd "$(dirname "$0")/../.."

: "${OVERLAY:?a folder of docker/kubernetes/overlays}" "${NAMESPACE:?the namespace}"
OUT=${OUT:-docker/pipeline/out}
ROUTE=${ROUTE:-predict}
TIMEOUT=${TIMEOUT:-1h}
REASON=${REASON:-pipeline}
PATIENCE=${PATIENCE:-600}
overlay=docker/kubernetes/overlays/$OVERLAY

say() { printf 'pipeline: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
kube() { kubectl --namespace "$NAMESPACE" "$@"; }

# weir POD ARGUMENTS runs weir's command line in the container of a weir. The first token of its own file may write.
weir() {
	local pod=$1
	shift
	kube exec "$pod" --container weir -- /weir "$@" --token-file /run/secrets/weir/tokens
}

# weirs are the pods of weir, a line each. There is at least one, else nothing would be steered.
weirs() {
	local pods
	pods=$(kube get pods --selector app.kubernetes.io/name=weir --field-selector status.phase=Running --output name)
	[ -n "$pods" ] || die "no weir runs in the namespace $NAMESPACE"
	printf '%s\n' "$pods"
}

# marked FILE reads the lines of a weir.yaml that are marked "pipeline:": the versions of blue and green, and the split.
marked() {
	sed -nE 's/^ *version: *([^ ]+) *# pipeline: version of (blue|green)$/\2 \1/p
		s/^ *split: *\{blue: *([0-9.]+), *green: *([0-9.]+)\} *# pipeline: split$/split \1 \2/p' "$1" |
		awk '{v[$1] = $2; if ($1 == "split") w = $2 " " $3}
			END {if (v["blue"] == "" || v["green"] == "" || w == "") exit 1; print v["blue"], v["green"], w}' ||
		die "$1 lacks a line marked \"pipeline: version of blue\", \"… of green\" or \"pipeline: split\""
}

look() {
	local file=$OUT/weir.before.yaml found blue green of_blue of_green active target image_blue="" image_green="" first=0
	mkdir -p "$OUT"
	kube get configmap weir-config --ignore-not-found --output 'jsonpath={.data.weir\.yaml}' >"$file"
	if [ ! -s "$file" ]; then
		first=1
		cp "$overlay/weir.yaml" "$file"
	fi
	found=$(marked "$file")
	read -r blue green of_blue of_green <<<"$found"
	case $(awk -v b="$of_blue" -v g="$of_green" 'BEGIN {print (b > 0) "" (g > 0)}') in
	10) active=blue target=green ;;
	01) active=green target=blue ;;
	*) die "the split of the cluster's file is blue $of_blue, green $of_green: give all to one of them first" ;;
	esac
	if [ "$first" = 0 ]; then
		image_blue=$(kube get deployment ml-api-blue --output 'jsonpath={.spec.template.spec.containers[0].image}')
		image_green=$(kube get deployment ml-api-green --output 'jsonpath={.spec.template.spec.containers[0].image}')
	fi
	printf '%s=%q\n' first "$first" active "$active" target "$target" version_blue "$blue" version_green "$green" \
		image_blue "$image_blue" image_green "$image_green" >"$OUT/before.env"
	[ $active = blue ] || blue=$green
	say "$active serves, $blue; $target is the one to deploy to"
}

before() {
	[ -s "$OUT/before.env" ] || die "run \"pipeline.sh look\" first"
	# shellcheck disable=SC1091 # written by look
	. "$OUT/before.env"
}

backup() {
	local pod pods
	before
	mkdir -p "$OUT/backup"
	[ "$first" = 0 ] || { say "nothing is deployed yet"; return; }
	pods=$(weirs)
	kube get configmap,deployment,service,horizontalpodautoscaler --output yaml >"$OUT/backup/objects.yaml"
	for pod in $pods; do
		weir "$pod" snapshot -c /etc/weir/weir.yaml >"$OUT/backup/${pod#pod/}.snapshot"
		weir "$pod" history -n 1 -o json | grep -om1 '"generation": *[0-9]*' | grep -o '[0-9]*$' >"$OUT/backup/${pod#pod/}.generation"
		say "$pod: generation $(cat "$OUT/backup/${pod#pod/}.generation") is kept"
	done
}

# render BLUE_IMAGE BLUE_VERSION GREEN_IMAGE GREEN_VERSION BLUE_WEIGHT GREEN_WEIGHT writes an overlay over the overlay. An
# image of "" is that of the overlay.
render() {
	local colour image version blue=$1 green=$3 at
	at=$(sed -n 's/^namespace: *//p' "$overlay/kustomization.yaml")
	[ -n "$at" ] || die "$overlay/kustomization.yaml names no namespace"
	mkdir -p "$OUT/overlay"
	sed -E -e "s|^( *version: *)[^ ]+( *# pipeline: version of blue)\$|\\1$2\\2|" \
		-e "s|^( *version: *)[^ ]+( *# pipeline: version of green)\$|\\1$4\\2|" \
		-e "s|^( *split: *)\\{.*\\}( *# pipeline: split)\$|\\1{blue: $5, green: $6}\\2|" "$overlay/weir.yaml" >"$OUT/overlay/weir.yaml"
	[ "$(marked "$OUT/overlay/weir.yaml")" = "$2 $4 $5 $6" ] || die "the versions $2 and $4 cannot be written into weir.yaml"
	{
		echo "apiVersion: kustomize.config.k8s.io/v1beta1"
		echo "kind: Kustomization"
		echo "namespace: $NAMESPACE"
		echo "resources: [$(realpath --relative-to="$OUT/overlay" "$overlay")]"
		echo "configMapGenerator:"
		echo "  - {name: weir-config, namespace: $at, behavior: replace, files: [weir.yaml], options: {disableNameSuffixHash: true}}"
		for colour in blue green; do
			[ $colour = blue ] && version=$2 || version=$4
			echo "  - {name: ml-api-env-$colour, namespace: $at, behavior: merge, literals: [\"MODEL_VERSION=$version\"]}"
		done
		[ -z "$blue$green" ] || echo "patches:"
		for colour in blue green; do
			[ $colour = blue ] && image=$blue || image=$green
			[ -z "$image" ] || printf '  - target: {kind: Deployment, name: ml-api-%s}\n    patch: |-\n      - {op: replace, path: /spec/template/spec/containers/0/image, value: "%s"}\n' $colour "$image"
		done
	} >"$OUT/overlay/kustomization.yaml"
}

# put COLOUR IMAGE VERSION and the colour that gets everything: renders what was before, but for one colour's image.
put() {
	local colour=$1 image=$2 version=$3 weights="100 0"
	[ "$4" = blue ] || weights="0 100"
	# shellcheck disable=SC2086 # two words
	if [ "$colour" = blue ]; then
		render "$image" "$version" "$image_green" "$version_green" $weights
	else
		render "$image_blue" "$version_blue" "$image" "$version" $weights
	fi
}

# apply applies what was rendered, and returns when pods and configurations are those.
apply() {
	local deployment wanted pod pods end=$((SECONDS + PATIENCE))
	kube apply --kustomize "$OUT/overlay"
	for deployment in ml-api-blue ml-api-green weir; do
		kube rollout status "deployment/$deployment" --timeout "${PATIENCE}s"
	done
	wanted=$(marked "$OUT/overlay/weir.yaml")
	pods=$(weirs)
	# The file reaches a pod when its kubelet looks again, about a minute later.
	for pod in $pods; do
		until [ "$(in_force "$pod")" = "$wanted" ]; do
			[ $SECONDS -lt $end ] || die "$pod has not taken up the new file: $(in_force "$pod"), want $wanted; its log says why"
			sleep 2
		done
		say "$pod has the new file"
	done
}

# in_force POD is what marked finds in the file, of the configuration that a weir has.
in_force() {
	weir "$1" config show | awk -v route="$ROUTE" '
		/^[a-z]/ {room = $1}
		room == "pools:" && /^  [a-z]/ {pool = $1}
		room == "pools:" && $1 == "version:" {version[pool] = $2}
		room == "routes:" && /^- / {ours = ($2 == "name:" && $3 == route); inside = 0}
		room == "routes:" && ours && /^  [a-z]/ {inside = ($1 == "split:")}
		inside && /^    / {weight[$1] = $2}
		END {print version["blue:"], version["green:"], weight["blue:"], weight["green:"]}'
}

deploy() {
	before
	: "${IMAGE:?the image of the new version}" "${VERSION:?the new version}"
	if [ "$first" = 1 ]; then
		render "$IMAGE" "$VERSION" "$IMAGE" "$VERSION" "$([ "$active" = blue ] && echo 100 || echo 0)" "$([ "$active" = blue ] && echo 0 || echo 100)"
	else
		put "$target" "$IMAGE" "$VERSION" "$active"
	fi
	apply
}

start() {
	local pod pods
	before
	[ "$first" = 0 ] || { say "the first deployment: there is nothing to compare with"; return; }
	pods=$(weirs)
	for pod in $pods; do
		weir "$pod" rollout start "$ROUTE" --to "$target" --reason "$REASON"
	done
}

# await POD waits in short turns: a connection on which nothing comes for long is cut on its way.
await() {
	local status end=$1 pod=$2
	while :; do
		status=0
		weir "$pod" rollout status "$ROUTE" --wait --timeout 10s >"$OUT/${pod#pod/}.rollout" 2>&1 || status=$?
		case $status in
		0) return 0 ;;
		3) say "$pod: $(cat "$OUT/${pod#pod/}.rollout")"; return 3 ;;
		esac
		kube get "$pod" --output name >/dev/null || { say "$pod is gone, and its rollout with it"; return 1; }
		[ "$(date +%s)" -lt "$end" ] || { say "$pod: not there in time: $(cat "$OUT/${pod#pod/}.rollout")"; return 1; }
		sleep 1
	done
}

wait_all() {
	local pod pods end waiting=() status=0
	before
	[ "$first" = 0 ] || return 0
	end=$(date --date "now + $(seconds "$TIMEOUT") seconds" +%s)
	pods=$(weirs)
	for pod in $pods; do
		await "$end" "$pod" &
		waiting+=($!)
	done
	for pod in $pods; do
		wait -n || { status=$?; break; } # the first that fails decides for all
	done
	kill "${waiting[@]}" 2>/dev/null || true # those that still wait
	wait || true
	[ $status = 0 ] || die "the rollout has not succeeded everywhere"
	say "the rollout has succeeded at each weir"
}

# seconds turns 90s, 30m or 1h into a number.
seconds() {
	case $1 in
	*h) echo $((${1%h} * 3600)) ;;
	*m) echo $((${1%m} * 60)) ;;
	*s) echo "${1%s}" ;;
	*) die "TIMEOUT=$1: want a number of s, m or h" ;;
	esac
}

settle() {
	before
	[ "$first" = 0 ] || return 0
	: "${IMAGE:?the image of the new version}" "${VERSION:?the new version}"
	put "$target" "$IMAGE" "$VERSION" "$target"
	apply
	say "$target serves: $VERSION"
}

undo() {
	local pod pods kept failed=0
	before
	[ "$first" = 0 ] || die "the first deployment: there is nothing to go back to"
	pods=$(weirs)
	for pod in $pods; do
		# Refused where no rollout is under way, which is as well.
		weir "$pod" rollout abort "$ROUTE" --reason "$REASON failed" || true
		kept=$OUT/backup/${pod#pod/}.generation
		if [ -s "$kept" ]; then
			weir "$pod" rollback --to "$(cat "$kept")" --force --reason "$REASON failed" || failed=1
		else
			# It came after the backup, and began with the file, which says what was.
			weir "$pod" switch "$ROUTE" "$active" --force --reason "$REASON failed" || failed=1
		fi
	done
	[ $failed = 0 ] || say "a weir has not gone back: see above"
	if [ "$target" = blue ]; then
		put blue "$image_blue" "$version_blue" green
	else
		put green "$image_green" "$version_green" blue
	fi
	apply
	[ $failed = 0 ] || exit 1
	say "$active serves, as before"
}

case ${1:-} in
look | backup | deploy | start | settle | undo) "$1" ;;
wait) wait_all ;;
*) die "unknown step \"${1:-}\": want look, backup, deploy, start, wait, settle or undo" ;;
esac

#!/usr/bin/env bash
# Goes back to an earlier version of a model server that runs under Compose, without a gap. The order is the opposite of
# the guide's, which stops what runs, and then sees whether there is anything to start:
#
#   1. weights: "weir rollback" takes the requests off the bad version, within milliseconds and on its own undoes most of it
#   2. the image: is it there, or can it be had? If not, it ends here, and nothing but weights has changed
#   3. a backup of the file, of .env and of what they come to
#   4. new containers beside the old ones, and a wait until they are healthy; where they are not, they go again
#   5. the old ones go, after they have finished what they had
#   6. the version is written into .env, so that the next "up" agrees. The compose file itself stays as it is
#
#   docker/rollback.sh --version v1.2.2 --compose-file docker/compose.production.yaml
#
# --version V          the tag to go back to (required)
# --compose-file F     default: docker/compose.production.yaml
# --service S          default: ml-api
# --variable N         the variable of the file that holds the tag; default: VERSION
# --backup-dir D       default: backups beside the compose file
# --weir COMMAND       how to reach weir; default: "docker compose -f F exec -T weir /weir", "" leaves the weights alone
# --token-file T       in weir's container; default: /run/secrets/weir-admin, "" for an admin API without tokens
# --pool P             the service has a container_name, so that there cannot be two: drain pool P, replace the container in
#                      its place, end the drain. The requests go to the other variants meanwhile
# --timeout SECONDS    for new containers to become healthy; default: 120
# --reason TEXT        for weir's history
# --dry-run            say what would be done
#
# Exit status: 0 done, 1 not done (the old containers serve), 2 wrong usage.
set -euo pipefail

version='' file=docker/compose.production.yaml service=ml-api variable=VERSION backups='' pool='' timeout=120 dry=''
weir=default token=/run/secrets/weir-admin reason=''

say() { printf 'rollback: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
usage() { say "$*"; sed -n '/^#   docker\/rollback.sh/,/^# Exit/s/^# \{0,1\}//p' "$0" >&2; exit 2; }

while [ $# -gt 0 ]; do
	name=$1
	case $name in
	--dry-run) dry=yes; shift; continue ;;
	-h | --help) usage "goes back to an earlier version" ;;
	--version | --compose-file | --service | --variable | --backup-dir | --weir | --token-file | --pool | --timeout | --reason) ;;
	*) usage "unknown argument $name" ;;
	esac
	[ $# -ge 2 ] || usage "$name needs a value"
	value=$2
	shift 2
	case $name in
	--version) version=$value ;;
	--compose-file) file=$value ;;
	--service) service=$value ;;
	--variable) variable=$value ;;
	--backup-dir) backups=$value ;;
	--weir) weir=$value ;;
	--token-file) token=$value ;;
	--pool) pool=$value ;;
	--timeout) timeout=$value ;;
	--reason) reason=$value ;;
	esac
done
[ -n "$version" ] || usage "--version is missing"
[[ $version =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]] || usage "--version $version is no tag of an image"
[[ $variable =~ ^[A-Z_][A-Z0-9_]*$ ]] || usage "--variable $variable is no name of a variable"
[[ $timeout =~ ^[0-9]{1,5}$ ]] || usage "--timeout $timeout is no number of seconds"
[ -f "$file" ] || die "there is no $file"
folder=$(dirname "$file")
backups=${backups:-$folder/backups}
env_file=$folder/.env
reason=${reason:-back to $version}

# compose runs docker compose on the file, with the version to go back to in force.
compose() { env "$variable=$version" docker compose -f "$file" "$@"; }
if [ "$weir" = default ]; then
	weir="docker compose -f $file exec -T weir /weir"
fi
# steer runs a command of weir. $weir is several words on purpose.
steer() {
	local flags=()
	[ -z "$token" ] || flags=(--token-file "$token")
	# shellcheck disable=SC2086
	$weir "$@" "${flags[@]}"
}
# run does a step that changes something, or says it.
run() {
	if [ -n "$dry" ]; then
		say "would run: $*"
	else
		"$@"
	fi
}

# 1. Weights. Where weir refuses, because the change before was another's or there is none, images may still be the cure.
if [ -n "$weir" ]; then
	say "1/6 weights"
	run steer rollback --reason "$reason" || say "weir did not go back: the weights stay as they are; look at \"weir history\""
else
	say "1/6 weights: left alone"
fi

# 2. The image: that of the running containers, with the tag to go back to.
say "2/6 image"
mapfile -t old < <(compose ps --quiet "$service")
[ ${#old[@]} -gt 0 ] || die "no container of $service runs: to start it, $variable=$version docker compose -f $file up -d $service"
running=$(docker inspect --format '{{.Config.Image}}' "${old[0]}")
case ${running##*/} in
*:* | *@*) image=${running%[:@]*} ;;
*) image=$running ;;
esac
image=${image%@sha256}:$version
compose config --images "$service" | grep -Fxq "$image" ||
	die "with $variable=$version the image of $service in $file is not $image: is $variable what holds its tag?"
[ "$running" != "$image" ] || die "$service runs $image already"
if ! docker image inspect "$image" >/dev/null 2>&1; then
	run docker pull --quiet "$image" || die "there is no image $image, here or to be had: nothing was replaced"
fi

# 3. Backup.
backup=$backups/$(date -u +%Y%m%dT%H%M%SZ)
say "3/6 backup in $backup"
save() {
	(umask 077 && mkdir -p "$backup")
	cp "$file" "$backup/"
	[ ! -f "$env_file" ] || cp "$env_file" "$backup/"
	# What was in force, not what is about to be.
	docker compose -f "$file" config >"$backup/resolved-compose.yaml"
}
run save

# healthy CONTAINER...: waits until all are; 1 when the time is over, or one has ended.
healthy() {
	local until=$((SECONDS + timeout)) container state waiting
	while :; do
		waiting=''
		for container in "$@"; do
			state=$(docker inspect --format '{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}' "$container") || return 1
			case $state in
			"running healthy") ;;
			"running none") say "$container has no health check, and is taken for healthy" ;;
			running* | created* | restarting*) waiting=yes ;;
			*) say "$container is $state"; return 1 ;;
			esac
		done
		[ -n "$waiting" ] || return 0
		[ "$SECONDS" -lt "$until" ] || { say "not healthy after $timeout s"; return 1; }
		sleep 1
	done
}

beside() {
	local count=${#old[@]} all new=() container
	compose up --detach --no-deps --no-build --no-recreate --scale "$service=$((2 * count))" "$service" ||
		say "not all new containers started"
	mapfile -t all < <(compose ps --all --quiet "$service")
	for container in "${all[@]}"; do
		[[ " ${old[*]} " == *" $container "* ]] || new+=("$container")
	done
	if [ ${#new[@]} -lt "$count" ] || ! healthy "${new[@]}"; then
		[ ${#new[@]} = 0 ] || docker rm --force "${new[@]}" >/dev/null
		die "the new containers of $service did not become healthy and are gone again; the old ones serve"
	fi
	say "5/6 the old containers end"
	# One after the other: each says that it is not ready, finishes what it has, and is missed by nobody.
	for container in "${old[@]}"; do
		docker stop "$container" >/dev/null
		docker rm "$container" >/dev/null
	done
}

in_place() {
	if ! steer drain "$pool" --wait --timeout "${timeout}s" --reason "$reason"; then
		steer undrain "$pool" --reason "$reason" || : # refused, or not done in time and going on
		die "pool $pool was not drained: nothing was replaced"
	fi
	if ! compose up --detach --no-deps --no-build "$service"; then
		die "the container of $service was not replaced; pool $pool stays drained: weir undrain $pool"
	fi
	mapfile -t old < <(compose ps --all --quiet "$service")
	healthy "${old[@]}" || die "the new container of $service is not healthy; pool $pool stays drained: weir undrain $pool"
	say "5/6 the drain ends"
	steer undrain "$pool" --reason "$reason"
}

say "4/6 containers of $image"
if [ -n "$pool" ]; then
	[ -n "$weir" ] || usage "--pool needs --weir"
	run in_place
else
	run beside
fi

# 6. The version, for the next "up". Replaced as a whole, so that nobody reads half of it.
say "6/6 $variable=$version in $env_file"
remember() {
	{
		[ ! -f "$env_file" ] || grep -v "^$variable=" "$env_file" || :
		echo "$variable=$version"
	} >"$env_file.new"
	mv "$env_file.new" "$env_file"
}
run remember
say "done: $service runs $image"

#!/bin/sh
# Makes the secrets of the stacks: secrets.sh [DIRECTORY [NAME...]], by default all of them in docker/secrets, which git
# does not see. One that is there already stays as it is, so that it can be run again; delete a file to have it made anew.
#
# Compose mounts these files with the owner and the mode that they have here, and the users of the images differ. As root
# it gives each file to the user that reads it. As somebody else it cannot: then the files can be read by everybody, and
# the folder only by you, so that nobody gets to them but the containers they are mounted into. weir warns of such a file.
#
# POSIX sh, for it also runs in busybox (compose.yaml, where DIRECTORY_MODE lets other users pass through).
set -eu

directory=${1:-$(dirname "$0")/secrets}
[ $# = 0 ] || shift
[ $# != 0 ] || set -- weir-admin weir-metrics-token db-password grafana-password alerts-pager-url alerts-tickets-url

umask 077
mkdir -p "$directory"
# A folder of certificates is mounted as a whole, and so has to let weir's user in.
[ "$1" != trial-certificate ] || DIRECTORY_MODE=0755
chmod "${DIRECTORY_MODE:-0700}" "$directory"

random() { od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'; }

# keep NAME USER: writes what is on standard input, all or nothing, readable for USER; "all" is more than one user.
keep() {
	cat >"$directory/.$1"
	if [ "$2" != all ] && [ "$(id -u)" = 0 ]; then
		chown "$2" "$directory/.$1"
		chmod 0400 "$directory/.$1"
	else
		chmod 0444 "$directory/.$1"
	fi
	mv "$directory/.$1" "$directory/$1"
	echo "made $directory/$1" >&2
}

for name in "$@"; do
	[ ! -s "$directory/$name" ] || continue
	case $name in
	weir-admin) # of weir (65532): may everything, and may look; the second is what Prometheus brings
		metrics=$(random)
		rm -f "$directory/weir-metrics-token"
		printf 'ops:write:%s\nprometheus:read:%s\n' "$(random)" "$metrics" | keep weir-admin 65532
		;;
	weir-metrics-token) # of Prometheus (nobody, 65534)
		[ -n "${metrics:-}" ] || metrics=$(sed -n 's/^prometheus:read://p' "$directory/weir-admin")
		printf %s "$metrics" | keep weir-metrics-token 65534
		;;
	db-password) random | keep db-password all ;;               # of PostgreSQL and MLflow
	grafana-password) random | keep grafana-password 472 ;;     # of Grafana
	# Where Alertmanager (65534) sends to; nobody listens at port 9 until you write a webhook's URL there.
	alerts-pager-url | alerts-tickets-url) printf http://127.0.0.1:9/ | keep "$name" 65534 ;;
	trial-certificate) # of weir: tls.crt and tls.key, self-signed, for a month; only when asked for by name
		[ ! -s "$directory/tls.crt" ] || continue
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=ml-api.production.com \
			-addext subjectAltName=DNS:ml-api.production.com,DNS:localhost,IP:127.0.0.1 \
			-keyout "$directory/.key" -out "$directory/.crt" 2>/dev/null
		keep tls.key 65532 <"$directory/.key"
		keep tls.crt all <"$directory/.crt"
		rm -f "$directory/.key" "$directory/.crt"
		;;
	*)
		echo "secrets.sh: unknown secret $name" >&2
		exit 2
		;;
	esac
done

#!/bin/sh
# Puts the lifecycle and the template of the indices ml-api-* into Elasticsearch: setup.sh URL. It changes what is there
# already to what these files say, and is done when Elasticsearch has taken both.
set -eu
url=$1
cd "$(dirname "$0")"

put() {
	curl -fsS --retry 10 --retry-connrefused --max-time 30 -X PUT -H 'Content-Type: application/json' --data-binary "@$2" "$url$1"
	echo
}

put /_ilm/policy/ml-api lifecycle.json # before the template, which names it
put /_index_template/ml-api index-template.json

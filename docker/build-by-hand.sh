#!/usr/bin/env bash
# Does what the Dockerfiles say on this machine, without an engine, into a temporary folder; starts what came of it; and has
# the built weir check the files of docker/weir. It is how the images are tested where there is no engine: make stack-check.
set -euo pipefail
cd "$(dirname "$0")/checks"
exec go run ./byhand "$@"

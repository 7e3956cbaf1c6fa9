#!/usr/bin/env bash
# Installs what weir needs and what is not there yet. It says what it does, asks nothing, and
# is done at once where everything is in place.
#
#   setup.sh tools        check Go, a C compiler and git
#   setup.sh onnxruntime  bin/lib/libonnxruntime.so, out of an npm package
#   setup.sh peers        strace, curl, openssl, nghttp2's clients, nginx, haproxy and slowhttptest, that tests and comparisons use (apt)
#   setup.sh monitoring   prometheus with promtool, and amtool of Alertmanager, that tests use (apt)
#   setup.sh dataset      the images that make models trains on (apt)
#   setup.sh protobuf     protoc, that make proto uses (apt)
#   setup.sh grpcjs       .cache/grpcjs, gRPC's client for Node.js, that tests use (npm)
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }

tools() {
	have go || die "no Go: install the version that go.mod names, or a newer one, and put it on PATH"
	local want got
	want=$(awk '$1 == "go" {print $2}' go.mod)
	got=$(go env GOVERSION)
	[ "$(printf '%s\n' "$want" "${got#go}" | sort -V | head -n 1)" = "$want" ] ||
		die "Go is ${got#go}, weir needs $want or newer"
	have "$(go env CC)" || die "no C compiler ($(go env CC)), which weir-backend needs: on Debian, apt-get install gcc libc6-dev"
	have git || die "no git: on Debian, apt-get install git"
}

# ONNX Runtime comes from an npm package that carries the shared library alone; it is checked
# against the hash noted here, not against what the registry says.
ort_version=1.13.8
ort_package() {
	case ${GOARCH:-$(go env GOARCH)} in # without Go, as in docker/backend.Dockerfile, the variables say it
	amd64) echo sherpa-onnx-linux-x64 ea99678636a0b127939ed0a09e56a0f3a8566ecfee644f42ae6b352e039bebcff59cab0842331df961b9d7d9be68fc13e93aec04e884333af1e35b7cb0be4be6 ;;
	arm64) echo sherpa-onnx-linux-arm64 4e583b6bbd1bfd681edce17c2204c717d8e14950ac2f22902a1c1ce01b09e40f9d2ff4ab16d1818f3b87a785de2e18a2393eda7c2c57e4f7529ff0f873c2e7bb ;;
	*) die "no ONNX Runtime is known for ${GOARCH:-$(go env GOARCH)}: put libonnxruntime.so into bin/lib" ;;
	esac
}

onnxruntime() {
	local library=bin/lib/libonnxruntime.so stamp=.cache/onnxruntime.version package hash work
	[ -z "${ORT_DYLIB_PATH:-}" ] || return 0 # the user brings a library
	[ "${GOOS:-$(go env GOOS)}" = linux ] || die "ONNX Runtime is fetched for Linux only: set ORT_DYLIB_PATH to yours"
	read -r package hash < <(ort_package)
	[ "$(cat "$stamp" 2>/dev/null)" = "$package $ort_version" ] && [ -s "$library" ] && return 0

	have npm || die "no npm to fetch ONNX Runtime with: on Debian, apt-get install npm; or set ORT_DYLIB_PATH to a libonnxruntime.so of 1.24 or newer"
	say "fetching ONNX Runtime ($package $ort_version from npm, 11 MB) into $library"
	mkdir -p bin/lib .cache
	work=$(mktemp -d .cache/onnxruntime.XXXXXX)
	trap 'rm -rf "$work"' EXIT
	(cd "$work" && npm pack --silent "$package@$ort_version" >/dev/null) || die "npm pack $package@$ort_version failed"
	echo "$hash  $work/$package-$ort_version.tgz" | sha512sum --check --status ||
		die "$package-$ort_version.tgz is not the file whose SHA-512 scripts/setup.sh knows; nothing was installed"
	tar -xzf "$work/$package-$ort_version.tgz" -C "$work" package/libonnxruntime.so
	mv "$work/package/libonnxruntime.so" "$library"
	echo "$package $ort_version" >"$stamp"
	rm -rf "$work"
	trap - EXIT
}

# apt_install installs Debian packages without starting the services in them.
apt_install() {
	local as_root=() policy=/usr/sbin/policy-rc.d
	have apt-get || die "no apt-get: please install $* (or what your system calls them)"
	if [ "$(id -u)" != 0 ]; then
		have sudo || die "please run as root: apt-get install --no-install-recommends $*"
		as_root=(sudo)
	fi
	say "installing Debian packages: $*"
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
		"${as_root[@]}" chmod 755 "$policy"
		# shellcheck disable=SC2064 # the values of now are meant
		trap "${as_root[*]} rm -f $policy" EXIT
	fi
	"${as_root[@]}" apt-get update -qq
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
	if [ -n "$(trap -p EXIT)" ]; then
		"${as_root[@]}" rm -f "$policy"
		trap - EXIT
	fi
}

peers() {
	local missing=() name
	for name in strace curl openssl nginx haproxy slowhttptest; do
		have "$name" || missing+=("$name")
	done
	have h2load || missing+=(nghttp2-client)
	[ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

monitoring() {
	local missing=()
	{ have prometheus && have promtool; } || missing+=(prometheus)
	have amtool || missing+=(prometheus-alertmanager)
	[ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

dataset() {
	[ -e /usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz ] || apt_install dataset-fashion-mnist
}

protobuf() { have protoc || apt_install protobuf-compiler; }

grpcjs_version=1.14.4
grpcjs() {
	local at=.cache/grpcjs
	[ "$(cat "$at/version" 2>/dev/null)" = "$grpcjs_version" ] && return 0
	have node && have npm || die "no Node.js with npm, that a test of gRPC's client for it needs: on Debian, apt-get install nodejs npm"
	say "fetching @grpc/grpc-js $grpcjs_version from npm into $at"
	rm -rf "$at"
	mkdir -p "$at"
	(cd "$at" && npm install --silent --no-audit --no-fund --no-package-lock --ignore-scripts "@grpc/grpc-js@$grpcjs_version" >/dev/null) ||
		die "npm install @grpc/grpc-js@$grpcjs_version failed"
	echo "$grpcjs_version" >"$at/version"
}

for part in "$@"; do
	case $part in
	tools | onnxruntime | peers | monitoring | dataset | protobuf | grpcjs) "$part" ;;
	*) die "unknown part $part, there are tools, onnxruntime, peers, monitoring, dataset, protobuf, grpcjs" ;;
	esac
done

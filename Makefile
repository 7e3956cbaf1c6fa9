# weir's build. "make help" lists the targets; "make run" is the place to start.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
DURATION ?=
FUZZTIME ?= 60s

GO       ?= go
# go-nvml's header marks half of NVML as deprecated, a page of warnings at each build.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations
BUILD    := $(GO) build -trimpath -buildvcs=false -ldflags "-X main.version=$(VERSION)"
# As go test, but a test that failed is run once more by itself, and the end says so in capital letters: one hiccup of a
# shared machine in thousands of tests fails no run. A test that fails twice does, and so do more than three that fail,
# any data race, and whatever fails without a failed test. make prove is strict: there each test must pass at once.
TEST      = $(GO) run ./scripts/again
# All packages, those first whose tests take minutes and mostly wait: the others are built and run meanwhile. make lint vets
# them. Without the race detector one more runs at a time than there are processors.
PACKAGES  = -vet=off ./proxy ./cmd/weir ./proxy/control ./bench/compare ./...
JOBS      = $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)
GO_FILES  = git ls-files --cached --others --exclude-standard '*.go'

.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  make run DURATION=20s ends by itself; make fuzz FUZZTIME=10s is shorter."

.PHONY: setup
setup: ## install all that building, running and testing need, where it is missing
	@scripts/setup.sh tools onnxruntime peers monitoring grpcjs

.PHONY: setup-run
setup-run: # what make run needs: no root, nothing outside this folder
	@scripts/setup.sh tools onnxruntime

.PHONY: build
build: ## bin/weir, bin/weir-backend and bin/weir-bench
	@mkdir -p bin
	CGO_ENABLED=0 $(BUILD) -o bin/ ./cmd/weir ./cmd/weir-bench
	CGO_ENABLED=1 $(BUILD) -o bin/ ./cmd/weir-backend

.PHONY: run
run: setup-run build ## the demonstration: two versions of a model behind weir, under load; ROLLOUT=1 rolls one out, ROLLOUT=bad two that are worse
	@exec bin/weir-bench demo $(if $(DURATION),--duration $(DURATION)) $(if $(ROLLOUT),--rollout $(if $(filter bad,$(ROLLOUT)),bad,good))

.PHONY: bench
bench: setup build caddy ## compare with nginx, HAProxy and Caddy under every load, minutes: docs/benchmark.*, the README's tables
	bin/weir-bench compare --workloads all --rounds 3 --duration 1500ms -o json > docs/benchmark.json.new
	@mv docs/benchmark.json.new docs/benchmark.json
	bin/weir-bench compare --from docs/benchmark.json -o html > docs/benchmark.html
	bin/weir-bench compare --from docs/benchmark.json -o markdown --into README.md
	@bin/weir-bench compare --from docs/benchmark.json

.PHONY: bench-quick
bench-quick: setup build ## compare with nginx and HAProxy on small requests, under a minute; writes nothing
	bin/weir-bench compare --workloads a,b,f --peers direct,nginx,haproxy,weir-goroutine,weir --rounds 2 --duration 1s

.PHONY: bench-scenarios
bench-scenarios: setup build ## compare policies of balancing before unequal pods, half an hour: docs/balancing.md
	bin/weir-bench scenarios -o json > docs/scenarios.json.new
	@mv docs/scenarios.json.new docs/scenarios.json
	bin/weir-bench scenarios --from docs/scenarios.json -o markdown --into docs/balancing.md --plots docs/plots

.PHONY: rollouts
rollouts: setup build ## roll out versions that are as good and worse ones, eight minutes: docs/rollouts.md
	bin/weir-bench rollouts -o json > docs/rollouts.json.new
	@mv docs/rollouts.json.new docs/rollouts.json
	bin/weir-bench rollouts --from docs/rollouts.json -o markdown --into docs/rollouts.md --plots docs/plots

.PHONY: caddy
caddy: bin/caddy ## bin/caddy, for make bench: from its Go module, minutes the first time

bin/caddy: bench/peers/caddy/go.mod bench/peers/caddy/main.go
	@echo "building Caddy from its Go module: minutes the first time"
	cd bench/peers/caddy && CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -o ../../../bin/caddy .

.PHONY: test
test: setup build ## every test, then the demonstration for 20 seconds
	@mkdir -p .cache; $(MAKE) stack-check >.cache/stack-check.log 2>&1 & stack=$$!; status=0; \
	echo "$(TEST) -p=$(JOBS) $(PACKAGES), and make stack-check beside it"; $(TEST) -p=$(JOBS) $(PACKAGES) || status=1; \
	wait $$stack || status=1; cat .cache/stack-check.log; exit $$status
	@$(MAKE) run DURATION=20s

# Checks that need large libraries, such as Compose's own loader, are a module of their own, so that weir's stays small.
.PHONY: stack-check
stack-check: setup-run ## what is in docker, and the workflows: built by hand, loaded, compared
	@for module in docker/checks docker/checks/workflows; do \
		echo "$$module" && (cd $$module && $(GO) mod tidy -diff && $(GO) vet ./... && $(GO) test ./...) || exit; done

.PHONY: check
check: setup lint build race ## what a change must pass: fmt, vet, staticcheck, modules, build, race detector

.PHONY: lint
lint: fmt-check ## gofmt, go vet, staticcheck, go mod tidy, shell syntax: nothing is changed
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...
	$(GO) mod tidy -diff
	bash -n .ci/run scripts/*.sh docker/*.sh docker/*/*.sh

.PHONY: fmt
fmt: ## format the Go files
	@$(GO_FILES) | xargs gofmt -l -w

.PHONY: fmt-check
fmt-check:
	@bad=$$($(GO_FILES) | xargs gofmt -l); if [ -n "$$bad" ]; then echo "not formatted, make fmt does it:" $$bad >&2; exit 1; fi

.PHONY: race
race: ## every test under the race detector
	$(TEST) -race -timeout=20m $(PACKAGES)

.PHONY: fuzz
fuzz: setup-run ## every fuzz target for FUZZTIME (60s)
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: prove
prove: ## the long versions of everything, before a release: half an hour
	@$(MAKE) TEST='$(GO) test' check test fuzz models-check
	WEIR_PROVE=1 $(GO) test -count=1 -timeout 60m ./...
	$(GO) test -count=3 -shuffle=on ./...
	@$(MAKE) run DURATION=2m
	@$(MAKE) run ROLLOUT=1
	@$(MAKE) run ROLLOUT=bad

.PHONY: models
models: ## train the models of backend/models again
	@scripts/setup.sh dataset
	$(GO) run ./backend/models/train

.PHONY: models-check
models-check: ## fail if the committed models are not what training makes
	@scripts/setup.sh dataset
	$(GO) run ./backend/models/train -check

# The committed files name the versions that made them in their heads.
.PHONY: proto
proto: ## generate the Go files of backend/inference again, from its .proto
	@scripts/setup.sh protobuf
	GOBIN=$(CURDIR)/.cache/bin $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
	GOBIN=$(CURDIR)/.cache/bin $(GO) install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
	PATH="$(CURDIR)/.cache/bin:$$PATH" protoc -I backend/inference --go_out=. --go_opt=module=weir \
		--go-grpc_out=. --go-grpc_opt=module=weir open_inference.proto

.PHONY: clean
clean: ## remove bin and .cache; Go's own caches stay
	rm -rf bin .cache

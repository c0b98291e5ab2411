# make run    serve, with the built-in configuration
# make test   everything that is checked
# make quick  what to run before each commit: under a minute, once the build cache is warm
# make bench  measure beside other servers, half an hour; installs what is missing
# make bench-handover  measure upgrades with thousands of connections open
# make bench-rivals    what clients of nginx, HAProxy and reuseportd lose; installs what is missing
# make prove-slow      slowhttptest in its four modes beside nginx, five minutes; installs what is missing
# make prove-hostile   hostile workers, next masters and local users, HOSTILE=10m; as root
# make prove-release  hand everything that can be open to the release RELEASE (a commit) and back
# make microbench      benchmarks of the hot paths; see below how to compare two
# make pgo    renew cmd/reuseportd/default.pgo, the profile that the server is optimized with

GO      ?= go
FUZZTIME ?= 20000x
VERSION ?= $(shell git describe --always --dirty 2>/dev/null)

.PHONY: build run test quick lint unit fuzz bench bench-handover bench-rivals prove-slow prove-hostile prove-release microbench pgo fmt clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/reuseportd ./cmd/reuseportd

run:
	$(GO) run ./cmd/reuseportd

test: lint unit fuzz

# Formatting, vet, the packages' tests with their longest parts cut, and a server through one of each change. No race
# detector, no staticcheck, no fuzzing: those are make test's.
quick:
	@bad="$$($(GO) tool gofumpt -l .)"; test -z "$$bad" || { echo "not formatted, run make fmt:"; echo "$$bad"; exit 1; }
	$(GO) vet ./internal/... ./cmd/... ./test/...
	$(GO) test -short ./internal/... ./cmd/...
	$(GO) test -short -run '$(QUICK)' ./test/masters ./test/changes ./test/serving
QUICK = ^Test(Status|ReloadCommand|UpgradeCommand|Adoption|StopFinishesRequests)$$

# `go build` and `go run` take default.pgo by themselves. For each command that has one, go vet and
# go test would compile everything again, the standard library too: a minute each.
quick lint unit fuzz: export GOFLAGS := $(or $(GOFLAGS),$(shell $(GO) env GOFLAGS)) -pgo=off

lint:
	$(GO) vet ./...
	$(GO) vet -tags failpoint ./...
	@bad="$$($(GO) tool gofumpt -l .)"; test -z "$$bad" || { echo "not formatted, run make fmt:"; echo "$$bad"; exit 1; }
	$(GO) tool staticcheck ./...

unit:
	$(GO) test -race -timeout 15m ./...
	cd bench/goservers && $(GO) vet ./... && $(GO) test ./...
	$(GO) test -run Allocat ./internal/eventloop ./internal/service/... ./internal/upstream # some don't under the race detector

# Each fuzz target for a moment: what a change has broken shows at once.
fuzz:
	@set -e; for f in $$(grep -rlE '^func Fuzz' --include='*_test.go' .); do \
		for name in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]+)\(.*/\1/p' $$f); do \
			echo "fuzz $$(dirname $$f) $$name"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x ./$$(dirname $$f); \
		done; \
	done

bench:
	$(GO) run ./bench

bench-handover:
	$(GO) run ./bench/handover

bench-rivals:
	$(GO) run ./bench/rivals

prove-slow:
	$(GO) run ./bench/slow

# The same run again, in all but timing: HOSTILE_SEED, which each prints.
HOSTILE ?= 10m
HOSTILE_SEED ?=
prove-hostile:
	REUSEPORTD_HOSTILE=$(HOSTILE) REUSEPORTD_HOSTILE_SEED=$(HOSTILE_SEED) GOFLAGS=-pgo=off $(GO) test -count 1 -v -timeout 0 -run TestHostile ./test/hostile

# RELEASE is a commit whose wire formats this one must speak.
RELEASE ?= 2b04485
prove-release:
	rm -rf bin/release && mkdir -p bin/release && git archive $(RELEASE) | tar x -C bin/release
	cd bin/release && GOFLAGS=-pgo=off $(GO) build -tags failpoint -ldflags "-X main.version=release" -o ../reuseportd-release ./cmd/reuseportd
	rm -rf bin/release
	REUSEPORTD_RELEASE=$(CURDIR)/bin/reuseportd-release GOFLAGS=-pgo=off $(GO) test -count 1 -run TestBetweenReleases ./test/masters

# Before and after a change, which go tool benchstat then tells apart from noise:
#   make -s microbench > old.txt; …; make -s microbench > new.txt; go tool benchstat old.txt new.txt
# BENCH narrows it down: make microbench BENCH=Timers
BENCH ?= .
microbench:
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count 6 ./internal/eventloop ./internal/service/...

pgo:
	$(GO) run ./bench -duration 10s -pgo cmd/reuseportd/default.pgo

fmt:
	$(GO) tool gofumpt -w .

clean:
	rm -rf bin

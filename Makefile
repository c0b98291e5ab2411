# make run    serve, with the built-in configuration
# make test   everything that is checked
# make bench  measure, beside nginx where that is installed

GO      ?= go
FUZZTIME ?= 20000x
VERSION ?= $(shell git describe --always --dirty 2>/dev/null)

.PHONY: build run test lint unit fuzz bench fmt clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/reuseportd ./cmd/reuseportd

run:
	$(GO) run ./cmd/reuseportd

test: lint unit fuzz

lint:
	$(GO) vet ./...
	$(GO) vet -tags failpoint ./...
	@bad="$$($(GO) tool gofumpt -l .)"; test -z "$$bad" || { echo "not formatted, run make fmt:"; echo "$$bad"; exit 1; }
	$(GO) tool staticcheck ./...

unit:
	$(GO) test -race -timeout 15m ./...

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

fmt:
	$(GO) tool gofumpt -w .

clean:
	rm -rf bin

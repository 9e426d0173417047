# `make` lists the targets. Both main ones install what they need (Debian, root).
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
BUNDLE := dist/hz-bundle-$(VERSION)-amd64.tar
EXAMPLE := examples/eight-node-cluster/cluster.yaml
export PATH := $(HOME)/.cargo/bin:$(PATH)

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

.PHONY: deps
deps:
	@scripts/install-build-deps.sh

.PHONY: hzctl
hzctl: deps ## Build hzctl (and hz-e2e, the lab), static, into dist/
	@scripts/build-hzctl.sh

.PHONY: bundle
bundle: hzctl ## Build the offline bundle into dist/ (about 12 minutes the first time, seconds after)
	@dist/hzctl bundle build --archive $(BUNDLE)

.PHONY: up
up: bundle ## Eight bare hosts become the example hospital
	@dist/hz-e2e lab up
	@dist/hzctl bootstrap -f $(EXAMPLE)

.PHONY: down
down: ## Take the lab down; its logs stay under target/lab-logs/
	@[ -x dist/hz-e2e ] || scripts/build-hzctl.sh
	@dist/hz-e2e lab down

.PHONY: test
test: ## All tests: formatting to end-to-end journeys on eight hosts (some of those: JOURNEYS="up faults")
	@scripts/test.sh

.PHONY: bench
bench: bundle ## Measure against the baselines; prints what docs/benchmarks.md records (one: BENCH="failover --runs 20")
	@scripts/bench.sh $(BENCH)

.PHONY: audit
audit: ## Licences, sources and banned crates (needs cargo-deny)
	@cargo deny check licenses bans sources

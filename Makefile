# `make` lists the targets. Files are only changed by `make fix`.
SHELL := bash
.DEFAULT_GOAL := help
KEEP ?= 0
TIME ?= 600

.PHONY: help demo dev test test-fast test-long scenarios planted fuzz interop bench build images cluster-up cluster-down fix lint audit crds proto-check clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

demo: ## The main job from nothing: Kubernetes, chart, manifest; scale, drain, roll, kill, live (KEEP=1 leaves it)
	KEEP=$(KEEP) scripts/demo.sh

dev: build ## Three nodes on this machine without Kubernetes, until Ctrl-C
	"$$(scripts/target.sh)/release/multiraft" dev

test: ## All default tests, with the set-up that they need
	scripts/test.sh all

test-fast: ## The pure half: no RocksDB, no Go, no cluster, no root
	scripts/test.sh fast

test-long: ## 75 minutes: fresh seeds, many faults of real processes, fuzzing, every scenario of the operator
	scripts/test.sh long

scenarios: build ## Every scenario of the operator on Kubernetes under load, as a table (ONLY="roll drain" for some)
	scripts/setup.sh kube
	tests/e2e/cluster/cluster.sh ensure
	MULTIRAFT_BIN="$$(scripts/target.sh)/release" tests/e2e/scenarios.sh $(ONLY)

planted: ## Defects put in on purpose: which seed of the simulation finds each, and how soon
	cargo test --locked -p multiraft-sim --test planted -- --nocapture

fuzz: ## Hostile bytes for every decoder, for TIME=600 seconds; what fails is kept in tests/fuzz/corpus
	scripts/setup.sh node
	cargo run --locked -p multiraft-fuzz -- run $(TIME)

interop: build ## Every call of both wires by Python's gRPC, one line for each check
	scripts/setup.sh interop
	MULTIRAFT_BIN="$$(scripts/target.sh)/release" cargo test --locked -p multiraft-e2e --test interop -- --nocapture

bench: build ## Load on loopback beside etcd, as a table of ratios
	scripts/setup.sh tools
	scripts/bench.sh

build: ## The programs, for release
	scripts/setup.sh node
	cargo build --release --locked --workspace --bins

images: build ## The container images of operator and node
	scripts/setup.sh kube
	tests/e2e/cluster/images.sh "$$(scripts/install.sh version)"

cluster-up: ## Start the local Kubernetes, unless KUBECONFIG names another
	scripts/setup.sh kube
	tests/e2e/cluster/cluster.sh ensure

cluster-down: ## End it and remove all that it made
	tests/e2e/cluster/cluster.sh down

fix: crds ## Format and generate
	cargo fmt --all

lint: ## Formatting, and clippy with warnings as errors
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

audit: ## Licences, advisories and sources of all dependencies
	@command -v cargo-deny >/dev/null || { echo "installing cargo-deny (usually 5 minutes)"; cargo install --locked cargo-deny; }
	cargo deny --all-features check

crds: ## Write the resource definitions from the types
	scripts/crds.sh

proto-check: ## The contract: lint, and nothing released is broken
	scripts/setup.sh tools
	proto/check.sh

clean: ## Remove what was built in this checkout; caches stay
	cargo clean

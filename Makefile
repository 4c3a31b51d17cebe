# What a person or a machine runs here. `make help` lists it.

.DEFAULT_GOAL := help
.PHONY: help demo test soak bench programs

help: ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 8

demo: ## a server, a project, a live subscriber and an agent that edits, on this machine
	@scripts/install-node-package.sh examples/live
	cargo build --bins
	@scripts/demo.sh

test: programs ## everything that must hold: format, lints, unit tests, end-to-end tests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo build --bins
	cargo test --workspace
	@echo
	@echo "OK: every test passed."

soak: programs ## the long forms of the tests, row by row; goes on where it was stopped
	@scripts/soak.sh

bench: ## uspark beside its peers, as far as they are installed: tables on stdout
	@scripts/install-node-package.sh bench/node
	cargo build --release --bins
	cargo run --release -p uspark-bench --
	TMPDIR=/dev/shm cargo run --release -p uspark-bench -- pull
	TMPDIR=/dev/shm cargo run --release -p uspark-bench -- push

# Other people's programs, which the end-to-end tests run.
programs:
	@scripts/install-programs.sh
	@scripts/install-node-package.sh tests/node
	@scripts/install-node-package.sh examples/live

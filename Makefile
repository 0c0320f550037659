# The commands of the project; README.md and .ci/run call these and nothing else.

.DEFAULT_GOAL := help
.PHONY: help run test soak bench bench-deps lint docs tools

# Some tests mount a file system and become another user: only where that is allowed.
unprivileged = $$([ "$$(id -u)" = 0 ] && unshare --mount true 2>/dev/null || echo --skip privileged::)

help: ## Show these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: tools ## Start a server on http://127.0.0.1:8080, with SQLite and local files in this directory
	cargo run --release

# Most of a test's time goes by waiting for a server or a program: two of them for each processor.
test_threads = $$(( 2 * $$(nproc) ))

test: tools ## Run every test, against a PostgreSQL and an S3 server started for them
	cargo test --no-run
	testing/services_test.sh
	testing/services.sh run -- cargo test -- --include-ignored \
		--test-threads $(test_threads) $(unprivileged)
	testing/test_backends.sh

# How much of it: SOAK_KILLS=10, SOAK_SEEDS=5, SOAK_FILES=100000, SOAK_PLACES=10; what of it:
# SOAK_ONLY=kills:: (a part of the tests' names).
SOAK_KILLS ?= 100
SOAK_SEEDS ?= 100
SOAK_FILES ?= 1000000
SOAK_PLACES ?= 25
SOAK_ONLY ?= kills:: properties:: network::

soak: tools ## Run the long versions of the tests that look for trouble; hours
	cargo test --release --no-run
	PLIKD_TEST_PROFILE=release PLIKD_SOAK_KILLS=$(SOAK_KILLS) PLIKD_SOAK_SEEDS=$(SOAK_SEEDS) \
		PLIKD_SOAK_FILES=$(SOAK_FILES) PLIKD_SOAK_PLACES=$(SOAK_PLACES) \
		testing/services.sh run -- cargo test --release --test migrate -- \
		--include-ignored --nocapture --test-threads 1 $(SOAK_ONLY)

# What of it: BENCH_ONLY=rows, BENCH_SCALE=0.1, BENCH_ROUNDS=5, BENCH_WORKERS=8.
BENCH_SCALE ?= 1
BENCH_ROUNDS ?= 3
BENCH_WORKERS ?= 4
bench_dir = $(CURDIR)/target/bench

bench: tools ## Measure migrations beside other programs; docs/performance.md says how to read it
	cargo build --release --example s3-server
	cargo bench --bench migration --no-run
	mkdir -p $(bench_dir)
	PLIKD_TEST_PROFILE=release testing/services.sh run -- cargo bench --bench migration -- \
		--scale $(BENCH_SCALE) --rounds $(BENCH_ROUNDS) --workers $(BENCH_WORKERS) \
		$(if $(BENCH_ONLY),--only '$(BENCH_ONLY)') --tools $(bench_dir) --output $(bench_dir)/results.md

bench-deps: ## Install the programs that make bench compares with
	testing/bench/install.sh $(bench_dir)

lint: tools ## Check format, lints, documentation, licences and links
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS='-Dwarnings -Arustdoc::bare_urls' cargo doc --no-deps --document-private-items
	cargo test --test licences --test manual
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check licenses bans sources; fi

docs: tools ## Check the links of the manual, and build it if mdbook is installed
	cargo test --test manual
	@if command -v mdbook >/dev/null; then mdbook build docs; \
	else echo "mdbook is not installed (cargo install mdbook): read the manual in docs/README.md"; fi

tools:
	@command -v cargo >/dev/null || { echo "cargo was not found: install Rust from https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "cc was not found: install a C compiler (Debian: apt-get install build-essential)" >&2; exit 1; }

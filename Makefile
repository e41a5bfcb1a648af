# What can be done with this tree; `make help` lists it.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
# Passed on to the program that a target runs: `make run ARGS='--config my.toml'`, `make lab ARGS=failover`.
ARGS ?=
# How long each fuzz target runs.
FUZZ_SECONDS ?= 600

# All tests but the lab, which comes last and alone.
tests = --lib --example demo --test integration
# More than there are cores: most of their time is spent waiting.
export RUST_TEST_THREADS ?= 6
target = $(or $(CARGO_TARGET_DIR),target)
# What `make install` builds and installs: release or debug.
PROFILE ?= release
PROGRAMS ?= $(target)/$(PROFILE)
stage = @scripts/stage.sh

.PHONY: help run demo test unit lab vm-test lint lint-files format fuzz bench scale release debug install install-files uninstall setup cc nixos-check nixos-docs

help:
	@echo 'make run      build and start peernixd, without root and without configuration'
	@echo 'make demo     let three throwaway machines exchange store paths and kill one half-way'
	@echo 'make test     install what the tests need (as root), then run all of them'
	@echo 'make unit     only the tests that need no privileges'
	@echo 'make lab      only the tests between hosts in network namespaces (as root; ARGS=NAME picks)'
	@echo 'make vm-test  machines with systemd that boot and exchange store paths (as root; ARGS=NAME picks; VM=containers|qemu)'
	@echo 'make lint     format, clippy, licences and sources of dependencies'
	@echo 'make format   format the Rust and Nix files'
	@echo 'make fuzz     every decoder, FUZZ_SECONDS each ($(FUZZ_SECONDS))'
	@echo 'make bench    measure: single functions, and our caches beside nginx in one run (benches/README.md)'
	@echo 'make scale    simulate rooms of up to 10,000 machines, and write docs/scale.md anew'
	@echo 'make nixos-check  the NixOS module and the flake, evaluated; PEERNIX_NIXPKGS_LIB names the lib of nixpkgs'
	@echo 'make nixos-docs   write docs/nixos-options.md anew'
	@echo 'make install  programs, units and documents below DESTDIR and PREFIX ($(PREFIX); PROFILE=debug builds faster)'
	@echo 'make uninstall  the opposite; take the line out of nix.conf first: Nix does not go on without a gateway that it knows'

# One profile for everything here but `install`: the dependencies are optimised in it as well, and compiled once.
run: cc
	$(CARGO) build --locked --bins
	$(CARGO) run --locked --quiet --bin peernixd -- $(ARGS)

demo: cc
	$(CARGO) build --locked --bins --example demo
	$(CARGO) run --locked --quiet --example demo -- $(ARGS)

test: setup
	$(stage) 'build the tests' $(CARGO) test --locked --no-run --lib --bins --tests --examples --bench suite
	$(stage) 'unit and integration tests' $(CARGO) test --locked $(tests)
	$(stage) 'documentation tests' $(CARGO) test --locked --doc
	$(stage) 'NixOS' scripts/nixos-check.sh
	$(stage) 'benchmarks, on a small scale' $(CARGO) test --locked --bench suite -- --smoke --rounds 2
	$(stage) 'lab' $(CARGO) test --locked --test lab -- $(ARGS)
	$(stage) 'machines' vm-tests/run --backend containers --programs $(target)/debug -j 3

unit: cc
	$(CARGO) test --locked $(tests) -- $(ARGS)

lab: setup
	$(CARGO) test --locked --test lab -- $(ARGS)

vm-test: setup
	$(CARGO) build --locked --bins
	vm-tests/run --programs $(target)/debug $(ARGS)

lint: lint-files
	$(stage) 'clippy' $(CARGO) clippy --locked --all-targets -- -D warnings

# What needs nothing compiled of ours.
lint-files: cc
	$(stage) 'format' $(CARGO) fmt --check
	$(stage) 'format of Nix files' scripts/nix-format.sh --check
	$(stage) 'dependencies' scripts/deny.sh
	$(stage) 'notices of linked crates' scripts/notices.sh --check

nixos-check:
	scripts/nixos-check.sh

# After a change of the options.
nixos-docs:
	scripts/nixos-check.sh docs

format: cc
	$(CARGO) fmt
	scripts/nix-format.sh

fuzz:
	scripts/fuzz.sh $(FUZZ_SECONDS) $(ARGS)

# Thousands of machines, simulated: writes docs/scale.md anew.
scale: cc
	$(CARGO) test --locked --release --lib -- --ignored --test-threads=1 simulation::scale

# Everything it measures is optimised. ARGS go to the suite: `make bench ARGS='narinfo --rounds 9'`.
bench: cc
	$(CARGO) build --locked --release --bins
	$(CARGO) bench --locked --bench micro
	$(CARGO) bench --locked --bench suite -- $(ARGS)

# Where it was built is no business of those who run it: two builds in two folders are the same (scripts/same-twice.sh).
crates = $(or $(CARGO_HOME),$(HOME)/.cargo)
release: export RUSTFLAGS += --remap-path-prefix=$(CURDIR)=peernix --remap-path-prefix=$(crates)=cargo
release: export CFLAGS += -ffile-prefix-map=$(CURDIR)=peernix -ffile-prefix-map=$(crates)=cargo
release: cc
	$(CARGO) build --locked --release --bins

debug: cc
	$(CARGO) build --locked --bins

# For a distribution: `make install PREFIX=/usr DESTDIR=…`; SYSTEMD_VERSION if it is not that of this machine.
install: $(PROFILE) install-files

# Without building: the programs are in PROGRAMS.
install-files:
	DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' scripts/install.sh '$(PROGRAMS)'

# Refuses while nix.conf names the gateway.
uninstall:
	DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' scripts/uninstall.sh

# 77: not root. What is missing then makes single cases of the lab SKIPPED, each with its reason.
setup:
	@scripts/setup || [ $$? = 77 ]

# SQLite, zstd and ring bring C.
cc:
	@command -v cc >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends gcc libc6-dev; \
	  else \
	    echo 'A C compiler is missing. On Debian: sudo apt-get install gcc libc6-dev' >&2; exit 1; \
	  fi; }

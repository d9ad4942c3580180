# Short names for the usual commands. Run "make help" to see them.

CARGO ?= cargo
DATADIR ?= $(or $(XDG_DATA_HOME),$(HOME)/.local/share)
PLUGINDIR ?= $(DATADIR)/gstreamer-1.0/plugins
BINDIR ?= $(HOME)/.local/bin
MANDIR ?= $(DATADIR)/man/man1
# Where each shell looks for completions.
COMPLETIONS := bash:bash-completion/completions/nemostt zsh:zsh/site-functions/_nemostt \
	fish:fish/vendor_completions.d/nemostt.fish

# A cargo that "make setup" just installed is not in PATH until the next login.
CARGO_BIN := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin
ifeq (,$(findstring :$(CARGO_BIN):,:$(PATH):))
export PATH := $(CARGO_BIN):$(PATH)
endif

RELEASE := $(or $(CARGO_TARGET_DIR),target)/release
PLUGIN := $(RELEASE)/libgstnemostt.so
COMMAND := $(RELEASE)/nemostt
ORT_NAME := libonnxruntime.so.$(shell awk '$$1 == "version" { print $$2 }' tools/onnxruntime.lock)
# An ONNX Runtime set by the user is used in place, never copied.
OWN_ORT := $(ORT_DYLIB_PATH)
ORT := $(or $(OWN_ORT),$(CURDIR)/target/onnxruntime/$(ORT_NAME))
COPY_ORT := $(if $(OWN_ORT),,$(ORT))
# What is installed has function names, but no debug information. That stays in $(RELEASE), where debuggers and backtraces
# of target/plugin find it. STRIP=: keeps all of it.
STRIP ?= strip

# The tests use only the system's GStreamer plugins and their own registry, so
# that a previously installed nemostt is neither loaded nor affected.
TEST_ENV = ORT_DYLIB_PATH='$(ORT)' G_DEBUG=fatal_warnings \
	GST_REGISTRY='$(CURDIR)/target/gst-registry.bin' GST_PLUGIN_PATH= \
	GST_PLUGIN_SYSTEM_PATH="$$(pkg-config --variable=pluginsdir gstreamer-1.0)"

# A test program that leaks GStreamer objects fails when it exits.
LEAKS_ENV := GST_TRACERS=leaks
ELEMENT_TESTS := element transcriber live scenarios pipeline

.NOTPARALLEL:
.PHONY: help setup build demo test leaks live validate interop memcheck soak fuzz sanitize examples bench bench-peers \
	screenshots architecture export export-test lint fmt install uninstall clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## install dependencies: system packages, Rust, ONNX Runtime
	tools/setup.sh

build: ## build the plugin into target/plugin, and the command
	@test -f '$(ORT)' || { echo "$(ORT) is missing: run 'make setup' first" >&2; exit 1; }
	$(CARGO) build --release --locked --features cli
	rm -rf target/plugin
	install -d target/plugin
	install -m 755 '$(PLUGIN)' $(if $(COPY_ORT),'$(COPY_ORT)') target/plugin
	$(STRIP) --strip-debug target/plugin/libgstnemostt.so
	objcopy --add-gnu-debuglink='$(PLUGIN)' target/plugin/libgstnemostt.so
	@# GStreamer looks for plugins in all directories but this one.
	@mkdir target/plugin/.debug && ln -s '$(abspath $(PLUGIN))' target/plugin/.debug

demo: setup build ## transcribe assets/demo.wav and print its words
	tools/demo.sh

test: ## run all tests and lints
	tools/setup.sh --test
	$(TEST_ENV) $(CARGO) test --locked -p nemostt-kernels -p nemostt-compiler -p nemostt
	$(TEST_ENV) $(CARGO) test --locked --features cli
	$(TEST_ENV) $(CARGO) test --locked --features cli --examples
	$(MAKE) lint

leaks: ## run the element's tests under GStreamer's leaks tracer
	$(TEST_ENV) $(LEAKS_ENV) GST_DEBUG=GST_TRACER:7 GST_DEBUG_NO_COLOR=1 \
		$(CARGO) test --locked --features cli $(addprefix --test ,$(ELEMENT_TESTS))

live: build ## test in real time with live, muted and stalling sources, files, RTSP (ARGS=--help for more)
	GST_PLUGIN_PATH=target/plugin /usr/bin/python3 tools/live_test $(ARGS)

validate: build ## run gst-validate's scenarios with and without nemostt (under Wine on Debian)
	tools/validate.sh

interop: build ## test with the caption elements of gst-plugins-rs
	tools/interop.sh

memcheck: build ## transcribe a clip under valgrind
	tools/memcheck.sh

fuzz: ## fuzz parsers, caches, graphs and the element (ARGS="--seconds 60 [target ...]", ARGS=--help for more)
	tools/fuzz.sh $(ARGS)

sanitize: ## run tests under Miri, loom, AddressSanitizer and ThreadSanitizer (ARGS="miri thread": only these)
	ORT_DYLIB_PATH='$(ORT)' tools/sanitize.sh $(ARGS)

soak: ## transcribe a day of audio at full speed: same words, exact times, flat memory (ARGS=--help for more)
	$(TEST_ENV) $(CARGO) run --release --locked --example long_run -- $(ARGS)

examples: ## build the Rust examples into target/release/examples
	$(CARGO) build --release --locked --features cli --example bus --example transcribe

bench: ## run the benchmarks
	ORT_DYLIB_PATH='$(ORT)' $(CARGO) bench --locked

bench-peers: ## compare with other programs on a full-size model (ARGS=--help for more)
	tools/bench/run.sh $(ARGS)

screenshots: build ## draw the pictures of the README again
	tools/screenshots.sh

architecture: ## draw crates and modules into docs/images/architecture.svg (ARGS=--check: look for import cycles)
	tools/architecture.py $(ARGS)

export: ## export a NeMo checkpoint: make export ARGS="model.nemo DIRECTORY" (ARGS=--help for more)
	tools/export_nemo.sh $(ARGS)

export-test: ## test the export (installs NeMo, 8 GB)
	tools/export_nemo.sh --test

lint: ## check formatting and documents, and run clippy
	tools/check_docs.py
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --workspace --all-targets --locked --no-default-features -- -D warnings
	$(CARGO) clippy --workspace --all-targets --locked --all-features -- -D warnings

fmt: ## format the source
	$(CARGO) fmt --all

install: build ## install for this user, so that no variables need to be set
	install -d '$(DESTDIR)$(PLUGINDIR)'
	install -m 755 target/plugin/* '$(DESTDIR)$(PLUGINDIR)'
	install -d '$(DESTDIR)$(BINDIR)'
	install -m 755 '$(COMMAND)' '$(DESTDIR)$(BINDIR)'
	$(STRIP) --strip-debug '$(DESTDIR)$(BINDIR)/nemostt'
	'$(COMMAND)' man --dir '$(DESTDIR)$(MANDIR)'
	@set -e; for shell in $(COMPLETIONS); do \
		install -d "$$(dirname '$(DESTDIR)$(DATADIR)'/$${shell#*:})"; \
		'$(COMMAND)' completions $${shell%%:*} >'$(DESTDIR)$(DATADIR)'/$${shell#*:}; \
	done
	@test -z '$(OWN_ORT)' || \
		echo "ONNX Runtime was not copied: set ORT_DYLIB_PATH when the plugin or the command runs, too"

uninstall: ## remove what install installed
	rm -f '$(DESTDIR)$(PLUGINDIR)/libgstnemostt.so' '$(DESTDIR)$(PLUGINDIR)/$(ORT_NAME)'
	rm -f '$(DESTDIR)$(BINDIR)/nemostt' '$(DESTDIR)$(MANDIR)'/nemostt.1 '$(DESTDIR)$(MANDIR)'/nemostt-*.1
	@for shell in $(COMPLETIONS); do rm -f '$(DESTDIR)$(DATADIR)'/$${shell#*:}; done

clean: ## remove everything that was built or downloaded
	$(CARGO) clean
	rm -rf target

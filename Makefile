# `make demo` and `make test` need Rust and a C compiler. `make check` installs cargo-deny into target/tools by itself, and
# `make e2e`, which needs Python 3 and Node.js as well, moto and the packages of the sample functions into target/e2e.

CARGO ?= cargo
EXTENSION := target/release/rotel-extension
SANDBOX := target/debug/lambda-sandbox
E2E := target/e2e
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := target/tools/bin/cargo-deny

.PHONY: build demo startup test faults bench-logs e2e check audit clean

## The release binary.
build:
	$(CARGO) build --locked --release --package rotel-lambda-extension --bin rotel-extension

## An emulated Lambda environment, a function, the extension and a collector; ends in an account of what arrived.
demo: build
	$(CARGO) build --locked --package lambda-sandbox --bin lambda-sandbox
	$(SANDBOX) demo --extension $(EXTENSION)

## The time from exec to the first /next, without secrets and with them.
startup: build
	$(CARGO) build --locked --package lambda-sandbox --bin lambda-sandbox
	$(SANDBOX) bench startup --extension $(EXTENSION)

## All tests.
test:
	$(CARGO) test --locked --workspace

## What an endpoint that fails costs, each figure against its target. Takes minutes.
faults: build
	$(CARGO) test --locked --test faults -- --extension $(EXTENSION)

## What parsing and encoding log lines costs, beside plain parsing of the same bytes. This crate optimized, the others as
## in every test.
bench-logs:
	CARGO_PROFILE_TEST_OPT_LEVEL=3 $(CARGO) test --locked --test logs -- --ignored --nocapture

## Tests on real parts: moto for AWS; the published instrumentations of Python and Node.js, and awslambdaric.
e2e: $(E2E)/installed $(E2E)/node/installed
	$(CARGO) test --locked --features e2e --test 'e2e_*'

$(E2E)/installed: tests/e2e/requirements.txt
	python3 -m venv --clear $(E2E)
	$(E2E)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(E2E)/node/installed: tests/e2e/samples/node/package.json tests/e2e/samples/node/package-lock.json | $(E2E)/installed
	mkdir -p $(@D)
	cp $^ $(@D)
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund
	touch $@

## Form, lints, documentation, dependencies.
check: $(CARGO_DENY)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	$(CARGO_DENY) --offline check bans licenses sources

## Known vulnerabilities of the dependencies. Needs the open internet, for the advisory database.
audit: $(CARGO_DENY)
	$(CARGO_DENY) check advisories

$(CARGO_DENY):
	$(CARGO) install --locked --debug --root target/tools --version $(CARGO_DENY_VERSION) cargo-deny

clean:
	$(CARGO) clean

# `make demo` and `make test` need Python 3.10 or newer and make; they bring the rest into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# One thread a worker, so that they do not fight over the cores; a file's tests in one worker, which share its fixtures.
# Of slow ones a class's: the contract of all families is one file, and one worker would still run it when all is done.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

# The parts of `make apps`, each a target of its own; one whose tools are missing says so and succeeds.
APPS := web android apk ios

.PHONY: help demo test test-slow test-exhaustive docs matrix instructions lint format apps $(APPS) build clean

help: ## Show this.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 10

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, this is " + sys.version.split()[0] + "; set PYTHON=" if sys.version_info < (3, 10) else 0)'
	@echo "installing into $(VENV) (2.5 GB, some minutes, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

demo: $(INSTALLED) ## Convert the trained default to all five formats, and compare each file with PyTorch.
	$(BIN)/mobilevit convert --out out/demo
	@echo "the files are in out/demo; \"source $(BIN)/activate\" puts mobilevit on your path"

test: $(INSTALLED) ## Run the tests, but for those that take long.
	$(PYTEST)

test-slow: $(INSTALLED) ## Run what `make test` leaves out and every change must pass: networks of full size, and whole ways.
	$(PYTEST) -m 'slow and not exhaustive' --dist loadscope --durations=20

test-exhaustive: $(INSTALLED) ## Run every combination of what the other tests sample (an hour).
	$(PYTEST) -m exhaustive --dist loadscope --durations=20

docs: $(INSTALLED) ## Build the documentation into out/site; every warning is an error.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "out/site/index.html"

matrix: $(INSTALLED) ## Convert and verify every model, format and precision, and write docs/measured/matrix.md (an hour).
	$(BIN)/python benchmarks/matrix.py

instructions: $(INSTALLED) ## Count an emulated ARM processor's instructions again; fails at 2% more than measured.
	$(BIN)/mobilevit doctor --install arm64
	$(BIN)/python benchmarks/arm_instructions.py --models efficientvit_m0 --check

lint: $(INSTALLED) ## Check style, formatting, types and the direction of imports.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED) ## Format the code and fix what the linter can.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

apps: $(APPS) ## Build and test the browser, Android and iOS apps, as far as this machine has their tools.

web: ## Run the browser app's own tests, which need Node.js alone.
	@if command -v node > /dev/null; then node --test tests/web_demo/*.test.js; \
	else echo "web: not tested, node is missing (apt-get install nodejs)" >&2; fi

android: ## Build and test the Android app on the JVM, which needs JDK 17 and Maven; it downloads into ~/.m2 once.
	@if command -v mvn > /dev/null && command -v javac > /dev/null; \
	then mvn --batch-mode --quiet --file android_demo/pom.xml verify; \
	else echo "android: not tested, mvn or javac is missing (apt-get install maven default-jdk-headless)" >&2; fi

# What the APK holds; the default is converted where there is none yet.
ARTIFACTS ?= out/demo/mobilevit_xxs-tflite-fp32

apk: $(INSTALLED) ## Build android_demo/app/target/mobilevit.apk, signed, without the Android SDK; ARTIFACTS= chooses what it holds.
	@if android_demo/apk/tools.sh; then set -e; \
	test -d "$(firstword $(ARTIFACTS))" || $(BIN)/mobilevit convert --to tflite --out out/demo; \
	mvn --batch-mode --quiet --file android_demo/pom.xml $(MAVEN) --projects app,apk --also-make -DskipTests package; \
	android_demo/apk/build.sh $(ARTIFACTS); fi

ios: ## Test the iOS app's Swift kit, and type-check the app; as root on Debian it fetches Swift once (2.8 GB).
	ios_demo/check.sh

build: $(INSTALLED) ## Build wheel and sdist into dist/.
	$(BIN)/python -m build --quiet

clean: ## Remove the environment and everything made.
	rm -rf $(VENV) build dist out *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

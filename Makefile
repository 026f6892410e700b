# Everything a user or CI does, from a clean clone: `make help`.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
NEXTFLOW := setup/nextflow.sh
PYTHON_BIN := .venv/bin

.PHONY: help setup demo test test-python test-jax test-pipeline test-quick test-images test-cluster lint bench bench-keep containers publish dist docs docs-site lock clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## install all that is needed (Python environment, Nextflow); a second call reuses what is there
	@setup/system_packages.sh
	@setup/python_environment.sh
	@setup/nextflow.sh --install

demo: setup ## six nucleosome templates to picks, an F1 and a report, in results/demo
	@mkdir -p work/demo  # started there, it resumes its own last run and no other of this clone
	cd work/demo && ../../$(NEXTFLOW) run ../.. -profile demo -resume --outdir "$(CURDIR)/results/demo" -work-dir "$(CURDIR)/work/demo"
	@echo "$(CURDIR)/results/demo/report/report.html"

test: lint test-python test-jax test-pipeline ## linters and all tests but those of images

test-python: setup ## tests of the Python package and of the repository itself
	$(PYTHON_BIN)/pytest -n 2 tests/python tests/repository

test-jax: setup ## tests of training with JAX in TensorFlow's place
	@setup/jax.sh
	KERAS_BACKEND=jax PYTHONPATH=.tools/jax $(PYTHON_BIN)/pytest -n 2 -W ignore::DeprecationWarning \
		tests/python/learning/test_optimizers.py tests/python/learning/test_training.py tests/python/stages/test_train.py -k "not finds_the_rods"

test-pipeline: setup ## tests of the pipeline: stub runs, tiny runs, the demo
	$(PYTHON_BIN)/pytest tests/pipeline

test-quick: setup ## the tests of every day, under three minutes on two cores: all of Python's that take less than about ten seconds
	$(PYTHON_BIN)/pytest -n 2 -m "not long" tests/python tests/repository

test-images: setup ## tests of the images that `make containers` made, with a registry on this machine
	@setup/container_tools.sh registry
	$(PYTHON_BIN)/pytest tests/containers

test-cluster: setup ## tests in those images: under a Slurm of this machine, as an ordinary user, and without any network
	@setup/container_tools.sh
	@setup/slurm.sh --install
	$(PYTHON_BIN)/pytest -s tests/cluster

lint: setup ## ruff, mypy, and the rooms' order (import-linter)
	$(PYTHON_BIN)/ruff check --config python/pyproject.toml python/src tests bench containers docs release
	$(PYTHON_BIN)/ruff format --check --config python/pyproject.toml python/src tests bench containers docs release
	$(PYTHON_BIN)/mypy --config-file python/pyproject.toml python/src
	cd python && PYTHONPATH=src ../$(PYTHON_BIN)/lint-imports --no-logo --no-cache
	MYPYPATH=containers $(PYTHON_BIN)/mypy --config-file python/pyproject.toml containers/*.py release/*.py

bench: setup ## measure a stage beside its peer, into build/bench: make bench BENCH=tetris (bench/README.md)
	$(PYTHON_BIN)/python bench/$(BENCH).py

bench-keep: setup ## keep what was measured in bench/results, with its commit, and write its page: make bench-keep BENCH=tetris
	$(PYTHON_BIN)/python bench/keep.py $(BENCH)
	$(PYTHON_BIN)/python bench/pages.py

containers: ## images as an ordinary user, into build/containers: make containers NAME="nma tetris" (else all that CI builds)
	@setup/container_tools.sh
	@python3 containers/build.py $(NAME)

publish: ## push images with bill of materials and signature: make publish REGISTRY=localhost:5000 KEY=signing.pem NAME=nma
	@setup/container_tools.sh
	@python3 containers/publish.py --registry "$(REGISTRY)" --key "$(KEY)" $(NAME)

dist: setup ## wheel and sdist, into build/dist
	rm -rf build/dist
	.tools/uv/bin/uv build -q --no-build-isolation --python $(PYTHON_BIN)/python -o build/dist python
	@ls build/dist

docs: setup ## write what is generated: version, schema, Nextflow's defaults, the pages of docs/reference and docs/measurements
	$(PYTHON_BIN)/python release/version.py
	$(PYTHON_BIN)/template-learning schema --write .
	$(PYTHON_BIN)/python -m template_learning.pipeline.outputs > docs/reference/outputs.md
	$(PYTHON_BIN)/typer template_learning.cli utils docs --name template-learning --title Commands --output docs/reference/cli.md
	$(PYTHON_BIN)/python -m tests.python.inputs_page > docs/reference/inputs.md
	$(PYTHON_BIN)/python bench/pages.py
	python3 containers/images.py config

docs-site: setup ## the pages as a site in build/docs-site; a warning, such as a dead link, is an error
	@rm -rf docs/reference/api/generated
	$(PYTHON_BIN)/sphinx-build -q -E -W --keep-going -n -d build/docs-doctrees docs build/docs-site

lock: setup ## lock the newest allowed Python packages
	.tools/uv/bin/uv pip compile -q --upgrade --universal --python-version 3.11 --all-extras --generate-hashes --no-emit-index-url \
		--no-header python/pyproject.toml -o python/requirements.lock
	echo jax | .tools/uv/bin/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --no-annotate -c python/requirements.lock --no-emit-package numpy --no-emit-package scipy \
		--no-emit-package ml-dtypes --no-emit-package opt-einsum - -o setup/jax.lock
	python3 containers/images.py lock

clean: ## remove what the demo, the tests and builds left (not your own results)
	rm -rf work/demo results/demo build .nextflow .nextflow.log* .pytest_cache .hypothesis .mypy_cache .ruff_cache

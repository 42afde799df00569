# Everything here works from a fresh checkout: each target makes .venv and installs what it needs.
#
#   make quickstart   scenes -> records -> training with OHEM -> SavedModel -> detections -> mAP, in
#                     runs/quickstart
#   make test         the tests, in two processes; make test ARGS="tests/evaluation -m 'not slow'"
#                     runs some, and JOBS=0 in one process, for a debugger or a single test; a test
#                     that ends its process ends them all, and is named
#   make lint         format, rules, who imports whom, types
#   make audit        known vulnerabilities in the pinned packages (needs the network); one that
#                     cannot be looked up is an error
#   make docs         the site, in build/site; a link that leads nowhere is an error
#   make release-notes  the section of CHANGELOG.md of this version; one without a date is an error
#   make build-files  rewrites the BUILD files, and the drawings of the docs, from the code
#   make clean        removes .venv and caches, and leaves runs/ alone

# The first of these that is Python 3.11 to 3.13 makes the virtual environment: TensorFlow 2.21 has
# no wheels for a newer one.
PYTHON ?= python3.11 python3.12 python3.13 python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
RUN := $(VENV)/bin/python -m
OUT := runs/quickstart
# Processes for the tests: most of their time is one thread's (tracing), whatever TensorFlow's are.
JOBS ?= 2

.PHONY: help quickstart test lint audit docs release-notes build-files clean

help:
	@sed -n 's/^#   //p' Makefile

quickstart: $(VENV)/.quickstart
	$(RUN) ohem_tf.data.scenes --output=$(OUT)/scenes
	$(RUN) ohem_tf.prepare --format=voc --root=$(OUT)/scenes --split=train,val \
	  --proposals=selective_search --output=$(OUT)/records
	$(RUN) ohem_tf.train --config=configs/quickstart.py --workdir=$(OUT)/model \
	  --config.data.dir=$(OUT)/records
	$(RUN) export.saved_model --config=configs/quickstart.py --workdir=$(OUT)/model \
	  --output=$(OUT)/export
	$(RUN) ohem_tf.detect --saved_model=$(OUT)/export \
	  --images='$(OUT)/scenes/JPEGImages/val_*.jpg' --max_images=12 --output=$(OUT)/detections
	@echo "Pictures: $(OUT)/detections/detections.png. Checkpoints: $(OUT)/model/checkpoints." \
	  "SavedModel: $(OUT)/export." \
	  "Curves: $(VENV)/bin/tensorboard --logdir=$(OUT)/model/tensorboard"
	$(RUN) ohem_tf.evaluate --config=configs/quickstart.py --workdir=$(OUT)/model

test: $(VENV)/.test
	$(RUN) pytest --numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder \
	  --max-worker-restart=0 $(ARGS)

lint: $(VENV)/.test
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports --no-cache --no-logo
	$(VENV)/bin/mypy

audit: $(VENV)/.made
	$(PIP) install --quiet --constraint constraints.txt pip-audit
	$(VENV)/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

docs: $(VENV)/.docs
	$(RUN) docs.scripts.pages build/pages
	$(VENV)/bin/zensical build --clean --strict

release-notes:
	@python3 -m docs.scripts.release_notes

build-files: $(VENV)/.made
	$(VENV)/bin/python tests/build_files.py
	$(RUN) docs.scripts.architecture
	$(RUN) docs.scripts.training_step

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@found=; for python in $(PYTHON); do \
	  if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	    2>/dev/null; then \
	    found="$$python"; break; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "error: none of '$(PYTHON)' is Python 3.11 to 3.13: install one, or name it with" \
	    "make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; \
	fi; \
	echo "$$found -m venv $(VENV)"; "$$found" -m venv $(VENV)
	@touch $@

# A stamp per extra, so that installing is not repeated until its inputs change.
$(VENV)/.quickstart $(VENV)/.test $(VENV)/.docs: $(VENV)/.%: $(VENV)/.made setup.cfg pyproject.toml constraints.txt
	$(PIP) install --constraint=constraints.txt --editable='.[$*]'
	@touch $@

# make demo   install, train and evaluate the embedded example (10 minutes on 2 CPU cores)
# make demo-detector   train the example in scope detector and plot the Pareto fronts of the two scopes (as long as make demo)
# make demo-elastic   train the example as a stock detector, and make it elastic (5 minutes)
# make pretrain   install mmpretrain, train a small classifier on digits and evaluate its sub-networks (2 minutes)
# make test   run all tests
# make test-unit   run the tests that neither train nor start processes (2 minutes)
# make coverage   run all tests, and report the share of the package that they run, subprocesses included
# make gpu-check   check mmmutual on a CUDA device and measure its speed there (8 minutes at most)
# make docs   build the site in site/ (its tools get an environment inside VENV)
# VENV=path   use your own environment, or create one there; an installed stack is not replaced

SHELL := bash
VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
STACK ?= onedl
CORES := $(shell nproc 2>/dev/null || echo 2)
JOBS ?= $(CORES)
# Processes of the demo. Each process trains on a part of every batch, with one thread. Several threads in one process wait
# for each other many times in an iteration. That costs more than it saves, above all on a busy machine.
PROCESSES ?= $(shell test $(CORES) -ge 2 && ! command -v nvidia-smi >/dev/null && echo 2 || echo 1)

RUN := $(VENV)/bin/python
READY := $(VENV)/.mmmutual-$(STACK)
TOOLS := $(VENV)/.mmmutual-tests
DOCS := $(VENV)/docs
CONFIG := configs/mutual_mask_rcnn_r18_shapes.py
WORK := work_dirs/mutual_mask_rcnn_r18_shapes
STOCK := stock_mask_rcnn_r18_shapes

DIGITS := mutual_resnet18_digits

.PHONY: help install demo demo-detector demo-elastic demo-whole pretrain test test-unit coverage gpu-check lint docs clean
help:
	@sed -n 's/^# \(make\|VENV\)/\1/p' Makefile

install: $(READY)

$(RUN):
	$(PYTHON) -m venv $(VENV)

# build_mmcv.py compiles the operators of mmcv. If it fails, pip compiles them file by file.
NINJA := grep --line-buffered -oE '^ *\[[0-9]+/[0-9]+\]|^ *(Building|Successfully|ERROR).*|.*error:.*'
$(READY): requirements/build.txt requirements/torch.txt requirements/$(STACK).txt pyproject.toml setup.py | $(RUN)
	@if $(RUN) -c 'import torch, mmengine, mmcv.ops, mmdet' 2>/dev/null; then \
		echo 'The stack is in $(VENV) already'; \
	else \
		set -eo pipefail; \
		echo 'Setting up $(VENV): torch, then mmcv with its operators (compiled here), mmengine, mmdet'; \
		$(RUN) -m pip install -r requirements/torch.txt; \
		$(RUN) -m pip install -r requirements/build.txt; \
		$(RUN) tools/misc/build_mmcv.py requirements/$(STACK).txt --jobs $(JOBS) 2>&1 | $(NINJA) || true; \
		CFLAGS="-O2 -g0" CXXFLAGS="-O2 -g0" MMCV_WITH_OPS=1 MAX_JOBS=$(JOBS) \
			$(RUN) -m pip install -v --no-build-isolation -r requirements/$(STACK).txt 2>&1 | $(NINJA); \
		$(RUN) -c 'import torch, mmengine, mmcv.ops, mmdet'; \
	fi
	$(RUN) -m pip install --no-build-isolation --no-deps -e .
	$(RUN) -m mmmutual
	@touch $@

$(TOOLS): requirements/tests.txt requirements/deploy.txt $(READY)
	$(RUN) -m pip install -r requirements/tests.txt -r requirements/deploy.txt
	@touch $@

TRAIN := PYTHON=$(RUN) bash tools/dist_train.sh
TEST := PYTHON=$(RUN) bash tools/dist_test.sh
# All widths and scales are evaluated after the training, so the training needs no validation.
SHARE := --cfg-options train_dataloader.batch_size=$$((4 / $(PROCESSES))) train_cfg.val_interval=100

demo: export OMP_NUM_THREADS = 1
demo: $(READY)
	$(RUN) tools/misc/draw_shapes.py
	$(TRAIN) $(CONFIG) $(PROCESSES) --work-dir $(WORK) $(SHARE)
	$(TEST) $(CONFIG) $$(cat $(WORK)/last_checkpoint) $(PROCESSES) --work-dir $(WORK)
	$(RUN) tools/analysis_tools/show_widths.py $(CONFIG) $$(cat $(WORK)/last_checkpoint) -o $(WORK)/widths.png \
		--results $$(ls -t $(WORK)/*/subnets.json | head -1)

demo-detector: export OMP_NUM_THREADS = 1
demo-detector: $(WORK)/last_checkpoint
	$(TRAIN) $(CONFIG:.py=_detector.py) $(PROCESSES) --work-dir $(WORK)_detector $(SHARE)
	$(TEST) $(CONFIG:.py=_detector.py) $$(cat $(WORK)_detector/last_checkpoint) $(PROCESSES) --work-dir $(WORK)_detector
	$(RUN) tools/analysis_tools/compare_fronts.py 'scope backbone=$(WORK)' 'scope detector=$(WORK)_detector' -o $(WORK)_detector/fronts.png

demo-elastic: export OMP_NUM_THREADS = 1
demo-elastic: $(READY)
	$(RUN) tools/misc/draw_shapes.py
	$(TRAIN) configs/$(STOCK).py $(PROCESSES) --work-dir work_dirs/$(STOCK) $(SHARE)
	rm -rf work_dirs/elastic_$(STOCK)  # a former demo, which the tool does not overwrite
	PYTHON=$(RUN) bash tools/dist_elastic.sh configs/$(STOCK).py $$(cat work_dirs/$(STOCK)/last_checkpoint) $(PROCESSES) \
		--widths 1.0 0.75 0.5 0.25 --scales 1.0 0.75 0.5 --cfg-options train_dataloader.batch_size=$$((4 / $(PROCESSES)))

demo-whole: demo-detector  # a deprecated name

$(WORK)/last_checkpoint:
	$(MAKE) demo

pretrain: export OMP_NUM_THREADS = 1
pretrain: $(VENV)/mmpretrain
	$(RUN) tools/train.py configs/pretrain/$(DIGITS).py --work-dir work_dirs/$(DIGITS)
	$(RUN) tools/test.py configs/pretrain/$(DIGITS).py $$(cat work_dirs/$(DIGITS)/last_checkpoint) --work-dir work_dirs/$(DIGITS)

# Outside the site-packages: a torchvision whose operators do not load must not be where MMEngine looks for it.
$(VENV)/mmpretrain: requirements/mmpretrain-$(STACK).txt requirements/mmpretrain.txt $(READY)
	$(RUN) -m pip install --target $@ --no-deps --no-build-isolation --upgrade -r requirements/mmpretrain-$(STACK).txt
	@touch $@

# The long files of tests/integration come first, so that no process waits for them at the end.
PYTEST := $(RUN) -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test test-unit: export OMP_NUM_THREADS = 1
test: $(READY) $(TOOLS)
	$(PYTEST) $(if $(COVERAGE),--cov --cov-report=term:skip-covered)

test-unit: $(READY) $(TOOLS)
	$(PYTEST) -m 'not integration'

coverage:
	$(MAKE) test COVERAGE=1

gpu-check: $(READY)
	$(RUN) benchmarks/gpu_check.py

lint: $(READY) $(TOOLS)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/pydoclint --quiet mmmutual
	$(VENV)/bin/lint-imports --no-logo
	$(RUN) -m mypy
	$(RUN) tools/lint/prose.py

# Separate, so that the environment of the training stays small and the site needs no compiled operators.
$(DOCS)/.ready: requirements/docs.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install -r requirements/docs.txt
	@touch $@

docs: $(DOCS)/.ready
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --strict

clean:
	rm -rf work_dirs data/shapes site

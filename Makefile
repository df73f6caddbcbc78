# make demo   from a fresh clone to a trained, evaluated detector (about 15 minutes on 2 CPU cores after the installation)
# make demo-whole   trains the example with neck and heads slimmable too, and plots both fronts (as long as make demo)
# make pretrain   adds mmpretrain, trains a small classifier on real digits and evaluates its sub-networks (2 minutes)
# make test   the tests
# VENV=path   use an environment of your own, or set one up elsewhere; one that has the stack keeps it

SHELL := bash
VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
STACK ?= onedl
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
# Of the demo. On 2 free cores THREADS=2 takes three quarters of the time of one thread. But threads spin while they wait
# for each other: beside other programs on the same cores two of them took more than ten times as long.
THREADS ?= 1

RUN := $(VENV)/bin/python
READY := $(VENV)/.mmmutual-$(STACK)
CONFIG := configs/mutual_mask_rcnn_r18_shapes.py
WORK := work_dirs/mutual_mask_rcnn_r18_shapes

DIGITS := mutual_resnet18_digits

.PHONY: help install demo demo-whole pretrain test lint clean
help:
	@sed -n 's/^# \(make\|VENV\)/\1/p' Makefile

install: $(READY)

$(RUN):
	$(PYTHON) -m venv $(VENV)

# The compiled operators of mmcv take 5 to 15 minutes once; pip keeps the built wheel.
$(READY): requirements/build.txt requirements/torch.txt requirements/$(STACK).txt requirements/tests.txt requirements/deploy.txt setup.py | $(RUN)
	@if $(RUN) -c 'import torch, mmengine, mmcv.ops, mmdet' 2>/dev/null; then \
		echo 'The stack is in $(VENV) already'; \
	else \
		set -eo pipefail; \
		echo 'Setting up $(VENV): torch, then mmcv with its operators (compiled here), mmengine, mmdet'; \
		$(RUN) -m pip install -r requirements/torch.txt; \
		$(RUN) -m pip install -r requirements/build.txt; \
		CFLAGS=-g0 CXXFLAGS=-g0 MMCV_WITH_OPS=1 MAX_JOBS=$(JOBS) \
			$(RUN) -m pip install -v --no-build-isolation -r requirements/$(STACK).txt 2>&1 \
			| grep --line-buffered -oE '^ *\[[0-9]+/[0-9]+\]|^ *(Building|Successfully|ERROR).*|.*error:.*'; \
		$(RUN) -c 'import torch, mmengine, mmcv.ops, mmdet'; \
	fi
	$(RUN) -m pip install -r requirements/tests.txt
	$(RUN) -m pip install --no-build-isolation --no-deps -e .
	@touch $@

demo: export OMP_NUM_THREADS = $(THREADS)
demo: $(READY)
	$(RUN) tools/misc/draw_shapes.py
	$(RUN) tools/train.py $(CONFIG) --work-dir $(WORK)
	$(RUN) tools/analysis_tools/show_widths.py $(CONFIG) $$(cat $(WORK)/last_checkpoint) -o $(WORK)/widths.png
	$(RUN) tools/test.py $(CONFIG) $$(cat $(WORK)/last_checkpoint) --work-dir $(WORK)
	@echo 'picture: $(WORK)/widths.png'

demo-whole: export OMP_NUM_THREADS = $(THREADS)
demo-whole: $(WORK)/last_checkpoint
	$(RUN) tools/train.py $(CONFIG:.py=_whole.py) --work-dir $(WORK)_whole
	$(RUN) tools/test.py $(CONFIG:.py=_whole.py) $$(cat $(WORK)_whole/last_checkpoint) --work-dir $(WORK)_whole
	$(RUN) tools/analysis_tools/compare_fronts.py 'backbone slims=$(WORK)' 'detector slims=$(WORK)_whole' -o $(WORK)_whole/fronts.png

$(WORK)/last_checkpoint:
	$(MAKE) demo

pretrain: export OMP_NUM_THREADS = $(THREADS)
pretrain: $(VENV)/mmpretrain
	$(RUN) tools/train.py configs/pretrain/$(DIGITS).py --work-dir work_dirs/$(DIGITS)
	$(RUN) tools/test.py configs/pretrain/$(DIGITS).py $$(cat work_dirs/$(DIGITS)/last_checkpoint) --work-dir work_dirs/$(DIGITS)

# Beside the environment: a torchvision whose operators do not load must not be where MMEngine looks for it.
$(VENV)/mmpretrain: requirements/mmpretrain-$(STACK).txt requirements/mmpretrain.txt $(READY)
	$(RUN) -m pip install --target $@ --no-deps --no-build-isolation --upgrade -r requirements/mmpretrain-$(STACK).txt
	@touch $@

test: export OMP_NUM_THREADS = 1
test: $(READY)
	$(RUN) -m pytest tests -n auto --maxprocesses 4 --dist loadfile

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/pydoclint --quiet mmmutual

clean:
	rm -rf work_dirs data/shapes

# The interface. Every verb prints the command that it runs; `make help` lists them.
NET      ?= grid4x4
ALGOS    ?= mappo jointq
SEEDS    ?= 0
ARGS     ?=
PYTHON   ?= python3

PY  := .venv/bin/python
TSC := $(PY) -m tsc_marl

# An option is passed on only when its variable was given: option NAME,$(VALUE)
option = $(if $(strip $(2)),--$(1) $(2))

# An option is passed on only when its variable was set by the user: given NAME,VARIABLE
given = $(if $(filter file,$(origin $(2))),,--$(1) $($(2)))

.DEFAULT_GOAL := help
.PHONY: help install train study evaluate results compare explain probe report export import watch video ui nets bench bench-mpe test test-sumo test-slow lint docs clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F '\t' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo
	@echo "  variables: NET ALGOS SEEDS EPISODES WORKERS RESUME RUN CONTROLLER EVAL_SEEDS OUT FROM TIMING ARGS"
	@echo "  environment: TSC_MARL_HOME, the folder of runs/, mlflow.db and mlartifacts/ (default: here); MLFLOW_TRACKING_URI"
	@echo "  example:   make train NET=cologne8 ALGOS=\"mappo mappo_ind jointq\" SEEDS=\"0 1\" EPISODES=100"

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("tsc_marl needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Set PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

install: .venv/installed  ## make .venv from the lock file

train: .venv/installed  ## train ALGOS on NET, compare with fixed time and max pressure (RESUME=run goes on)
	$(TSC) train $(if $(RESUME),--resume $(RESUME) $(call given,net,NET) $(call given,algos,ALGOS) $(call given,seeds,SEEDS),--net $(NET) --algos $(ALGOS) --seeds $(SEEDS)) $(call option,episodes,$(EPISODES)) $(call option,timing,$(TIMING)) $(call option,workers,$(WORKERS)) $(ARGS)

study: .venv/installed  ## train ALGOS on every NET with all SEEDS, side by side; again goes on where it was
	$(TSC) study $(call given,net,NET) $(call given,algos,ALGOS) $(call given,seeds,SEEDS) $(call option,episodes,$(EPISODES)) $(call option,timing,$(TIMING)) $(ARGS)

evaluate: .venv/installed  ## measure CONTROLLER="a b" on NET with EVAL_SEEDS, keep SUMO's files in OUT
	$(TSC) evaluate --net $(NET) $(call option,controller,$(CONTROLLER)) $(call option,eval-seeds,$(EVAL_SEEDS)) $(call option,out,$(OUT)) $(call option,timing,$(TIMING)) $(call option,workers,$(WORKERS)) $(ARGS)

results: .venv/installed  ## measure all classical controllers on RESCO's networks, write docs/results.md
	$(TSC) results $(call option,workers,$(WORKERS)) $(ARGS)

compare: .venv/installed  ## list and compare the finished trainings of NET, of ALGOS if given
	$(TSC) compare --net $(NET) $(call given,algos,ALGOS) $(ARGS)

explain: .venv/installed  ## show how RUN (an algorithm, a run id or a checkpoint) values its phases, decision by decision
	$(TSC) explain --net $(NET) $(call option,run,$(RUN)) $(call option,out,$(OUT)) $(call option,timing,$(TIMING)) $(ARGS)

probe: .venv/installed  ## bias and variance of the policy gradients at RUN (algorithms, run ids, checkpoints)
	$(TSC) probe --net $(NET) $(call option,run,$(RUN)) $(call option,episodes,$(EPISODES)) $(call option,out,$(OUT)) $(call option,workers,$(WORKERS)) $(ARGS)

report: .venv/installed  ## write a page on the finished trainings of every NET, with figures for a paper
	$(TSC) report --net $(NET) $(call given,algos,ALGOS) $(call option,out,$(OUT)) $(ARGS)

export: .venv/installed  ## write the finished trainings of NET (default: all) as files in OUT, to publish or to bring together
	$(TSC) export $(call given,net,NET) $(call given,algos,ALGOS) $(call option,out,$(OUT)) $(ARGS)

import: .venv/installed  ## take exported trainings in FROM into the store (default: those published here, docs/trainings)
	$(TSC) import $(call option,folder,$(FROM)) $(ARGS)

watch: .venv/installed  ## show CONTROLLER (an algorithm, a run id or a classical controller) in sumo-gui
	$(TSC) watch --net $(NET) $(call option,controller,$(CONTROLLER)) $(call option,timing,$(TIMING)) $(ARGS)

video: .venv/installed  ## draw a stretch of CONTROLLER="a b" side by side as a GIF or MP4 file OUT
	$(TSC) video --net $(NET) $(call option,controller,$(CONTROLLER)) $(call option,out,$(OUT)) $(call option,timing,$(TIMING)) $(ARGS)

ui: .venv/installed  ## open MLflow on http://127.0.0.1:5000
	$(TSC) ui $(ARGS)

nets: .venv/installed  ## list the road networks
	$(TSC) nets $(ARGS)

bench: .venv/installed  ## measure speed, as ratios within one run
	$(TSC) bench $(ARGS)

bench-mpe: .venv/installed  ## train ALGOS on MPE's simple_spread (BATCHES of 3200 steps), beside published figures
	$(PY) -m tsc_marl.benchmarks.mpe $(or $(BATCHES),500) $(words $(SEEDS)) $(ALGOS)

test: .venv/installed  ## run the fast tests (minutes)
	$(PY) -m pytest -m "not sumo and not slow" $(ARGS)

test-sumo: .venv/installed  ## run the tests on every network, and the widest parametrisations
	$(PY) -m pytest -m "sumo and not slow" $(ARGS)

test-slow: .venv/installed  ## run the learning checks (hours)
	$(PY) -m pytest -m slow -n 0 -s $(ARGS)

lint: .venv/installed  ## ruff, pyright, import-linter
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright
	.venv/bin/lint-imports

docs: .venv/installed  ## build the documentation into site/ (a browser reads site/index.html)
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

clean:  ## remove .venv and caches; runs/, mlflow.db and mlartifacts/ stay
	rm -rf .venv site .pytest_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

# The interface. Every verb prints the command that it runs; `make help` lists them.
NET      ?= grid4x4
ALGOS    ?= mappo jointq
SEEDS    ?= 0
ARGS     ?=
PYTHON   ?= python3
POLICY   ?= $(or $(CONTROLLER),$(RUN))
ifneq ($(CONTROLLER)$(RUN),)
$(info CONTROLLER and RUN are now called POLICY; the old names work until the next version)
endif

PY  := .venv/bin/python
TSC := $(PY) -m tsc_marl

# An option is passed on only when its variable was given: option NAME,$(VALUE)
option = $(if $(strip $(2)),--$(1) $(2))

# An option is passed on only when its variable was set by the user: given NAME,VARIABLE
given = $(if $(filter file,$(origin $(2))),,--$(1) $($(2)))

ON_CLUSTER := train study evaluate watch
ifeq ($(origin CLUSTER),command line)
ifneq ($(filter-out $(ON_CLUSTER) install,$(MAKECMDGOALS)),)
$(error CLUSTER is for $(ON_CLUSTER); leave it out for $(filter-out $(ON_CLUSTER) install,$(MAKECMDGOALS)))
endif
endif

.DEFAULT_GOAL := help
.PHONY: help install train study evaluate results compare explain locks probe branch report export import release pretrained deploy serve watch video show ui networks city cut generate nets doctor bench bench-mpe check-lights chaos test test-sumo test-slow lint docs package clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F '\t' '{printf "  make %-13s %s\n", $$1, $$2}'
	@echo
	@echo "  variables: NET ALGOS SEEDS COUNT EPISODES WORKERS CLUSTER RESUME POLICY EVAL_SEEDS OUT FROM SIGNALS TIMING SIGNAL_SECONDS ARGS"
	@echo "  environment: TSC_MARL_HOME, the folder of runs/, mlflow.db and mlartifacts/ (default: here); MLFLOW_TRACKING_URI"
	@echo "  example:   make train NET=cologne8 ALGOS=\"mappo mappo_ind jointq\" SEEDS=\"0 1\" EPISODES=100"

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("tsc_marl needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Set PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

install: .venv/installed  ## make .venv from the lock file

train: .venv/installed  ## train ALGOS on NET, on several together, and evaluate (RESUME=run continues, FROM=policy fine-tunes)
	$(TSC) train $(if $(RESUME),--resume $(RESUME) $(call given,network,NET) $(call given,algos,ALGOS) $(call given,seeds,SEEDS),--network $(NET) $(if $(FROM),--start-from $(FROM) $(call given,algos,ALGOS),--algos $(ALGOS)) --seeds $(SEEDS)) $(call option,episodes,$(EPISODES)) $(call option,timing-preset,$(TIMING)) $(call option,workers,$(WORKERS)) $(call option,cluster,$(CLUSTER)) $(ARGS)

study: .venv/installed  ## train ALGOS on every NET with all SEEDS, side by side
	$(TSC) study $(call given,network,NET) $(call option,start-from,$(FROM)) $(call given,algos,ALGOS) $(call given,seeds,SEEDS) $(call option,episodes,$(EPISODES)) $(call option,timing-preset,$(TIMING)) $(call option,cluster,$(CLUSTER)) $(ARGS)

evaluate: .venv/installed  ## measure POLICY="a b" on NET with EVAL_SEEDS, SUMO's files in OUT
	$(TSC) evaluate --network $(NET) $(call option,policy,$(POLICY)) $(call option,eval-seeds,$(EVAL_SEEDS)) $(call option,out,$(OUT)) $(call option,timing-preset,$(TIMING)) $(call option,workers,$(WORKERS)) $(call option,cluster,$(CLUSTER)) $(ARGS)

results: .venv/installed  ## measure all classical controllers on RESCO's networks, write docs/results.md
	$(TSC) results $(call option,workers,$(WORKERS)) $(ARGS)

compare: .venv/installed  ## compare the finished trainings of NET
	$(TSC) compare --network $(NET) $(call given,algos,ALGOS) $(ARGS)

explain: .venv/installed  ## show how POLICY values the phases at each decision
	$(TSC) explain --network $(NET) $(call option,policy,$(POLICY)) $(call option,out,$(OUT)) $(call option,timing-preset,$(TIMING)) $(ARGS)

locks: .venv/installed  ## show which vehicles stand for minutes under POLICY, who blocks whom, and why
	$(TSC) locks --network $(NET) $(call option,policy,$(POLICY)) $(call option,eval-seeds,$(EVAL_SEEDS)) $(call option,out,$(OUT)) $(call option,timing-preset,$(TIMING)) $(call option,workers,$(WORKERS)) $(ARGS)

probe: .venv/installed  ## bias and variance of the policy gradients at POLICY="a b"
	$(TSC) probe --network $(NET) $(call option,policy,$(POLICY)) $(call option,episodes,$(EPISODES)) $(call option,out,$(OUT)) $(call option,workers,$(WORKERS)) $(ARGS)

branch: .venv/installed  ## measure how a signal's phase under POLICY changes its own delay and that of others
	$(TSC) branch --network $(NET) $(call option,policy,$(POLICY)) $(call given,seeds,SEEDS) $(call option,out,$(OUT)) $(call option,timing-preset,$(TIMING)) $(call option,workers,$(WORKERS)) $(ARGS)

report: .venv/installed  ## write a page on the finished trainings of every NET, with plots
	$(TSC) report --network $(NET) $(call given,algos,ALGOS) $(call option,out,$(OUT)) $(ARGS)

export: .venv/installed  ## write the finished trainings of NET (default: all) as files in OUT
	$(TSC) export $(call given,network,NET) $(call given,algos,ALGOS) $(call option,out,$(OUT)) $(ARGS)

import: .venv/installed  ## read exported trainings in FROM (default: docs/trainings)
	$(TSC) import $(call option,folder,$(FROM)) $(ARGS)

release: .venv/installed  ## write the weights of POLICY alone as a small file OUT
	$(TSC) release --network $(NET) $(call option,policy,$(POLICY)) $(call option,out,$(OUT)) $(ARGS)

pretrained: .venv/installed  ## make the policy that comes with the program from the checkpoint FROM
	$(TSC) release --policy $(FROM) --mean-of 3 --out tsc_marl/pretrained/policy.safetensors

deploy: .venv/installed  ## write POLICY for controllers on the street, in OUT: ONNX weights, detectors, signal plans
	$(TSC) deploy --network $(NET) $(call option,policy,$(POLICY)) $(call option,out,$(OUT)) $(call option,timing-preset,$(TIMING)) $(ARGS)

serve: .venv/installed  ## let POLICY drive signals live: a running SUMO (ARGS="--traci host:port"), or a street over HTTP (FROM=folder)
	$(TSC) serve $(if $(FROM),--from $(FROM) $(call given,network,NET),--network $(NET)) $(call option,policy,$(POLICY)) $(call option,timing-preset,$(TIMING)) $(ARGS)

watch: .venv/installed  ## show POLICY (algorithm, run id, model, controller, pretrained) in sumo-gui
	$(TSC) watch --network $(NET) $(call option,policy,$(POLICY)) $(call option,timing-preset,$(TIMING)) $(call option,cluster,$(CLUSTER)) $(ARGS)

video: .venv/installed  ## draw a clip of POLICY="a b" side by side as GIF or MP4 file OUT
	$(TSC) video --network $(NET) $(call option,policy,$(POLICY)) $(call option,out,$(OUT)) $(call option,timing-preset,$(TIMING)) $(ARGS)

show: .venv/installed  ## write a page OUT that plays an episode of POLICY="a b" in any browser
	$(TSC) show --network $(NET) $(call option,policy,$(POLICY)) $(call option,out,$(OUT)) $(call option,timing-preset,$(TIMING)) $(ARGS)

ui: .venv/installed  ## show the curves of the trainings in MLflow, on http://127.0.0.1:5000
	$(TSC) ui $(ARGS)

networks: .venv/installed  ## list the road networks; NET="a b" shows the phases of their signals
	$(TSC) networks $(call given,network,NET) $(ARGS)

nets: networks
	@echo "make nets is now called make networks; the old name works until the next version"

city: .venv/installed  ## make a network NET from FROM: OSM extract, SUMO network, .sumocfg, osmWebWizard's folder
	$(TSC) city $(call option,from,$(FROM)) $(call given,network,NET) $(call option,out,$(OUT)) $(ARGS)

cut: .venv/installed  ## make a network NET of SIGNALS="a b" of the network FROM, with the vehicles there
	$(TSC) cut $(call option,from,$(FROM)) $(call option,signals,$(SIGNALS)) $(call given,network,NET) $(call option,out,$(OUT)) $(ARGS)

generate: .venv/installed  ## make networks to train on: one for each of SEEDS, or COUNT from a seed on, in OUT
	$(TSC) generate --seeds $(SEEDS) $(call option,count,$(COUNT)) $(call option,out,$(OUT)) $(call option,workers,$(WORKERS)) $(ARGS)

doctor: .venv/installed  ## check the installation, the store, the disk; say what to do
	$(TSC) doctor $(ARGS)

bench: .venv/installed  ## measure speed, as ratios within one run
	$(TSC) bench $(ARGS)

bench-mpe: .venv/installed  ## train ALGOS on MPE's simple_spread (BATCHES of 3200 steps), beside published results
	$(PY) -m tsc_marl.benchmarks.mpe --batches $(or $(BATCHES),500) --seeds $(words $(SEEDS)) --algos $(ALGOS)

check-lights: .venv/installed  ## check every light in SUMO's log, on every NET (SIGNAL_SECONDS=1e7 plays on)
	$(TSC) check-lights $(call given,network,NET) $(call option,policy,$(POLICY)) $(call given,seeds,SEEDS) $(call option,signal-seconds,$(SIGNAL_SECONDS)) $(call option,out,$(OUT)) $(call option,timing-preset,$(TIMING)) $(call option,workers,$(WORKERS)) $(ARGS)

chaos: .venv/installed  ## kill, damage, fill and fuzz the program for 20 minutes
	$(PY) -m tests.chaos $(ARGS)

test: .venv/installed  ## run the fast tests (minutes)
	$(PY) -m pytest -m "not sumo and not slow" $(ARGS)

test-sumo: .venv/installed  ## run the tests on every network, and the widest parametrisations
	$(PY) -m pytest -m "sumo and not slow" $(ARGS)

test-slow: .venv/installed  ## run the learning checks (hours)
	$(PY) -m pytest -m slow -n 0 -s $(ARGS)

lint: .venv/installed  ## ruff, pyright, import-linter, prose of the documentation
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright
	.venv/bin/lint-imports
	$(PY) docs/prose.py

docs: .venv/installed  ## build the documentation into site/ (a browser reads site/index.html)
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

package: .venv/installed  ## build wheel and source archive into dist/
	$(PY) -m build

clean:  ## remove .venv and caches; runs/, mlflow.db and mlartifacts/ stay
	rm -rf .venv site .pytest_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

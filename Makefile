# Same model, two stacks, one fair race. `make help` lists the targets, README.md explains them.
#
# The pipeline, top to bottom: setup -> train -> export -> verify -> deploy -> loadtest -> report -> undeploy.
# Each target runs one `python -m …`; progress goes to stderr, the last line of stdout is one JSON object.

MODEL    ?= cnn
DATASET  ?=
TRAIN    ?= lockstep
OPTIMIZER ?=
PRECISION ?= float32
SEEDS    ?=
MODES    ?=
WORKERS  ?= 1
WEIGHTS  ?=
VERSION  ?= 1
FORMATS  ?= default
TARGET   ?= local
DEVICE   ?= auto
SERVERS  ?= torchserve,tfserving
PROTOCOLS ?= rest,grpc
SCENARIO ?= closed,server
PROFILE  ?= quick
TUNING   ?= default
SETTINGS ?=
PORTS    ?=
CORES    ?=
SHARE_GENERATOR ?=
LABELS   ?=
SERVER   ?=
INPUT    ?=
RUN      ?=
A        ?=
B        ?=
SEED     ?=
PRICES   ?=
RATE     ?=
CONNECTIONS ?=
ENCODINGS ?=
ROWS     ?=
ENGINES  ?=
KEEP_ALIVE ?=
DURATION ?=
SLO      ?=
RATES    ?=
TRACE    ?=
WEB_PORT ?= 8089
LOAD_WORKERS ?= 2
TORCH_INDEX ?=
ARTIFACTS ?= artifacts
RESULTS  ?= results

PYTHON   ?= $(if $(shell command -v python3.11 2>/dev/null),python3.11,python3)
PY       := .venv/bin/python
STAMP    := .venv/.ready
# A value as the shell hands it on unchanged, whatever quotes are in it: the program is to refuse it, not the shell.
quote     = '$(subst ','\'',$(1))'
STORE     = --artifacts $(call quote,$(ARTIFACTS)) --results $(call quote,$(RESULTS))
# `$(call option,--run,$(RUN))` is empty when the variable is.
option    = $(if $(2),$(1) $(call quote,$(2)))
# A mistake that no program of ours is asked about: what was found, what was expected. Exit code 2, and the same in JSON.
refuse    = { printf 'make $@: usage: %s\n' $(call quote,$(1)) 1>&2; \
  printf '{"status": "usage", "error": "%s"}\n' $(call quote,$(subst ",\",$(subst \,\\,$(1)))); exit 2; }
NO_TARGET = unknown target '$(TARGET)': expected one of compose, k8s, local (set TARGET=...)
# Tools report to stderr; their exit code becomes the JSON line.
tool      = { $(1); } 1>&2 && echo '{"status": "ok", "target": "$@"}' || { echo '{"status": "fault", "error": "make $@ failed; see above"}'; exit 1; }

MAKEFLAGS += --no-print-directory
.SILENT:
.DEFAULT_GOAL := help
.PHONY: demo setup setup-formats train train-all train-tensorboard export verify deploy status predict loadtest loadtest-calibrate loadtest-selftest loadtest-ui compare compare-runs report report-benchmark report-serve undeploy check test test-fast test-all e2e e2e-containers gpu-check clean help

help: ## list the targets
	awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST) 1>&2
	echo '{"status": "ok", "target": "help"}'

demo: $(STAMP) ## from a bare checkout: environment, train, export, verify, deploy, load test, report
	$(PY) -m experiment.demo --model $(call quote,$(MODEL)) --servers $(call quote,$(SERVERS)) --protocols $(call quote,$(PROTOCOLS)) \
	  --profile $(call quote,$(PROFILE)) --device $(call quote,$(DEVICE)) --tuning $(call quote,$(TUNING)) \
	  --ports $(call quote,$(or $(PORTS),free)) --run $(call quote,$(or $(RUN),demo)) $(STORE)

setup: ## make .venv/ (DEVICE=cpu|cuda, TORCH_INDEX=URL of PyTorch's own wheels)
	$(PYTHON) -m faceoff.platform_check
	$(PYTHON) -m faceoff.bootstrap --device $(call quote,$(DEVICE)) --stamp $(STAMP) $(call option,--torch-index,$(TORCH_INDEX))

setup-formats: $(STAMP) ## make .venv-formats/: tools of LiteRT, ExecuTorch, TensorFlow.js, or why one cannot be had (TORCH_INDEX)
	$(PY) -m export.setup_formats $(call option,--torch-index,$(TORCH_INDEX))

$(STAMP): $(filter-out requirements/formats-%,$(wildcard requirements/*.txt))
	$(MAKE) setup 1>&2 || { echo '{"status": "fault", "error": "make setup failed; see above"}'; exit 1; }

train: $(STAMP) ## train MODEL in both frameworks (DATASET WEIGHTS PROFILE DEVICE TRAIN=lockstep|native OPTIMIZER PRECISION SEEDS MODES WORKERS)
	$(PY) -m training.train --model $(call quote,$(MODEL)) $(call option,--dataset,$(DATASET)) --profile $(call quote,$(PROFILE)) \
	  --device $(call quote,$(DEVICE)) --train $(call quote,$(TRAIN)) --precision $(call quote,$(PRECISION)) \
	  --workers $(call quote,$(WORKERS)) $(call option,--weights,$(WEIGHTS)) $(call option,--optimizer,$(OPTIMIZER)) \
	  $(call option,--seeds,$(SEEDS)) $(call option,--modes,$(MODES)) $(call option,--run,$(RUN)) $(STORE)

train-all: $(STAMP) ## every model, one after the other, then a report on them (PROFILE DEVICE TRAIN=lockstep|native PRECISION SEEDS RUN)
	$(PY) -m training.all --profile $(call quote,$(PROFILE)) --device $(call quote,$(DEVICE)) --train $(call quote,$(TRAIN)) \
	  --precision $(call quote,$(PRECISION)) $(call option,--seeds,$(SEEDS)) --run $(call quote,$(or $(RUN),zoo)) $(STORE)

train-tensorboard: $(STAMP) ## open TensorBoard on MODEL's training logs, on loopback, until Ctrl-C or an hour (RUN)
	$(PY) -m training.board --model $(call quote,$(MODEL)) $(call option,--run,$(RUN)) $(STORE)

export: $(STAMP) ## export the trained MODEL and verify it (VERSION FORMATS=default|all|names|bf16|float16|int8)
	$(PY) -m export.export --model $(call quote,$(MODEL)) --version $(call quote,$(VERSION)) --formats $(call quote,$(FORMATS)) $(STORE)

verify: $(STAMP) ## check every export in its own runtime against the golden outputs
	$(PY) -m export.verify --model $(call quote,$(MODEL)) --version $(call quote,$(VERSION)) $(STORE)

deploy: $(STAMP) ## start SERVERS on loopback, prove parity (MODEL=a,b VERSION=1,2 CORES=0-2 PORTS=standard|free TUNING SETTINGS=file LABELS)
	$(PY) -m serving.deploy --model $(call quote,$(MODEL)) --version $(call quote,$(VERSION)) --servers $(call quote,$(SERVERS)) \
	  --target $(call quote,$(TARGET)) --ports $(call quote,$(or $(PORTS),standard)) --tuning $(call quote,$(TUNING)) \
	  --device $(call quote,$(DEVICE)) $(call option,--cores,$(CORES)) $(call option,--settings,$(SETTINGS)) \
	  $(if $(SHARE_GENERATOR),--share-generator) $(call option,--labels,$(LABELS)) $(STORE)

status: $(STAMP) ## what runs now: ready or dead, models, settings in force, memory, CPU, requests, last fault
	$(PY) -m serving.status $(STORE)

predict: $(STAMP) ## send INPUT=<.npy|.png|.json|folder|-> to every endpoint and show the answers side by side (SERVER)
	$(PY) -m serving.predict --model $(call quote,$(MODEL)) --input $(call quote,$(INPUT)) --protocols $(call quote,$(PROTOCOLS)) \
	  $(call option,--server,$(SERVER)) $(if $(filter command% environment%,$(origin VERSION)),--version $(call quote,$(VERSION))) \
	  $(STORE)

# Options that `python -m loadtest.run` and Locust in a cluster have alike.
LOAD = --model $(call quote,$(MODEL)) --servers $(call quote,$(SERVERS)) --protocols $(call quote,$(PROTOCOLS)) \
  --scenarios $(call quote,$(SCENARIO)) \
  $(call option,--seed,$(SEED)) $(call option,--rate,$(RATE)) $(call option,--connections,$(CONNECTIONS)) \
  $(call option,--encodings,$(ENCODINGS)) $(call option,--rows,$(ROWS)) $(call option,--duration,$(DURATION)) \
  $(call option,--slo,$(SLO)) $(call option,--rates,$(RATES)) $(call option,--engines,$(ENGINES)) $(call option,--trace,$(TRACE)) \
  $(call option,--keep-alive,$(KEEP_ALIVE))

loadtest: $(STAMP) ## load the deployed endpoints, TARGET=k8s from Jobs (LOAD_WORKERS) (SCENARIO=closed,server PROFILE RATE CONNECTIONS ENCODINGS ROWS DURATION SLO ENGINES KEEP_ALIVE SEED RUN)
	case $(call quote,$(TARGET)) in \
	  k8s) $(PY) -m serving.load_job --workers $(call quote,$(LOAD_WORKERS)) $(call option,--run,$(RUN)) $(STORE) \
	    -- --load-profile $(call quote,$(PROFILE)) $(LOAD);; \
	  local|compose) $(PY) -m loadtest.run $(call option,--run,$(RUN)) $(STORE) --profile $(call quote,$(PROFILE)) $(LOAD);; \
	  *) $(call refuse,$(NO_TARGET));; esac

loadtest-calibrate: $(STAMP) ## measure the generator's own capacity against a null server
	$(PY) -m loadtest.calibrate $(STORE)

loadtest-selftest: $(STAMP) ## measure the instrument against servers of known truth, stock Locust beside it
	$(PY) -m loadtest.selftest $(call option,--seed,$(SEED))

loadtest-ui: $(STAMP) ## Locust's Web UI with our options in its form (WEB_PORT; Ctrl-C ends it)
	$(PY) -m loadtest.ui --port $(call quote,$(WEB_PORT)) $(STORE)

compare: $(STAMP) ## the whole experiment, ending in a verdict: default and best of each server (SERVERS PROTOCOLS PROFILE SEED PRICES RUN)
	$(PY) -m experiment.compare --model $(call quote,$(MODEL)) --servers $(call quote,$(SERVERS)) --protocols $(call quote,$(PROTOCOLS)) \
	  --profile $(call quote,$(PROFILE)) --device $(call quote,$(DEVICE)) $(call option,--seed,$(SEED)) \
	  $(call option,--prices,$(PRICES)) --run $(call quote,$(or $(RUN),compare)) $(STORE)

report: $(STAMP) ## results/RUN to one HTML page and Markdown (RUN; the newest run by default)
	$(PY) -m report.build $(call option,--run,$(RUN)) $(STORE)

report-benchmark: $(STAMP) ## a run of make compare as a page in benchmarks/, named by model, hardware and date (RUN)
	$(PY) -m report.benchmark $(call option,--run,$(RUN)) $(STORE)

report-serve: $(STAMP) ## a site over all runs, on loopback, until Ctrl-C or an hour
	$(PY) -m report.serve $(STORE)

compare-runs: $(STAMP) ## run B against run A of make compare; fails on a regression beyond the noise floor (A B)
	$(PY) -m report.compare_runs --a $(call quote,$(A)) --b $(call quote,$(B)) $(STORE)

undeploy: $(STAMP) ## stop every server that deploy started
	$(PY) -m serving.undeploy $(STORE)

check: $(STAMP) ## formatting, lint, types, import rules; Dockerfiles, YAML, alert rules and Kubernetes overlays
	$(call tool,$(PY) -m ruff format --check . && $(PY) -m ruff check --output-format=concise . && $(PY) -m mypy && .venv/bin/lint-imports \
	  && $(PY) -m tests.static.check_containers)

test: $(STAMP) ## every test not marked slow, gpu or containers
	$(call tool,$(PY) -m pytest -m 'not slow and not gpu and not containers')

test-fast: $(STAMP) ## the unit tests: two minutes, for yourself
	$(call tool,$(PY) -m pytest tests/unit)

test-all: $(STAMP) ## test and what is marked slow
	$(call tool,$(PY) -m pytest -m 'not gpu and not containers')

e2e: $(STAMP) ## the Makefile as a user runs it
	$(call tool,$(PY) -m pytest -m 'e2e and not gpu and not containers')

e2e-containers: $(STAMP) ## build the images, serve from them by Compose, load, scrape, stop (root on Debian; else skipped, with the reason)
	$(call tool,$(PY) -m pytest -m containers tests/containers)

gpu-check: $(STAMP) ## on an NVIDIA GPU: run the gpu tests, write benchmarks/gpu-check_<gpu>_<date>.md
	$(PY) -m experiment.gpu_check

clean: ## remove artifacts/ and results/ (not .venv/); refuses while servers of ours run
	if [ -e $(call quote,$(ARTIFACTS)/endpoints.json) ]; then $(call refuse,servers are deployed; run make undeploy first); fi
	rm -rf -- $(call quote,$(ARTIFACTS)) $(call quote,$(RESULTS)) && echo '{"status": "ok", "target": "clean"}'

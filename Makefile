# Each target sets up .venv on first use. `make report` and `make test` are all that most people need.
SHELL := /bin/bash
VENV ?= .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
UV := uv==0.13.9
RUN := $(PY) -m helpers run
UPDATE := $(if $(FORCE),--force,--update --resume)
RUNS := $(or $(HELPERS_RUNS:~/%=$(HOME)/%),runs)
CLASSIFIERS := 03_lstm_classifier 04_bert_finetune
OTHERS := $(filter-out $(CLASSIFIERS) 05_evaluation_plots 06_which_model,$(sort $(basename $(notdir $(wildcard notebooks/[01]*.ipynb)))))
COLAB := $(addprefix tests/test_,notebooks.py embeddings.py language_models.py pretrained.py sweeps.py which_model.py)
NBVAL := $(PY) -m pytest -c pyproject.toml --nbval --nbval-current-env --nbval-cell-timeout 900 -p tests.nbval_plugin
EXAMPLES = $(shell grep -rl --include='*.py' '>>> ' helpers)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUTF8 := 1
# Where this is set, and some images set it, each process would translate TensorFlow's source anew: 14 s.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: report test check test-colab compare lab notebooks bench stress clean .venv colab

report: $(READY)  ## run every notebook and write reports/index.html, anew after each
	@status=0; shopt -s nullglob; step() { "$$@" || { status=$$?; [ $$status -lt 128 ] || exit $$status; }; }; \
	pages() { books=("$(RUNS)"/[01]*/default{,.failed}/notebook.ipynb); step $(PY) -m helpers report "$${books[@]%/*}" --out reports "$$@"; }; \
	run() { step $(RUN) "$$@" $(UPDATE); pages --update > /dev/null; }; \
	for nb in $(OTHERS) $(CLASSIFIERS) 06_which_model; do run $$nb; done; \
	if [ $$status = 0 ]; then run 05_evaluation_plots $(foreach nb,$(CLASSIFIERS),-p RUNS "$(RUNS)/$(nb)/default"); \
	else echo "05_evaluation_plots is left out, because a notebook before it failed." >&2; fi; \
	pages; exit $$status

check: $(READY)  ## the fast half of the tests: ruff, and tests that neither train nor start a kernel
	@$(VENV)/bin/ruff check --quiet . && $(VENV)/bin/ruff format --quiet --check .
	@$(PY) -m pytest -n 2 --dist worksteal --doctest-modules -m "not slow and not kernel" tests $(EXAMPLES)

# 10 counts the bytes that this machine sends to itself, so nothing runs beside it.
test: $(READY)  ## ruff, unit tests, nbval on every notebook, papermill runs with small parameters
	@$(VENV)/bin/ruff check --quiet . && $(VENV)/bin/ruff format --quiet --check .
	@$(PY) -m pytest -n 2 --dist loadfile --doctest-modules tests $(EXAMPLES)
	@$(NBVAL) -n 2 --dist loadfile $(filter-out notebooks/10_%,$(wildcard notebooks/*.ipynb))
	@$(NBVAL) notebooks/10_*.ipynb

test-colab:  ## notebooks with small parameters on the versions that Colab ships, in .venv-colab (Python 3.12)
	@test -x .venv-colab/bin/python || $${PYTHON:-python3.12} -m venv .venv-colab
	@.venv-colab/bin/python -m pip install -q -c tests/colab.txt . pytest hypothesis jax distributed
	@PYTHONPATH="$(CURDIR)" .venv-colab/bin/python -m pytest -m slow $(COLAB)

compare: $(READY)  ## make compare DATA=my.csv [TEST=test.csv] [MINUTES=10] [SEEDS=3]: which model should I use?
	@test -n "$(DATA)" || { echo "error: say which file: make compare DATA=my.csv" >&2; exit 2; }
	@$(PY) -m helpers compare "$(DATA)" $(if $(TEST),--test "$(TEST)") $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEEDS),--seeds $(SEEDS))

lab: $(READY)  ## open JupyterLab on notebooks/
	@$(VENV)/bin/jupyter lab --notebook-dir=notebooks

notebooks: $(READY)  ## execute all notebooks with their defaults and store their outputs
	@HELPERS_HEADLESS=1 TQDM_DISABLE=1 $(VENV)/bin/jupyter nbconvert --to notebook --execute --inplace \
	  --ExecutePreprocessor.record_timing=False --ExecutePreprocessor.kernel_name=python3 \
	  $(filter-out %05_evaluation_plots.ipynb,$(wildcard notebooks/*.ipynb))
	@$(PY) tools/recording.py
	@HELPERS_HEADLESS=1 TQDM_DISABLE=1 $(VENV)/bin/jupyter nbconvert --to notebook --execute --inplace \
	  --ExecutePreprocessor.record_timing=False --ExecutePreprocessor.kernel_name=python3 notebooks/05_evaluation_plots.ipynb

bench: $(READY)  ## speed, as ratios from one run on this machine [PEERS=a Python that has torch and others]
	@$(PY) benchmarks/lstm_speed.py
	@$(PY) benchmarks/bert_speed.py
	@$(PY) benchmarks/checks_speed.py
	@$(PY) benchmarks/embeddings_speed.py $(if $(PEERS),--gensim $(PEERS))
	@$(PY) benchmarks/language_model_speed.py
	@$(PY) benchmarks/overhead.py
	@$(PY) benchmarks/peers.py $(if $(PEERS),--peers $(PEERS))

stress: $(READY)  ## 24 kills at random times of run, sweep, compare, predict, report and serve (KILLS=100 for more)
	@$(PY) tests/stress.py --kills $(or $(KILLS),24)

colab:  ## make colab REPO=https://... : write the address of your copy into every notebook's first cell
	@sed -i.bak 's|REPO = \\"[^\\]*\\"|REPO = \\"$(REPO)\\"|' notebooks/*.ipynb && rm -f notebooks/*.bak

clean:  ## remove what runs left: runs/ and reports/
	@rm -rf runs reports build .hypothesis .ruff_cache

.venv: $(READY)

# uv installs in half a minute what takes pip three; pip does it where uv cannot, or where pip has an index of its own.
# The C++ headers of TensorFlow (430 MB) serve only to compile extensions.
$(READY): requirements.txt pyproject.toml
	@echo "Setting up $(VENV) (once: about 700 MB to fetch) ..."
	@if command -v uv > /dev/null; then \
	  uv venv --quiet --allow-existing --seed --python "$${PYTHON:->=3.11,<3.14}" $(VENV); \
	else \
	  $${PYTHON:-python3} -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11 to 3.13 is needed: make PYTHON=python3.12 report")' && \
	  $${PYTHON:-python3} -m venv $(VENV); \
	fi
	@if ! command -v uv > /dev/null && ! $(PY) -m pip config list | grep -q '\.index-url'; then $(PY) -m pip install --quiet $(UV) || true; fi
	@if PATH="$(abspath $(VENV))/bin:$$PATH" && command -v uv > /dev/null && uv pip install --quiet --python $(PY) --require-hashes -r requirements.txt; \
	  then uv pip install --quiet --python $(PY) --no-deps -e .; \
	  else $(PY) -m pip install --quiet --no-compile --require-hashes -r requirements.txt && $(PY) -m pip install --quiet --no-deps -e .; \
	fi
	@rm -rf $(VENV)/lib/python3.*/site-packages/tensorflow/include
	@touch $@

# `make` alone lists what there is. Works with GNU make 3.81 and later.
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/ready
PORT ?= 8000
LAB ?= # options for JupyterLab, as LAB=--no-browser

.PHONY: help setup book test serve lab notebooks bench dist links lint clean

help:
	@echo "make book       build the book into _build/html (the first time it also makes $(VENV))"
	@echo "make serve      build it and serve it on http://localhost:$(PORT)"
	@echo "make lab        open the exercises in JupyterLab, in your browser"
	@echo "make test       lint, build, then run every test, notebooks and browser included"
	@echo "make notebooks  run every notebook again and store its outputs"
	@echo "make bench      measure time and memory against other libraries (half an hour, on an idle machine)"
	@echo "make dist       the package for PyPI, and the book as a zip and as a PDF, into dist"
	@echo "make links      ask every page that the book links to whether it is still there"
	@echo "make lint       ruff and mypy, and zizmor for the workflows"
	@echo "make clean      remove what was built; $(VENV) stays"
	@echo "Needs Python 3.11, 3.12 or 3.13; 'make PYTHON=/path/to/python book' chooses one."

setup: $(READY)

$(READY): requirements.txt pyproject.toml .ci/make_venv.sh
	@PYTHON="$(PYTHON)" sh .ci/make_venv.sh $(VENV)
	@touch $(READY)

# A failed build forgets what it has read, or the next one would not warn again.
book: $(READY)
	@$(VENV)/bin/jupyter-book build . -W --keep-going -n -q || { rm -rf _build/.doctrees; exit 1; }
	@echo "The book: _build/html/index.html"

serve: book
	@echo "http://localhost:$(PORT) (Ctrl-C stops it)"
	@$(PY) -m http.server $(PORT) --bind localhost --directory _build/html

lab: $(READY)
	$(VENV)/bin/jupyter lab $(LAB) book/exercises/01_why_learn_to_learn.ipynb

notebooks: $(READY)
	$(PY) book/_ext/execute.py

# The libraries to compare with are needed here only; --no-deps, since they would bring another torch.
bench: $(READY)
	$(PY) -m pip install -qq --disable-pip-version-check --no-deps higher==0.2.1 torchopt==0.7.3 optree==0.20.0 graphviz
	$(PY) -m mamlkit.bench --out mamlkit/records/bench.json

# What a release has. Only twine, which looks at the package as PyPI does, is needed nowhere else.
dist: book
	rm -rf dist build
	$(PY) -m pip install -qq --disable-pip-version-check twine==7.0.0
	$(PY) -m build --no-isolation --outdir dist .
	$(PY) -m twine check --strict dist/*.whl dist/*.tar.gz
	$(PY) book/_ext/offline_zip.py dist
	$(PY) book/_ext/pdf.py dist

links: $(READY)
	$(VENV)/bin/jupyter-book build . --builder linkcheck

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/zizmor --offline --no-progress --quiet .github

# Shapes in the annotations are checked at run time in the unit tests. The tests on wrong input run without that check,
# because there it is mamlkit's own message that counts. Lint and build have a core each, as the two workers of the tests have.
test: $(READY)
	@$(MAKE) --no-print-directory -j2 lint book
	$(PY) -m pytest tests/unit -q -n 2 --durations=10 --jaxtyping-packages=mamlkit,beartype.beartype
	$(PY) -m pytest tests --ignore=tests/unit -q -n 2 --durations=10 --dist loadscope

clean:
	rm -rf _build build dist mamlkit.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

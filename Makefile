.DEFAULT_GOAL := help
.PHONY: help setup setup-dev up down test check format engine bench quarter chaos reliability soak power-cuts vm-power-cuts vm-test lock

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup:  ## prepare .venv for ./deploy.py
	@scripts/setup run

setup-dev:  ## prepare .venv with everything tests and checks need
	@scripts/setup dev

up: setup  ## bring the sandbox up and wait until healthy (your own targets: ./deploy.py up)
	@./deploy.py --target sandbox up

down: setup  ## stop the sandbox
	@./deploy.py --target sandbox down

test:  ## set up what is missing and run the whole suite
	@scripts/test

check: setup-dev  ## lint, format, types
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

format: setup-dev  ## rewrite in the project's format
	@.venv/bin/ruff check --fix --quiet . || true
	@.venv/bin/ruff format .

engine:  ## Debian/Ubuntu, root: install and start what the engine tests need
	@scripts/engine

bench: setup-dev  ## measure every figure beside its alternative, and write docs/performance.md (SHARE=0.25: the bridge's there, too; root)
	@.venv/bin/python -m bench $(if $(SHARE),--share $(SHARE)) --page docs/performance.md

quarter: setup-dev  ## Debian/Ubuntu, root: every command on a quarter of a core, and docs/slow-machines.md (SHARE=0.25, TRADING=2)
	@scripts/quarter --share $(or $(SHARE),0.25) --trading-minutes $(or $(TRADING),2) --page docs/slow-machines.md

chaos: setup-dev  ## what fails below a stack on the engine, and its part of docs/reliability.md (FAULTS=all; needs make engine)
	@GANGWAY_CHAOS=$(or $(FAULTS),all) GANGWAY_CHAOS_PAGE=docs/reliability.md GANGWAY_REQUIRE=engine \
		.venv/bin/python -m pytest tests/engine/chaos -q -s

reliability: setup-dev  ## an hour of faults of every kind, and docs/reliability.md from what was seen (MINUTES=60 SHARE=1 CALM=1.25)
	@GANGWAY_SOAK_MINUTES=$(or $(MINUTES),60) GANGWAY_SOAK_SHARE=$(or $(SHARE),1) GANGWAY_SOAK_CALM=$(or $(CALM),1.25) GANGWAY_RELIABILITY=docs/reliability.md \
		.venv/bin/python -m pytest tests/soak -q -s

soak: setup-dev  ## kill the bridge 500 times at named points, an agent's way 1,000 times, 20 trading weeks (KILLS=500 RULE_KILLS=500 MCP_KILLS=1000 WEEKS=20)
	@GANGWAY_KILLS=$(or $(KILLS),500) GANGWAY_CRASH_SEED=$(or $(SEED),20260213) \
		.venv/bin/python -m pytest tests/bridge/orders/test_named_kills.py -q -s
	@GANGWAY_KILLS=$(or $(RULE_KILLS),500) GANGWAY_CRASH_SEED=$(or $(SEED),20260213) \
		.venv/bin/python -m pytest tests/bridge/rules/test_kills.py -q -s
	@GANGWAY_WEEKS=$(or $(WEEKS),20) GANGWAY_CRASH_SEED=$(or $(SEED),20260213) \
		.venv/bin/python -m pytest tests/bridge/rules/test_week.py -q -s
	@GANGWAY_MCP_KILLS=$(or $(MCP_KILLS),1000) GANGWAY_CRASH_SEED=$(or $(SEED),20260213) \
		.venv/bin/python -m pytest tests/deploy/mcp/test_kills.py -q -s

vm-power-cuts: setup-dev  ## power cuts at random moments of `prepare` (WHAT=up), each booted: CUTS=30 MINUTES=240
	@scripts/vm-power-cuts $(or $(WHAT),prepare) --cuts $(or $(CUTS),30) --minutes $(or $(MINUTES),240)

power-cuts: setup-dev  ## Linux, root: power cuts at random moments of deploys, without a machine: WHAT=all CUTS=30 MINUTES=60
	@scripts/power-cuts $(or $(WHAT),all) --cuts $(or $(CUTS),30) --minutes $(or $(MINUTES),60)

vm-test: setup-dev  ## a 1 GB virtual machine: prepare, reboot, power loss, memory, timers
	@scripts/vm-test

lock: setup-dev  ## refresh the lock files
	@scripts/lock

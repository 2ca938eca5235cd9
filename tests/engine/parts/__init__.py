"""Real parts for the engine tests: the private Docker Engine, an SSH server, a delaying relay."""

from tests.engine.parts.engine import ENGINE_HOME, ENGINE_HOST, engine_missing

__all__ = ["ENGINE_HOME", "ENGINE_HOST", "engine_missing"]

"""stack.yaml to checked models; each value knows its line.

`load(path, target)` gives a `Target`; `Target.place("gateway", "mode")` says where a value stands.
Nothing here touches a host. Secrets stay references until `secrets.resolve` reads them.
"""

import os

# pydantic would look for plugins in the metadata of every installed package, at each start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infrastructure.config.loading import DEFAULT_FILE, load, load_all
    from infrastructure.config.target import Target

__all__ = ["DEFAULT_FILE", "Target", "load", "load_all"]


def __getattr__(name: str) -> Any:
    """Loads the models when they are first used: a connection begins while they load."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = "target" if name == "Target" else "loading"
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)

"""The package `gangway` of an installed program: its `__init__`, and the command of that name.

The other files of the checkout lie below it as they do there, so that nothing else of the
environment is shadowed by names such as `bridge`, and every path within the project stays true.
"""

import sys
from pathlib import Path


def main() -> None:
    """The command `gangway`: the same program as `./deploy.py`; ends the process."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from infrastructure.cli import run_and_exit

    run_and_exit()

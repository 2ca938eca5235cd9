"""The same stack kept up to date by other tools: what each runs when nothing has changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.engine.parts.stack import Stack

PROJECT = Path(__file__).resolve().parents[2]
TOOLS = PROJECT / ".venv-bench" / "bin"
LIMIT = 900


class Peers:
    """Peers for one stack that is up: its release's files, its Compose project, its SSH server.

    All files are there already, as the last `up` left them: each run finds nothing to change.
    """

    def __init__(self, stack: Stack, port: int, folder: Path) -> None:
        self._stack = stack
        self._port = port
        self._folder = folder
        folder.mkdir(parents=True)
        shutil.copytree(stack.base / "current", folder / "files")
        self._config = folder / "ssh_config"
        self._config.write_text(
            f"Host *\n  IdentityFile {stack.server.client_key}\n"
            f"  UserKnownHostsFile {stack.known_hosts}\n  LogLevel ERROR\n"
        )

    def _run(self, command: list[str], **variables: str) -> None:
        done = subprocess.run(
            command,
            env=os.environ | {"HOME": str(self._stack.home)} | variables,
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        if done.returncode:
            sys.stderr.write(done.stdout[-2000:] + done.stderr[-2000:])
            raise RuntimeError(f"{command[0]} failed")

    @property
    def _up(self) -> list[str]:
        current = self._stack.base / "current"
        return [
            *("docker", "compose", "--project-name", self._stack.project),
            *("--file", f"{current}/compose.yaml", "--project-directory", str(current)),
            *("up", "--detach", "--no-build", "--quiet-pull"),
        ]

    def compose(self) -> None:
        """`docker compose up` on this machine, with the engine over ssh://."""
        wrapper = self._folder / "bin" / "ssh"
        wrapper.parent.mkdir(exist_ok=True)
        wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self._config} "$@"\n')
        wrapper.chmod(0o755)
        path = f"{wrapper.parent}:{os.environ['PATH']}"
        self._run(self._up, DOCKER_HOST=f"ssh://root@127.0.0.1:{self._port}", PATH=path)

    def pyinfra(self) -> None:
        """A deploy of pyinfra: each file, then the Compose command."""
        current = str(self._stack.base / "current")
        script = self._folder / "deploy.py"
        script.write_text(
            "from pathlib import Path\nfrom pyinfra.operations import files, server\n"
            "folder = Path('files')\nfor path in sorted(folder.rglob('*')):\n"
            "    if path.is_file():\n"
            f"        files.put(src=str(path), dest={current!r} + '/' + "
            "str(path.relative_to(folder)))\n"
            f"server.shell(commands=[{' '.join(self._up)!r}])\n"
        )
        key = str(self._stack.server.client_key)
        self._run(
            [
                *(str(TOOLS / "pyinfra"), "-y", "127.0.0.1", "--user", "root"),
                *("--port", str(self._port), "--key", key, "--data", "ssh_config_file=ssh_config"),
                "deploy.py",
            ]
        )

    def ansible(self) -> None:
        """A playbook: the files, then the Compose command; pipelining and one shared connection."""
        playbook = [
            {
                "hosts": "all",
                "gather_facts": False,
                "tasks": [
                    {
                        "ansible.builtin.copy": {
                            "src": f"{self._folder}/files/",
                            "dest": f"{self._stack.base}/current/",
                            "mode": "preserve",
                        }
                    },
                    {"ansible.builtin.command": {"argv": self._up}},
                ],
            }
        ]
        (self._folder / "playbook.yml").write_text(json.dumps(playbook))
        host = {
            "ansible_host": "127.0.0.1",
            "ansible_port": self._port,
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_common_args": f"-F {self._config} -o ControlPersist=60s",
            "ansible_pipelining": True,
        }
        inventory = {"all": {"hosts": {"host": host}}}
        (self._folder / "inventory.yml").write_text(json.dumps(inventory))
        self._run(
            [str(TOOLS / "ansible-playbook"), "-i", "inventory.yml", "playbook.yml"],
            ANSIBLE_SSH_ARGS="-o ControlMaster=auto -o ControlPersist=60s",
        )

"""The twin of a 1 GB VM: a bare Debian in QEMU, emulated, reached by SSH on a loopback port."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.closed_port import free_port

PROJECT = Path(__file__).resolve().parents[2]
BOOTS_WITHIN = 1200
PROFILE = "e2-micro"


@dataclass
class Machine:
    """One machine; its disk is a layer of its own over the prepared one.

    `raw`: boots this disk itself instead. `log`: what it writes to `raw` is logged there.
    """

    home: Path
    folder: Path
    raw: Path | None = None
    log: Path | None = None
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    # --- power ----------------------------------------------------------------------------------
    def start(self) -> None:
        """Boots it and waits until SSH answers."""
        host = (self.home / "host.pub").read_text().split()
        known = f"[127.0.0.1]:{self.port} {host[0]} {host[1]}\n"
        (self.folder / "known_hosts").write_text(known)
        forward = f"user,id=n0,hostfwd=tcp:127.0.0.1:{self.port}-:22"
        self.process = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "qemu64"),
                *("-smp", "2", "-m", "1024", "-display", "none", "-monitor", "none"),
                *("-serial", f"file:{self.folder}/serial.log"),
                *("-kernel", str(self.home / "vmlinuz"), "-initrd", str(self.home / "initrd.img")),
                *("-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet"),
                *self._drive(),
                *("-netdev", forward, "-device", "virtio-net-pci,netdev=n0"),
            ],
            stdin=subprocess.DEVNULL,
        )
        self.wait()

    def _drive(self) -> list[str]:
        if self.raw is None:
            disk = self.folder / "disk.qcow2"
            if not disk.exists():
                base = f"backing_file={self.home}/disk.raw,backing_fmt=raw"
                create = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", base, str(disk)]
                subprocess.run(create, check=True)
            return ["-drive", f"file={disk},if=virtio,format=qcow2,cache=unsafe"]
        if self.log is None:
            return ["-drive", f"file={self.raw},if=virtio,format=raw,cache=unsafe"]
        self.log.write_bytes(b"")
        quick = {"no-flush": True, "direct": False}
        graph = {
            "driver": "blklogwrites",
            "node-name": "logged",
            "file": {"driver": "file", "filename": str(self.raw), "cache": quick},
            "log": {"driver": "file", "filename": str(self.log), "cache": quick},
        }
        device = "virtio-blk-pci,drive=logged,write-cache=on"
        return ["-blockdev", json.dumps(graph), "-device", device]

    def wait(self) -> None:
        """Until a command runs on it."""
        deadline = time.monotonic() + BOOTS_WITHIN
        while time.monotonic() < deadline:
            if self.ssh("true", check=False).returncode == 0:
                return
            time.sleep(2)
        raise AssertionError((self.folder / "serial.log").read_text()[-2000:])

    def cut_off(self) -> None:
        """Power loss."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def power_off(self) -> None:
        """An orderly end."""
        self.ssh("systemctl poweroff", check=False)
        if self.process is not None:
            self.process.wait(BOOTS_WITHIN)

    def reboot(self) -> None:
        """An orderly reboot."""
        before = self.ssh("cat /proc/sys/kernel/random/boot_id").stdout
        self.ssh("systemctl reboot", check=False)
        deadline = time.monotonic() + BOOTS_WITHIN
        while time.monotonic() < deadline:
            found = self.ssh("cat /proc/sys/kernel/random/boot_id", check=False)
            if found.returncode == 0 and found.stdout != before:
                return
            time.sleep(3)
        raise AssertionError("it did not come back")

    # --- commands -------------------------------------------------------------------------------
    def ssh(
        self, command: str, *, check: bool = True, data: bytes | None = None, seconds: float = 900
    ) -> subprocess.CompletedProcess[str]:
        """A command on the machine, as root."""
        done = subprocess.run(
            [
                *("ssh", "-q", "-i", str(self.home / "key"), "-p", str(self.port)),
                *("-o", f"UserKnownHostsFile={self.folder / 'known_hosts'}"),
                *("-o", "ConnectTimeout=20", "-o", "BatchMode=yes", "root@127.0.0.1", command),
            ],
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        found = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )
        assert not check or found.returncode == 0, f"{command}: {found.stdout}{found.stderr}"
        return found

    def command(self, *arguments: str) -> list[str]:
        """`./deploy.py ARGUMENTS` for this machine."""
        config = self.folder / "stack.yaml"
        return [sys.executable, str(PROJECT / "deploy.py"), "--config", str(config), *arguments]

    def deploy(self, *arguments: str, seconds: float = 3600) -> subprocess.CompletedProcess[str]:
        """Runs it to its end."""
        return subprocess.run(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={**os.environ, "HOME": str(self.folder)},
        )

    def configure(self, *, alerts: str = "", **gateway: object) -> None:
        """Writes stack.yaml; `alerts`: an address for them."""
        for name, content in (("password", "correct"), ("alerts", alerts)):
            (self.folder / name).write_text(content)
            (self.folder / name).chmod(0o600)
        target = {
            "host": {
                "address": "127.0.0.1",
                "user": "root",
                "port": self.port,
                "identity": str(self.home / "key"),
                "known_hosts": str(self.folder / "known_hosts"),
                "connect_timeout": 60,
            },
            "profile": PROFILE,
            "gateway": {
                "username": "demo",
                "mode": "paper",
                "password": {"file": str(self.folder / "password")},
                **gateway,
            },
            "caddy": {"names": ["vm.test"]},
            **({"alerts": {"urls": [{"file": str(self.folder / "alerts")}]}} if alerts else {}),
        }
        (self.folder / "stack.yaml").write_text(yaml.safe_dump({"targets": {"vm": target}}))

"""What a bridge is like while it is attacked, asked from a process of its own.

The attacks are threads of the test. Who measured beside them would wait for whichever of them holds
the interpreter, and for the processor that the holder has to wait for: that is not the bridge's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.bridge.rig import ADMIN_KEY, ROOT, BridgeProcess

BETWEEN = 0.02
"""Seconds between two looks."""
BEAT = 0.01


class Watched:
    """The most memory and the slowest answers (seconds) of a bridge under attack."""

    def __init__(self, bridge: BridgeProcess) -> None:
        self.bridge = bridge
        self.most_megabytes = bridge.resident_megabytes()
        self.slowest: dict[str, float] = {}

    @contextmanager
    def attacked(self, *attacks: Callable[[], Any], halt: bool = True) -> Iterator[None]:
        """Runs the attacks in threads, and meanwhile asks and measures."""
        asked = ["/ping", *(["/trading/halt"] if halt else [])]
        watcher = subprocess.Popen(
            [sys.executable, "-m", __name__, self.bridge.url, str(self.bridge.pid), *asked],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert watcher.stdout
        assert watcher.stdout.readline(), "the watcher did not start"
        threads = [threading.Thread(target=attack, daemon=True) for attack in attacks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        out, _ = watcher.communicate()
        assert watcher.returncode == 0
        seen = json.loads(out)
        self.most_megabytes = max(self.most_megabytes, seen["mostMegabytes"])
        for path, seconds in seen["slowest"].items():
            name = path.rpartition("/")[2]
            self.slowest[name] = max(self.slowest.get(name, 0.0), seconds)
        yield


def waited(pid: int, thread: int) -> float:
    """Seconds in which a thread could have run and other programs had the processor."""
    try:
        text = Path(f"/proc/{pid}/task/{thread}/schedstat").read_text()
    except FileNotFoundError:
        return 0.0
    return int(text.split()[1]) / 1e9


class Pauses:
    """Seconds in which the whole machine stood still (its own host had the processor)."""

    def __init__(self) -> None:
        self._seen = 0.0, time.monotonic()  # so late in all, at the last beat
        threading.Thread(target=self._beat, daemon=True).start()

    def seconds(self) -> float:
        """Since the beginning, the present one included."""
        late, last = self._seen
        return late + max(0.0, time.monotonic() - last - 2 * BEAT)

    def _beat(self) -> None:
        own = os.getpid(), threading.get_native_id()
        before = waited(*own)
        while True:
            time.sleep(BEAT)
            (late, last), now, busy = self._seen, time.monotonic(), waited(*own)
            self._seen = late + max(0.0, now - last - 2 * BEAT - (busy - before)), now
            before = busy


class Watcher:
    """Asks again and again; what the machine kept from both sides is not counted."""

    def __init__(self, url: str, pid: int) -> None:
        self._pid = pid
        self._pauses = Pauses()
        self._client = httpx.Client(
            base_url=url, headers={"X-API-KEY": ADMIN_KEY}, timeout=20, trust_env=False
        )
        self.most_megabytes = 0.0
        self.slowest: dict[str, float] = {}

    def look(self, paths: list[str]) -> None:
        """One look at each."""
        for path in paths:
            begun = time.monotonic() - self._kept()
            answer = self._client.get(path) if path == "/ping" else self._client.post(path, json={})
            assert answer.status_code == 200, answer.text
            taken = time.monotonic() - self._kept() - begun
            self.slowest[path] = max(self.slowest.get(path, 0.0), taken)
        self.most_megabytes = max(self.most_megabytes, self._resident_megabytes())

    def _resident_megabytes(self) -> float:
        status = Path(f"/proc/{self._pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def _kept(self) -> float:
        own = waited(os.getpid(), threading.get_native_id())
        return waited(self._pid, self._pid) + own + self._pauses.seconds()


def main(url: str, pid: str, *paths: str) -> None:
    """Watches until stdin ends; says when it has begun, and at the end what it saw."""
    watcher, over = Watcher(url, int(pid)), threading.Event()
    threading.Thread(target=_await_end, args=(over,), daemon=True).start()
    watcher.look(list(paths))
    print("watching", flush=True)
    while not over.wait(BETWEEN):
        watcher.look(list(paths))
    watcher.look(list(paths))
    print(json.dumps({"mostMegabytes": watcher.most_megabytes, "slowest": watcher.slowest}))


def _await_end(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


if __name__ == "__main__":
    main(*sys.argv[1:])

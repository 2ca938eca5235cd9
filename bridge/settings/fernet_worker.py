"""Encrypts and decrypts, in a process of its own that lives for one job.

The `cryptography` package costs 9 MB of memory once it is loaded, on a machine where the whole
bridge has 64; secrets are touched at a start and when settings change, so the cost is paid then
and given back. Run as a script; it imports nothing of the bridge.

In, on stdin, as JSON: `{"operation": "encrypt" | "decrypt" | "rotate", "keys": [...], "inputs":
[...]}`, the newest key first. Out, on stdout: `{"outputs": [...]}`, with null for an input that no
key opens. Inputs and outputs are text: secrets, or Fernet tokens.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Encrypts or decrypts one text from standard input, and ends."""
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet

    job = json.load(sys.stdin)
    cipher = MultiFernet([Fernet(key) for key in job["keys"]])

    def work(text: str) -> str | None:
        try:
            match job["operation"]:
                case "encrypt":
                    return cipher.encrypt(text.encode()).decode()
                case "decrypt":
                    return cipher.decrypt(text.encode()).decode()
                case _:
                    return cipher.rotate(text.encode()).decode()
        except InvalidToken:
            return None

    json.dump({"outputs": [work(text) for text in job["inputs"]]}, sys.stdout)


if __name__ == "__main__":
    main()

"""How long `souq --help` takes, against the peer a user would type instead: `hf --help` of huggingface_hub."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from machine import describe, in_turn

BIN = Path(sys.executable).parent


def main() -> None:
    def helps(name: str) -> object:
        return subprocess.run([BIN / name, "--help"], capture_output=True, check=True)

    helps("souq"), helps("hf")
    ours, theirs, ratio = in_turn(lambda: helps("souq"), lambda: helps("hf"))
    print(
        f"{describe()}\nsouq --help {ours:.3f} s, hf --help {theirs:.3f} s, ratio {ratio:.2f} (goal: souq under 0.4 s)"
    )


if __name__ == "__main__":
    main()

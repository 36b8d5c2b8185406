"""Hugging Face's own clients read a hub: unmodified, with HF_ENDPOINT set, by the answers that they look at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.hubs import NAME

HERE = Path(__file__).parent


def walked(python, site):
    """What each step of tests/hub_steps.py came to, by the client that a Python has."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    env |= {"HF_ENDPOINT": site.url, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": ""}
    words = [python, HERE / "hub_steps.py", NAME, str(site.town.open)]
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_main_is_a_revision_with_the_files_that_export_writes(site):
    facts = site.ask(f"/api/models/{NAME}").json

    assert facts["id"] == NAME
    assert facts["sha"] == site.town.bazaar.main().commit
    assert {"config.json", "model.safetensors", "model.lock", "tokenizer.json"} <= {each["rfilename"] for each in facts["siblings"]}  # fmt: skip


def test_every_step_of_the_client_that_is_installed_here(site):
    """list, look, download, resume, verify, discuss: what was tried, and what passed."""
    outcome, errors = walked(sys.executable, site)

    assert {name: wrong for name, wrong in outcome["steps"].items() if wrong} == {}, errors[-3_000:]
    assert len(outcome["steps"]) == 35

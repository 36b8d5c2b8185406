"""Stories and attacks share one bazaar; git knows nobody but who they say; laws are not timed: machines differ."""

import os
import shutil
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings

pytest_plugins = [
    "tests.annals",
    "tests.bazaar",
    "tests.databases",
    "tests.flooding",
    "tests.kitchen",
    "tests.hubs",
    "tests.servers",
    "tests.wheels",
]
settings.register_profile("souq", deadline=None)
settings.load_profile("souq")

os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
os.environ |= {f"GIT_{role}_NAME": "tests" for role in ("AUTHOR", "COMMITTER")}
os.environ |= {f"GIT_{role}_EMAIL": "tests@souq.example" for role in ("AUTHOR", "COMMITTER")}

os.environ["SOUQ_DEBUG"] = "1"  # a fault of souq's own is shown whole

# Half of a story is files made and synced to the disk: in memory, where there is plenty, nobody waits for one.
MEMORY = "/dev/shm"  # noqa: S108
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 8 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)

if "OMP_NUM_THREADS" in os.environ:  # numba else gives torch, too, a thread a core
    os.environ.setdefault("NUMBA_NUM_THREADS", os.environ["OMP_NUM_THREADS"])

SERVERS = {
    "s3": "server",
    "served": "server",
    "postgres": "server",
    "mergekit": "mergekit",
}  # fixture -> the mark of whoever uses it
NO_SKIPS = "SOUQ_TEST_ALL" in os.environ  # `make test-all`: what was not tested is not passed over


@pytest.hookimpl(tryfirst=True)  # before -m chooses by the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in SERVERS.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(SERVERS[fixture])
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)  # or one would be waited for at the end


def _fail_if_skipped(report: Any, *, allowed: bool = False) -> Any:
    if NO_SKIPS and not allowed and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, where nothing may be: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    return _fail_if_skipped((yield), allowed=item.get_closest_marker("beside") is not None)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    return _fail_if_skipped((yield))

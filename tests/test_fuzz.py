"""Parsers that strangers reach answer every input with a value or with SouqError: a short, seeded round of `make fuzz`."""

import signal
from itertools import islice

import pytest
from fuzz.run import PER_INPUT, inputs
from fuzz.targets import TARGETS

COUNT = {"licence": 40, "release folder": 60, "gguf": 150}


@pytest.fixture
def clock():
    """By the processor's time: how busy the machine is does not count, and pytest-timeout keeps the alarm it uses."""

    def hang(*_):
        raise TimeoutError(f"more than {PER_INPUT} s for one input")

    old = signal.signal(signal.SIGPROF, hang)
    yield lambda: signal.setitimer(signal.ITIMER_PROF, PER_INPUT)
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, old)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_an_answer(name, clock):
    """No crash, no hang, whatever the bytes."""
    target = TARGETS[name]

    for data in islice(inputs(target.seeds(), seed=1), COUNT.get(name, 300)):
        clock()
        target.run(data)


@pytest.mark.parametrize("name", TARGETS)
def test_a_seed_is_taken(name):
    """What is fuzzed begins from inputs that the parser takes: else only the door would be tried."""
    taken = [not isinstance(TARGETS[name].run(data), Exception) for data in TARGETS[name].seeds()]

    assert any(taken) or name in ("stored object", "release folder", "growing")

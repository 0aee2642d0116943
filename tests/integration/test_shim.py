"""The shim of the bootstrap interpreter: what it makes the same in every run."""

import json

import pytest

from pipeline.effects.docker_engine import DockerEngine
from tests.integration.conftest import Project

EPOCH = 1_700_000_000
SCRIPT = """
import json, time, weakref
from rpython.flowspace.model import Block
from rpython.translator.driver import TranslationDriver

class Garbage(object):
    pass

def weakly():
    one, other = Garbage(), Garbage()
    one.other, other.one = other, one
    return weakref.ref(one)

class Driver(TranslationDriver):
    def __init__(self):
        self.seen = []
    def _phase(self):
        self.seen.append(reference() is None)

reference, driver = weakly(), Driver()
driver.log = type("Log", (), {"info": staticmethod(lambda text: None)})
driver.timer = type("Timer", (), {"start_event": lambda *a: None, "end_event": lambda *a: None})()
driver.done = {}
phase = lambda: driver._phase()
phase.task_title, phase.task_idempotent = "phase", False
driver._do("phase", phase)
blocks = [Block([]) for _ in range(100)]
print(json.dumps({
    "now": [int(time.mktime(time.gmtime())), time.gmtime(0)[0]],
    "time runs": time.time() > 1.7e9,
    "in order of creation": sorted(reversed(blocks)) == blocks,
    "garbage is gone before a phase": driver.seen,
}))
"""


@pytest.fixture(scope="module")
def told(fast: Project) -> dict[str, object]:
    """What a script says that the bootstrap interpreter runs with the shim."""
    records = (fast.work / "cache" / "environments").glob("*.json")
    found = [json.loads(path.read_text()) for path in records]
    (image_id,) = (item["image_id"] for item in found if item["name"] == "translate")
    (source,) = (fast.work / "stages" / "source").glob("*/source.tar")
    with DockerEngine("shim").session(image_id) as session:
        session.copy_into(source, "/")
        done = session.call(
            ("pypy", "-c", SCRIPT),
            timeout=300,
            environment={
                "PYTHONPATH": "/build/shim:/build/toolchain",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYPY_USESSION_DIR": "/build/tmp",
                "SOURCE_DATE_EPOCH": str(EPOCH),
                "TZ": "UTC",
            },
        )
    assert done.status == 0, done.last_lines
    told: dict[str, object] = json.loads(done.text.splitlines()[-1])
    return told


def test_the_present_time_is_the_source_s(told: dict[str, object]) -> None:
    assert told["now"] == [EPOCH, 1970]


def test_a_clock_that_measures_still_runs(told: dict[str, object]) -> None:
    assert told["time runs"] is True


def test_blocks_compare_by_the_order_in_which_they_were_made(told: dict[str, object]) -> None:
    assert told["in order of creation"] is True


def test_garbage_is_collected_before_a_phase(told: dict[str, object]) -> None:
    """Or weak references to it would be alive in one translation and dead in the next."""
    assert told["garbage is gone before a phase"] == [True]

"""The shim of the bootstrap interpreter: what it makes the same in every run."""

import json

import pytest

from pipeline.effects.docker_engine import DockerEngine
from tests.integration.conftest import Project

EPOCH = 1_700_000_000
SCRIPT = """
import gc, json, os, sys, time, weakref
from rpython.flowspace.model import Block
from rpython.rlib.jit import JitDriver
from rpython.rlib.rweakref import RWeakValueDictionary
from rpython.rtyper.lltypesystem.rstr import string_repr
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
driver._do("annotate", phase)
blocks = [Block([]) for _ in range(100)]

def module_with(place, class_name):
    package = "/build/tmp"
    for name in place.split(".")[:-1]:
        package += "/" + name
        if not os.path.isdir(package):
            os.mkdir(package)
            open(package + "/__init__.py", "w").close()
    with open("/build/tmp/%s.py" % place.replace(".", "/"), "w") as module:
        module.write("class %s(object):\\n" % class_name)
        module.write("    def __init__(self, space, name):\\n        self.name = name\\n")

module_with("pypy.objspace.std.typeobject", "W_TypeObject")
module_with("pypy.interpreter.pycode", "PyCode")
sys.path.insert(0, "/build/tmp")
from pypy.objspace.std.typeobject import W_TypeObject
from pypy.interpreter.pycode import PyCode

dictionary = RWeakValueDictionary(int, Garbage)
for number in range(100):
    dictionary.set(number, Garbage())
kept = [weakref.ref(cls(None, name=name)) for cls in (W_TypeObject, PyCode) for name in "xyz"]
string_repr.convert_const("nothing uses this")
gc.collect()
print(json.dumps({
    "now": [int(time.mktime(time.gmtime())), time.gmtime(0)[0]],
    "time runs": time.time() > 1.7e9,
    "in order of creation": sorted(reversed(blocks)) == blocks,
    "garbage is gone before annotation": driver.seen,
    "weak values": [dictionary.get(number) is not None for number in range(100)],
    "types and code": [getattr(reference(), "name", None) for reference in kept],
    "strings": "nothing uses this" in string_repr.CACHE,
    "driver": repr(JitDriver(greens=[], reds=["a"], name="toy")),
    "log": os.environ["PYPYLOG"],
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


def test_garbage_is_collected_before_annotation(told: dict[str, object]) -> None:
    """Or weak references to it would be alive in one translation and dead in the next."""
    assert told["garbage is gone before annotation"] == [True]


def test_a_prebuilt_weak_dictionary_keeps_its_values(told: dict[str, object]) -> None:
    """PyPy's interned strings: one that died and was interned again would stand elsewhere."""
    assert told["weak values"] == [True] * 100


def test_types_and_code_live_until_the_translation_is_done(told: dict[str, object]) -> None:
    """Or another type would take the place of a dead one in its base's list of subclasses."""
    assert told["types and code"] == ["x", "y", "z"] * 2


def test_a_string_is_converted_once_also_if_nothing_uses_it(told: dict[str, object]) -> None:
    assert told["strings"] is True


def test_a_jit_driver_shows_its_name_and_no_address(told: dict[str, object]) -> None:
    """It stands in comments of the C code."""
    assert told["driver"] == "<JitDriver toy>"


def test_the_toolchain_is_asked_to_say_which_phase_starts(told: dict[str, object]) -> None:
    """RPython of PyPy 8 is silent about it otherwise."""
    assert told["log"] == "translation-task:-"

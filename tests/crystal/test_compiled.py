"""The cache of compiled functions, where processes compile at the same time or a source changes."""

import contextlib
import subprocess
import sys
import threading
from pathlib import Path

from crystalgan.crystal.kernels import compiled
from crystalgan.crystal.kernels.compiled import _File

SOURCE = """
from crystalgan.crystal.kernels.compiled import compiled
from {callee} import inner

@compiled()
def outer(x):
    return inner(x) + 1
"""
INNER = """
from crystalgan.crystal.kernels.compiled import compiled

@compiled()
def inner(x):
    return x * {factor}
"""


def test_code_of_other_types_is_never_taken_for_its_own(tmp_path, monkeypatch):
    """Two processes save at the same time, and the first one's code is the last to be written."""
    one, other = (_File(str(tmp_path), "f-1.py311", "stamp") for _ in range(2))
    second_is_done, save_data = threading.Event(), _File._save_data

    def slow(self, name, data):
        if self is one:
            second_is_done.wait(10)
        save_data(self, name, data)

    monkeypatch.setattr(_File, "_save_data", slow)
    first = threading.Thread(target=one.save, args=("float32", b"code for float32"))
    first.start()
    other.save("float64", b"code for float64")
    second_is_done.set()
    first.join()
    later = _File(str(tmp_path), "f-1.py311", "stamp")
    assert later.load("float64") in {b"code for float64", None}
    assert later.load("float32") == b"code for float32"
    assert _File(str(tmp_path), "f-1.py311", "newer").load("float32") is None


def test_a_kill_between_code_and_index_leaves_nothing_wrong(tmp_path, monkeypatch):
    file = _File(str(tmp_path), "f-1.py311", "old")
    file.save("float32", b"old code")
    newer = _File(str(tmp_path), "f-1.py311", "new")
    for half in ("_save_data", "_save_index"):
        with monkeypatch.context() as killed:
            killed.setattr(_File, half, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with contextlib.suppress(KeyboardInterrupt):
                newer.save("float32", b"new code")
        assert newer.load("float32") is None


def test_what_calls_a_changed_function_is_compiled_again(tmp_path):
    package = tmp_path / "crystalgan_like"
    package.mkdir()
    outer, inner = package / "outer_kernels.py", package / "inner_kernels.py"
    outer.write_text(SOURCE.format(callee="inner_kernels"))
    script = (
        f"import sys; sys.path.insert(0, {str(package)!r}); import"
        " crystalgan.crystal.kernels.compiled; crystalgan.crystal.kernels.compiled.__file__ ="
        f" {str(package / 'x.py')!r}; from outer_kernels import outer; print(outer(10),"
        " sum(outer.stats.cache_hits.values()))"
    )

    def run():
        environment = {"PYTHONPATH": str(Path(compiled.__file__).parents[3]), "PATH": ""}
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        return tuple(map(int, done.stdout.split()))

    inner.write_text(INNER.format(factor=2))
    assert run() == (21, 0)
    assert run() == (21, 1)  # kept
    inner.write_text(INNER.format(factor=30))
    assert run() == (301, 0)

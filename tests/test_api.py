"""What `crystalgan` exports: visible, documented, and the same for type checkers."""

import ast
import doctest
import inspect
import io
from pathlib import Path

import pytest

import crystalgan
from crystalgan.bars import Bar, reporting, reporting_each, reporting_epochs

STUB = Path(crystalgan.__file__).with_suffix(".pyi")


def test_the_stub_says_the_same():
    said = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in ast.parse(STUB.read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    exported = {name: f"crystalgan.{module}.{name}" for name, module in crystalgan.EXPORTED.items()}
    errors = {name: f"crystalgan.errors.{name}" for name in ("InputError", "Interrupted")}
    assert said == exported | errors


def test_completion_shows_every_name_and_there_is_no_other():
    assert set(crystalgan.__all__) <= set(dir(crystalgan))
    with pytest.raises(AttributeError, match="no attribute 'nothing_of_ours'"):
        _ = crystalgan.nothing_of_ours


@pytest.mark.parametrize("name", crystalgan.EXPORTED)
def test_is_there_with_types_and_an_example(name):
    found = getattr(crystalgan, name)
    assert found.__name__ == name
    text = inspect.getdoc(found)
    assert text.partition("\n")[0].endswith(".")
    assert doctest.DocTestParser().get_examples(text), f"{name} has no example"
    if inspect.isfunction(found):
        signature = inspect.signature(found)
        assert signature.return_annotation is not signature.empty
        assert all(p.annotation is not p.empty for p in signature.parameters.values())


def test_a_run_shows_itself_in_a_line():
    run = crystalgan.open_run(crystalgan.shipped())
    assert repr(run) == "<Run Pd-Ni-H_shipped: crystalgan, Pd-Ni-H, finished>"
    assert "Pd-Ni-H_shipped" in run._repr_html_()


def test_methods_of_a_run_are_the_functions(tmp_path):
    run = crystalgan.open_run(crystalgan.shipped())
    assert run.candidates().equals(crystalgan.candidates_table(run))
    assert run.candidate(3) == crystalgan.load_candidate(run, 3)
    assert run.measure() == crystalgan.measure(run)
    assert run.export(tmp_path / "three.zip", "1,2,3") == 3


def test_trained_runs_have_the_methods(tmp_path):
    config = crystalgan.Config.paper(epochs1=1, epochs2=1)
    run = crystalgan.train("Pd", "Ni", config, tmp_path)
    run.generate(3)
    assert len(run.candidates()) == 3
    again = crystalgan.train_step2(run, config, tmp_path)
    assert [found.folder for found in crystalgan.list_runs(tmp_path)] == [again.folder, run.folder]
    assert isinstance(crystalgan.resume(again), crystalgan.Run)


def drawn(monkeypatch):
    """What bars write."""
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    return out


def test_true_draws_a_bar_on_stderr(monkeypatch):
    out = drawn(monkeypatch)
    report = reporting(True, "cells")
    report(1, 4)
    report(4, 4, "the last")
    assert "cells: 100%" in out.getvalue()
    assert "4/4" in out.getvalue()
    assert "the last" in out.getvalue()


@pytest.mark.parametrize("nothing", [False, None])
def test_false_draws_none(monkeypatch, nothing):
    out = drawn(monkeypatch)
    reporting(nothing, "cells")(1, 4)
    reporting_each(nothing, "cells", 4)("one")
    reporting_epochs(nothing)(1, 1, 4, {})
    assert out.getvalue() == ""


def test_a_function_is_called_itself():
    assert reporting(print, "cells") is print
    assert reporting_each(print, "cells", 3) is print
    assert reporting_epochs(print) is print


def test_things_are_counted(monkeypatch):
    out = drawn(monkeypatch)
    report = reporting_each(True, "trained", 2)
    report("one")
    report("two")
    assert "2/2" in out.getvalue()


def test_each_step_of_a_training_has_a_bar(monkeypatch):
    out = drawn(monkeypatch)
    report = reporting_epochs(True)
    report(1, 2, 2, {"valid": 0.25})
    report(2, 2, 2, {})
    assert "step 1: 100%" in out.getvalue()
    assert "25% keep the rule" in out.getvalue()
    assert "step 2: 100%" in out.getvalue()


def test_a_bar_counts_on_from_what_was_done():
    bar = Bar("cells")
    bar(2, None)
    assert bar.done == 2

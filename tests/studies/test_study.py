"""Table II, ablation and tuning with budgets of a few epochs: what is counted, shared, kept and
refused."""

import json
import subprocess
import time
from dataclasses import fields, replace

import pytest
import torch
from conftest import AUTHORS_DATA, NO_POTENTIAL, WITHOUT_POTENTIAL
from processes import command

from crystalgan.config import Config
from crystalgan.crystal.repair import check
from crystalgan.errors import InputError
from crystalgan.plot.studies import ablation_figure, table2_figure, validity_figure
from crystalgan.runs.folder import Run
from crystalgan.runs.listing import list_runs
from crystalgan.runs.loading import load_model
from crystalgan.runs.training import new_step2, train
from crystalgan.studies import ablation as ablation_module
from crystalgan.studies.ablation import ablation, differences, variants
from crystalgan.studies.stacks import RESULT, load_pair, mean_and_spread, study_folder
from crystalgan.studies.table2 import Table2Result, count, paper_counts, results, table2
from crystalgan.studies.tuning import held_out, suggested, tune

FEW = {"epochs1": 2, "epochs2": 2, "rule": "paper"} | NO_POTENTIAL


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """Table II of Pd-Ni with two seeds of 2 + 2 epochs: the folder of runs, the one of the study in
    it, and the result."""
    root = tmp_path_factory.mktemp("studied")
    (result,) = table2([load_pair("Pd-Ni")], Config(**FEW), 2, root)
    (folder,) = root.glob("table2/*")
    return root, folder, result


def test_counts_are_those_of_the_judge(studied):
    """The count is quick and in bulk; the judge says the same of every cell, one by one."""
    _, folder, result = studied
    (run,) = [run for run in list_runs(folder / "unconstrained") if run.config.seed == 1]
    cells = load_model(run).draw(0, 1).cells
    verdicts = [
        v.passed and bool(c)
        for v, c in zip(check(cells, run.rule), cells.mask.any(-1).all(-1), strict=True)
    ]
    counted = count(run, 100)
    assert counted["good"] == sum(verdicts[:100]) == count(run, 100)["good"] > 0
    assert set(counted) == {"good", "good_1000"}
    assert counted["good_1000"] >= sum(verdicts)
    assert result.samples == sum(len(cells) for cells in run.classes())


def test_every_method_is_counted_alike(studied):
    _, _, result = studied
    assert list(result.methods) == ["gan", "discogan", "unconstrained", "crystalgan"]
    # they hold no ternary cells
    assert result.methods["gan"].per_1000 == result.methods["discogan"].per_1000 == 0
    repaired = result.methods["crystalgan"]
    assert 0 < repaired.raw < repaired.mean <= result.samples
    for found in result.methods.values():
        assert (found.mean, found.std) == pytest.approx(mean_and_spread(found.counts))
        assert 0 <= found.per_1000 <= 1000
        assert len(found.counts) == 2


def test_a_result_shows_itself_and_is_read_from_its_file(studied):
    _, folder, result = studied
    assert repr(result) == f"<Table2Result {result.title}>"
    assert "<td>discogan</td>" in result._repr_html_()
    stored = json.loads((folder / "table2.json").read_text())
    assert Table2Result.of(stored) == result
    # as 0.1.0 named the settings
    old = stored["config"] | {"refine": stored["config"]["repair"]}
    del old["repair"]
    assert Table2Result.of(stored | {"config": old}) == result


def test_methods_share_one_step_1_that_is_their_own(studied, tmp_path, palladium, nickel):
    _, folder, _ = studied
    alone = train(palladium, nickel, Config(**FEW, method="crystalgan", seed=1), tmp_path)
    for step, method in ((1, "discogan"), (1, "unconstrained"), (2, "crystalgan")):
        (run,) = [run for run in list_runs(folder / method) if run.config.seed == 1]
        for name, tensor in alone.load(f"step{step}.safetensors")[0].items():
            torch.testing.assert_close(
                run.load(f"step{step}.safetensors")[0][name], tensor, rtol=1e-3, atol=1e-4
            )


def test_what_is_done_is_not_done_again(studied, monkeypatch):
    root, _, result = studied

    def refuse(*_):
        raise AssertionError("nothing was to be trained")

    monkeypatch.setattr("crystalgan.runs.training.resume_stack", refuse)
    assert table2([load_pair("Pd-Ni")], Config(**FEW), 2, root)[0] == result
    assert results(root) == [result]
    with pytest.raises(AssertionError):
        table2([load_pair("Pd-Ni")], Config(**FEW, width=40), 2, root)


def test_what_was_interrupted_goes_on_from_its_runs(studied, tmp_path):
    """One result is gone, and of the two runs of another method one has not been begun: the counts
    are the same."""
    root, folder, result = studied
    (folder / "unconstrained" / RESULT).unlink()
    (folder / "crystalgan" / RESULT).unlink()
    gone = list_runs(folder / "crystalgan")[0]
    gone.folder.rename(tmp_path / "gone")
    stamps = {
        run.folder: (run.folder / "step2.safetensors").stat().st_mtime_ns
        for run in list_runs(folder / "unconstrained")
    }
    again = table2([load_pair("Pd-Ni")], Config(**FEW), 2, root)[0]
    assert again.methods["unconstrained"] == result.methods["unconstrained"]
    assert again.methods["crystalgan"] == result.methods["crystalgan"]
    assert stamps == {
        folder: (folder / "step2.safetensors").stat().st_mtime_ns for folder in stamps
    }


def test_a_study_of_other_cells_is_another_one(tmp_path):
    (pd, ni), (mg, ti) = load_pair("Pd-Ni"), load_pair("Mg-Ti")
    config = Config()
    folders = {
        study_folder(tmp_path, *classes, config, what)
        for classes in ((pd, ni), (ni, pd), (mg, ti))
        for what in ({"seeds": 2}, {"seeds": 3})
    }
    assert len(folders) == 6
    assert study_folder(tmp_path, *load_pair("Pd-Ni"), Config(), {"seeds": 2}) in folders
    assert study_folder(tmp_path, pd, ni, Config(margin=0.3), {"seeds": 2}) not in folders


def test_step_1_of_discogan_serves_two_steps_and_nothing_serves_a_gan(studied, tmp_path):
    _, folder, _ = studied
    source = list_runs(folder / "discogan")[0]
    run = new_step2(source, Config(**FEW), tmp_path)
    assert Run.open(run.folder).config.method == "crystalgan"
    for other, config in (
        (list_runs(folder / "gan")[0], Config()),
        (source, Config(method="discogan")),
    ):
        with pytest.raises(InputError, match="two steps"):
            new_step2(other, config, tmp_path)


def test_spread_is_the_sample_standard_deviation():
    assert mean_and_spread([1, 3]) == pytest.approx((2, 2**0.5))
    assert mean_and_spread([5]) == (5, 0)


def test_the_papers_counts_belong_to_its_pairs():
    assert (
        paper_counts("Ni-Pd")
        == paper_counts("Pd-Ni")
        == {
            "gan": 0,
            "discogan": 0,
            "unconstrained": 4,
            "crystalgan": 9,
        }
    )
    assert paper_counts("Mg-Ti")["unconstrained"] == 2
    assert paper_counts("Mg-Ni") == {}


def test_text_and_figure_show_ours_and_the_papers(studied):
    _, _, result = studied
    lines = result.lines()
    assert "2 seeds of 2 + 2 epochs, settings of one's own" in lines[0]
    assert "settings default" in replace(result, config=vars(Config())).title
    assert "settings paper" in replace(result, config=vars(Config.paper())).title
    assert lines[1].split()[-1] == "paper"
    assert lines[5].split()[-1] == "9"
    assert "not repaired" in lines[6]
    figure = table2_figure([result, replace(result, pair="Mg-Ni")])
    by_name = {trace.name: list(trace.y) for trace in figure.data}
    assert by_name["paper"] == [0, 0, 4, 9]
    assert by_name["ours"] == [found.mean for found in result.methods.values()]
    assert sum(trace.name == "paper" for trace in figure.data) == 1  # Mg-Ni is not in the paper


def test_validity_is_drawn_for_each_run():
    shares = {
        "valid paper": 40.0,
        "valid learned": 90.0,
        "valid cdvae": 100.0,
        "unique": 80.0,
        "volume": 3.0,
    }
    first, second = validity_figure({"one": shares, "two": shares | {"unique": None}}).data
    assert (first.name, list(first.y)) == ("one", [40, 90, 100, 80])
    assert list(second.y) == [40, 90, 100, None]


def test_presets_differ_in_the_fields_that_an_ablation_varies():
    found = differences()
    same = {one.name for one in fields(Config)} - found.keys()
    assert all(getattr(Config(), name) == getattr(Config.paper(), name) for name in same)
    assert found["repair"] == (Config().repair, 0)
    named = variants(both=True, epochs1=3)
    assert len(named) == 2 + 2 * len(found)
    base = vars(Config(epochs1=3))
    for name, config in named.items():
        changed = {field for field, value in vars(config).items() if base[field] != value}
        if name.startswith("default, "):
            assert changed == {name.removeprefix("default, ").partition("=")[0]}
    assert not any("repair" in name for name in variants(repair=10))


def test_ablation_measures_each_variant_and_tells_of_those_that_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation_module, "CELLS", 20)
    monkeypatch.setattr(ablation_module, "MEASURED", 20)
    configs = {
        "default": Config(**FEW, best_of=1),
        "as made": Config(**FEW, best_of=1, repair=0),
        "too fast": Config.paper(
            epochs1=4, epochs2=30, learning_rate=10, geometric_loss="interval"
        ),
    }
    result = ablation(*load_pair("Pd-Ni"), configs, 2, tmp_path)
    assert list(result.variants) == list(configs)
    default, as_made, too_fast = result.variants.values()
    assert default.mean["paper"] > as_made.mean["paper"] == as_made.mean["raw"]
    assert default.mean["raw"] == as_made.mean["raw"]
    assert default.mean["energy"] < as_made.mean["energy"]
    assert "not finite" in too_fast.error
    assert "too fast" in result.lines()[-1]
    assert result.as_dict()["variants"]["too fast"] == {"error": too_fast.error}
    assert result.table()["variant"].tolist() == list(configs)
    assert list(ablation_figure(result).data[0].y) == ["as made", "default"]


@pytest.mark.slow
def test_processes_find_what_one_finds(studied, tmp_path):
    (again,) = table2([load_pair("Pd-Ni")], Config(**FEW), 2, tmp_path, processes=2)
    for method, found in studied[2].methods.items():
        assert again.methods[method].mean == pytest.approx(found.mean, abs=3)


@pytest.mark.slow
def test_a_terminated_study_leaves_no_process_and_goes_on(tmp_path):
    words = [
        "table2",
        "Pd-Ni",
        "--preset",
        "paper",
        "--seeds",
        "2",
        "--epochs",
        "8",
        "--set",
        "checkpoint_every=2",
        "--runs",
        str(tmp_path),
    ]
    work = command(*words, "--jobs", "2")
    work.wait_until(lambda: list(tmp_path.glob("table2/*/*/*/checkpoint.safetensors")))
    work.process.terminate()
    assert work.wait() == 130
    assert (
        work.stderr.splitlines()[-1] == "crystalgan: stopped; the same command goes on from here."
    )
    deadline = time.monotonic() + 120
    while subprocess.run(["pgrep", "-s", str(work.pid)], capture_output=True, check=False).stdout:
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.1)
    again = command(*words, "--jobs", "1", "--json")
    assert again.wait() == 0
    assert list(json.loads(again.stdout)["Pd-Ni"]) == [
        "gan",
        "discogan",
        "unconstrained",
        "crystalgan",
    ]
    runs = [run for folder in tmp_path.glob("table2/*/*/") for run in list_runs(folder)]
    assert len(runs) == 8
    for run in runs:
        lines = [(line["step"], line["epoch"]) for line in run.metrics()]
        # no epoch twice, whether taken over, resumed or trained at once
        assert lines == sorted(set(lines))
        assert len(lines) == 8 * (1 + (run.config.method in ("unconstrained", "crystalgan")))


def test_every_cell_is_held_out_once():
    for size, folds in ((35, 3), (4, 2)):
        parts = [held_out(size, folds, fold) for fold in range(folds)]
        assert sorted(row for part in parts for row in part) == list(range(size))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_tuning_leaves_alone_what_it_does_not_tune():
    optuna = pytest.importorskip("optuna")
    trial = optuna.trial.FixedTrial(
        dict.fromkeys(vars(Config()), 20) | {"learning_rate": 1e-3, "layers": 2}
    )
    tried = suggested(trial, Config.paper())
    assert (tried.lambda_geo1, tried.width, tried.layers, tried.learning_rate) == (20, 20, 2, 1e-3)
    assert tried.lambda_energy == 0  # as in the paper, which has no such term
    assert (tried.seed, tried.transfer, tried.margin) == (0, "paper", Config.paper().margin)


@pytest.mark.slow
def test_tuning_begins_with_the_settings_it_is_given_and_goes_on(tmp_path):
    pytest.importorskip("optuna")
    pair, seen = load_pair("Pd-Ni"), []
    config = Config(epochs1=1, epochs2=1, width=40, repair=5, **NO_POTENTIAL)
    first = tune(*pair, config, 1, 2, tmp_path, 1, lambda *words: seen.append(words))
    assert first.settings["width"] == 40
    assert first.settings["lambda_geo1"] == config.lambda_geo1
    assert 0 <= first.score <= 1
    assert "--set width=40" in first.words
    both = tune(*pair, config, 2, 2, tmp_path, 1, lambda *words: seen.append(words))
    assert [trials for trials, _ in seen] == [1, 2]
    assert both.score >= first.score
    assert tune(*pair, config, 2, 2, tmp_path) == both
    (left,) = tmp_path.glob("search/*")
    # the runs of a trial are not kept
    assert [path.name for path in left.iterdir()] == ["trials.db"]


def test_json_has_the_form_that_others_read(crystalgan, studied, tmp_path):
    root, _, _ = studied
    words = ("table2", "--pairs", "Pd-Ni", "--seeds", 2, "--epochs", 2, "--jobs", 1, "--runs", root)
    words += WITHOUT_POTENTIAL
    code, out, _ = crystalgan(*words, "--out", tmp_path / "t.html", "--json")
    assert code == 0
    found = json.loads(out)
    assert list(found) == ["Pd-Ni"]
    assert list(found["Pd-Ni"]) == ["gan", "discogan", "unconstrained", "crystalgan"]
    for method, values in found["Pd-Ni"].items():
        assert list(values)[:3] == ["mean", "std", "per_1000"]
        assert set(values) - {"mean", "std", "per_1000"} == (
            {"raw", "raw_per_1000"} if method == "crystalgan" else set()
        )
    assert "Plotly.newPlot" in (tmp_path / "t.html").read_text()
    assert "paper" in crystalgan(*words)[1]


def test_metrics_of_a_run_in_words_and_json(crystalgan, small_run):
    found = json.loads(crystalgan("metrics", small_run.folder, "--json")[1])
    assert found["candidates"] == 40
    lines = crystalgan("metrics", small_run.folder)[1].splitlines()
    assert len(lines) == len(found)
    assert any("Wasserstein" in line and "H-Pd" in line and " Å " in line for line in lines)


@pytest.mark.skipif(not AUTHORS_DATA.exists(), reason="the authors' own cells are not here")
def test_the_authors_files_are_one_pair(crystalgan, tmp_path):
    own = ("--a", AUTHORS_DATA / "PdH_dataset.mat", "--b", AUTHORS_DATA / "NiH_dataset.mat")
    words = ("--seeds", 1, "--epochs", 1, "--jobs", 1, "--runs", tmp_path, "--json")
    words += WITHOUT_POTENTIAL
    code, out, _ = crystalgan("table2", "Pd-Ni", *own, *words)
    assert code == 0
    assert list(json.loads(out)) == ["Pd-Ni"]
    assert results(tmp_path)[0].samples == 70


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("table2", "Pd-Xx"), "Xx"),
        (("table2", "Pd-Pd"), "Pd"),
        (("table2", "Pd"), "'Pd' is no pair"),
        (("table2", "Pd-Ni", "Pd-Ni"), "named twice"),
        (("table2", "Pd-Ni", "--seeds", 0), "0 seeds"),
        (("table2", "Pd-Ni", "--jobs", 0), "0 processes"),
        (("table2", "Pd-Ni", "--preset", "best"), "best"),
        (("table2", "Pd-Ni", "Mg-Ti", "--a", "x"), "one pair"),
        (("table2", "Pd-Ni", "--a", "nowhere"), "nowhere"),
        (("table2", "Pd-Ni", "--rule", "nowhere.toml"), "nowhere.toml"),
        (("ablation", "--pair", "Pd-Pd"), "Pd"),
        (("ablation", "--seeds", 0), "0 seeds"),
        (("ablation", "--set", "wdith=3"), "wdith"),
        (("tune", "--trials", 0), "0 trials"),
        (("search", "--jobs", 0), "0 processes"),
        (("tune", "--folds", 1), "1 folds"),
        (("tune", "--folds", 40), "40 folds"),
        (("metrics", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(crystalgan, tmp_path, words, named):
    runs = ("--runs", tmp_path / "runs") if words[0] != "metrics" else ()
    code, out, err = crystalgan(*words, *runs)
    last = err.strip().splitlines()[-1]
    assert code == 2
    assert named in last
    assert last.startswith("crystalgan: ")
    assert last.endswith(".")
    assert "Traceback" not in err
    assert not out

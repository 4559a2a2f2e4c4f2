"""The loop: exact resume after SIGKILL, stacks of seeds, stopping, and losses that are not
finite."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from conftest import AUTHORS_DATA, NO_POTENTIAL
from processes import Forked

from crystalgan.config import Config
from crystalgan.data.classes import load_class
from crystalgan.errors import InputError, Stopped, TrainingError
from crystalgan.model.batches import Data, shuffled
from crystalgan.runs import training
from crystalgan.runs.folder import Run
from crystalgan.runs.listing import list_runs
from crystalgan.runs.process import stop
from crystalgan.runs.training import new_run, resume, train, train_seeds


def weights(run):
    out = {}
    for step in (1, 2):
        if (run.folder / f"step{step}.safetensors").exists():
            out |= {f"{step}.{k}": v for k, v in run.load(f"step{step}.safetensors")[0].items()}
    return out


def assert_same(a, b):
    mine, other = weights(a), weights(b)
    assert mine.keys() == other.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, other[name]), name
    assert a.metrics() == b.metrics()


@pytest.mark.usefixtures("default_folder")  # whose pair potential is the same one
@pytest.mark.parametrize("preset", [Config, Config.paper])
def test_killed_at_any_point_and_resumed_ends_in_the_same_weights(tmp_path, preset):
    config = preset(epochs1=24, epochs2=18, checkpoint_every=5)
    whole = train("Pd", "Ni", config, tmp_path / "whole")
    run = new_run("Pd", "Ni", config, tmp_path / "killed")
    kills = 0
    # in step 1, between checkpoints, in step 2, at its end
    for epochs_seen in (3, 12, 21, 27, 33, 40):
        worker = Forked(resume, run.folder)
        while worker.poll() is None and count_lines(run) < epochs_seen:
            time.sleep(0.002)
        worker.process.kill()
        kills += worker.wait() == -signal.SIGKILL
        assert Run.open(run.folder).status().state in {"stopped", "finished"}
    assert kills >= 4
    resume(run)
    assert run.status().state == "finished"
    assert_same(run, whole)


def count_lines(run):
    path = run.folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_stop_and_resume(tmp_path, palladium, nickel):
    config = Config(epochs1=6, epochs2=4, **NO_POTENTIAL)
    whole = train(palladium, nickel, config, tmp_path / "whole")
    run = new_run(palladium, nickel, config, tmp_path / "stopped")
    with pytest.raises(Stopped):
        resume(run, lambda step, epoch, *_: stop(run) if (step, epoch) == (1, 3) else None)
    assert run.status().state == "stopped"
    assert run.status().epoch <= 4
    resume(run)
    assert_same(run, whole)
    before = weights(run)
    resume(run)  # a finished run is left as it is
    assert all(torch.equal(v, before[k]) for k, v in weights(run).items())


def test_a_checkpoint_of_other_shapes_is_refused_not_broadcast(tmp_path, palladium, nickel):
    run = new_run(palladium, nickel, Config.paper(epochs1=4, epochs2=2), tmp_path)
    with pytest.raises(Stopped):
        resume(run, lambda step, epoch, *_: stop(run) if (step, epoch) == (1, 2) else None)
    tensors, about = run.load("checkpoint.safetensors")
    tensors["generators.0.exp_avg"] = tensors["generators.0.exp_avg"][:, :1]
    run.save("checkpoint.safetensors", tensors, about)
    with pytest.raises(InputError, match=r"checkpoint\.safetensors: does not fit this run"):
        resume(run)


@pytest.mark.parametrize(
    "settings",
    [Config(epochs1=3, epochs2=1, **NO_POTENTIAL), Config.paper(epochs1=3, epochs2=3)],
    ids=["default", "paper"],
)
def test_a_stack_of_seeds_trains_each_as_alone(tmp_path, palladium, nickel, settings):
    # By default one epoch of step 2: later on rounding decides which neighbour is the first one,
    # and geo2 jumps with it.
    stack = train_seeds(palladium, nickel, settings, [4, 5], tmp_path / "stack")
    alone = train(palladium, nickel, replace(settings, seed=5), tmp_path / "alone")
    for one, other in zip(stack[1].metrics(), alone.metrics(), strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)
    first, mine = (run.load("step1.safetensors")[0] for run in (alone, stack[1]))
    for name, tensor in first.items():
        torch.testing.assert_close(mine[name], tensor, rtol=1e-3, atol=1e-4)
    assert any(not torch.equal(v, weights(stack[0])[k]) for k, v in weights(stack[1]).items())


@pytest.mark.parametrize("method", ["crystalgan", "unconstrained", "discogan", "gan"])
def test_each_method_sums_its_own_terms(tmp_path, palladium, nickel, method):
    run = train(palladium, nickel, Config.paper(method=method, epochs1=1, epochs2=1), tmp_path)
    binary = {
        "adversarial_a",
        "adversarial_b",
        "reconstruction_a",
        "reconstruction_b",
        "discriminator_a",
        "discriminator_b",
    }
    expected = {
        "gan": [{"adversarial_b", "discriminator_b"}],
        "discogan": [binary],
        "unconstrained": [binary, binary | {"valid"}],
        "crystalgan": [binary, binary | {"valid", "geo1", "geo2"}],
    }
    assert [set(line) - {"step", "epoch"} for line in run.metrics()] == expected[method]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_was_there(
    tmp_path, palladium, nickel
):
    config = Config.paper(
        epochs1=4, epochs2=50, learning_rate=10, checkpoint_every=1, geometric_loss="interval"
    )
    run = new_run(palladium, nickel, config, tmp_path)
    with pytest.raises(
        TrainingError, match=r"The loss \w+ of step \d is not finite at epoch \d+"
    ) as error:
        resume(run)
    assert run.status().state == "failed"
    assert run.status().message == str(error.value)
    assert Run.open(run.folder).config == config


@pytest.mark.slow
def test_paper_preset_is_the_papers(tmp_path):
    config = Config.paper()
    assert (config.layers, config.width, config.batch, config.epochs1, config.epochs2) == (
        5,
        100,
        35,
        1000,
        1000,
    )
    assert (config.learning_rate, config.beta1) == (1e-4, 0.5)
    lambdas = [value for name, value in vars(config).items() if name.startswith("lambda_")]
    assert lambdas == [1.0] * 6 + [0.0] * 2  # and nothing that the paper does not have
    source = AUTHORS_DATA / "PdH_dataset.mat"
    pair = (
        (load_class(source, "Pd"), load_class(AUTHORS_DATA / "NiH_dataset.mat", "Ni"))
        if source.exists()
        else ("Pd", "Ni")
    )
    run = train(*pair, Config.paper(epochs1=40, epochs2=40), tmp_path)
    assert len(run.metrics()) == 80


def test_epochs_draw_every_cell_once_before_any_twice(palladium):
    cells = palladium.cells()
    rows = shuffled(7, 17, torch.Generator().manual_seed(0))
    assert sorted(rows[:7].tolist()) == sorted(rows[7:14].tolist()) == list(range(7))
    data = Data(cells[None], cells[None], len(cells), noise=False)
    assert data.updates(35) == -(-len(cells) // 35)
    batches = list(data.batches([torch.Generator().manual_seed(0)], 35))
    assert [start.lattice.shape[:3] for start, _ in batches] == [(1, 2, 35)] * data.updates(35)
    for start, real in batches:  # what domain 0 starts from is what domain 1 is judged against
        assert torch.equal(start.features[:, 0], real.features[:, 1])
        assert torch.equal(start.occupied[:, 1], real.occupied[:, 0])


def test_pairs_that_make_no_ternary_are_refused(tmp_path, palladium, nickel):
    with pytest.raises(InputError, match="Both classes are of Pd"):
        new_run(palladium, palladium, Config(), tmp_path)
    with pytest.raises(InputError, match="share no element"):
        new_run(palladium, nickel, Config(shared="N"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_folder_explains_itself(small_run):
    about = json.loads((small_run.folder / "config.json").read_text())
    assert about["pair"] == ["Pd", "Ni"]
    assert about["classes"]["a"]["cells"] == len(load_class("Pd"))
    assert len(about["classes"]["b"]["sha256"]) == 64
    assert about["rule"]["limits"]["H-H"] == [1.8, 3.0]
    assert Config.of(about["config"]) == small_run.config
    assert list_runs(small_run.folder.parent)[0].folder == small_run.folder


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", "{}"),
        ("classes.safetensors", "broken"),
        ("step2.safetensors", "broken"),
        ("metrics.jsonl", "broken\n"),
        ("candidates.db", "broken" * 1000),
    ],
)
def test_a_damaged_run_folder_is_named(small_run, tmp_path, name, text):
    import shutil

    from crystalgan.runs.candidates import generate

    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    (folder / name).write_text(text)

    def use():
        run = Run.open(folder)
        generate(run, 300)
        run.metrics()

    with pytest.raises(InputError) as error:
        use()
    assert str(folder / name) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_half_written_last_line_of_metrics_is_left_out(small_run):
    path = small_run.folder / "metrics.jsonl"
    whole = small_run.metrics()
    with path.open("a") as file:
        file.write('{"step": 2, "epo')
    assert small_run.metrics() == whole
    small_run.keep_metrics(2, 3)
    assert path.read_text().count("\n") == len(whole) == path.read_text().count("}")


def test_two_processes_cannot_train_one_run(small_run):
    code = (
        "import sys, time, filelock as f; x = f.FileLock(sys.argv[1]); x.acquire(); print('held',"
        " flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(small_run.folder / ".train.lock")]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another process is at work here"):
            training.resume(small_run)
    finally:
        holder.kill()
        holder.wait()

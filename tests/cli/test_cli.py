"""The command line as a user meets it: the whole way, JSON on stdout, and one sentence for what
cannot be used."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from conftest import WITHOUT_POTENTIAL, nearly_symmetric, put_in
from processes import command
from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter
from test_classes import BAD, PD_H, poscar

from crystalgan.data.classes import load_class
from crystalgan.runs.folder import SHIPPED, Run


@pytest.mark.usefixtures("trained_folder")  # whose pair potential is the same one
def test_two_metals_in_a_zip_of_poscars_out(crystalgan, tmp_path):
    words = (
        "train",
        "Pd",
        "Ni",
        "--epochs",
        3,
        "--rule",
        "paper",
        "--seed",
        7,
        "--runs",
        tmp_path,
        "--set",
        "width=40",
        "--json",
    )
    code, out, _ = crystalgan(*words)
    assert code == 0
    trained = json.loads(out)
    assert trained["epochs"] == [3, 3]
    assert trained["seconds"] > 0
    assert json.loads((Path(trained["run"]) / "config.json").read_text())["config"]["width"] == 40
    counts = json.loads(crystalgan("generate", trained["run"], "-n", 30, "--json")[1])
    assert counts["candidates"] == counts["ternary"] == 30
    assert set(counts["passed"]) == {"paper", "learned"}
    code, out, _ = crystalgan(
        "export",
        trained["run"],
        "--out",
        tmp_path / "x.zip",
        "--select",
        "good",
        "--rule",
        "paper",
        "--json",
    )
    assert json.loads(out)["exported"] == counts["passed"]["paper"] > 0
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        structures = [
            Structure.from_str(archive.read(n).decode(), "poscar")
            for n in archive.namelist()
            if n.endswith("vasp")
        ]
    assert len(structures) == counts["passed"]["paper"]
    assert all(set(s.symbol_set) == {"Pd", "Ni", "H"} for s in structures)
    assert json.loads(crystalgan("resume", trained["run"], "--json")[1])["run"] == trained["run"]


def test_candidates_are_compared_with_what_is_known(crystalgan, tmp_path):
    words = ("train", "Pd", "Ni", "--epochs", 2, *WITHOUT_POTENTIAL, "--runs", tmp_path / "runs")
    run = json.loads(crystalgan(*words, "--json")[1])["run"]
    assert json.loads(crystalgan("generate", run, "-n", 5, "--json")[1])["new"] == 5
    crystalgan("export", run, "--out", tmp_path / "all.zip", "--select", "1,2")
    compared = json.loads(crystalgan("novelty", run, "--known", tmp_path / "all.zip", "--json")[1])
    assert (compared["candidates"], compared["new"]) == (5, 3)
    known = compared["known"]
    assert (known["ternary"], known["files"], known["not_compared"]) == (2, ["all.zip"], [])
    (tmp_path / "ti.cif").write_text(str(CifWriter(load_class("Ti").structures[0])))
    out = crystalgan("novelty", run, "--known", tmp_path / "ti.cif")[1]
    assert "5 candidates match no known structure" in out
    assert (
        f"compared with {known['structures'] - 2:,} known structures, 0 of them of all elements"
        in out
    )
    assert "not compared: ti.cif: all of its 1 structures hold other elements (Ti)" in out
    code, _, err = crystalgan("novelty", run, "--known", tmp_path / "none")
    assert (code, len(err.splitlines())) == (2, 1)


def test_a_symmetrized_cell_is_added_once(crystalgan, small_run, tmp_path):
    run = Run(shutil.copytree(small_run.folder, tmp_path / "run"))
    put_in(run, 3, nearly_symmetric()[1])
    words = ("symmetrize", run.folder, 3, "--tolerance", 0.1)
    added = json.loads(crystalgan(*words, "--json")[1])
    assert (added["candidate"], added["known"]["ternary"]) == (41, 0)
    code, out, err = crystalgan(*words)
    assert (code, out) == (2, "")
    assert (
        err
        == "crystalgan: At 0.1 Å the symmetrized cell of candidate 3 is the cell of candidate 41.\n"
    )


def test_the_doctor_draws_and_writes_on_request(crystalgan, tmp_path):
    code, out, _ = crystalgan(
        "check",
        "Pd",
        "--figure",
        tmp_path / "distances.html",
        "--cleaned",
        tmp_path / "well.extxyz",
        "--json",
    )
    assert code == 0
    report = json.loads(out)
    left = json.loads(crystalgan("check", tmp_path / "well.extxyz", "--json")[1])
    assert left["cells"] == report["cells"] - len(report["proposals"])
    assert "Plotly.newPlot" in (tmp_path / "distances.html").read_text()
    assert "types " in crystalgan("check", "Pd")[1]


def test_a_users_own_table_is_target_and_judge(crystalgan, tmp_path):
    table = tmp_path / "mine.toml"
    table.write_text(
        '[limits]\n"H-Pd" = [1.6, 2.4]\n"H-Ni" = [1.5, 2.3]\n"Ni-Pd" = [2.4, 3.2]\n"Pd-Pd" = [2.4,'
        " 3.2]\n"
    )
    words = ("train", "Pd", "Ni", "--epochs", 2, "--rule", table, *WITHOUT_POTENTIAL)
    run = json.loads(crystalgan(*words, "--runs", tmp_path, "--json")[1])["run"]
    table.unlink()  # the run keeps its own copy
    counts = json.loads(crystalgan("generate", run, "-n", 20, "--json")[1])
    assert counts["passed"]["mine"] >= 15
    assert counts["passed_before_repair"]["mine"] <= counts["passed"]["mine"]


def test_classes_and_check(crystalgan, tmp_path):
    table = json.loads(crystalgan("classes", "--json")[1])["classes"]
    assert {row["metal"] for row in table} >= {"Pd", "Ni", "Mg", "Ti"}
    assert all(row["cells"] >= 15 and "CHGNet" in row["source"] for row in table)
    report = json.loads(crystalgan("check", "Ti", "--json")[1])
    assert (report["metal"], report["duplicates"], report["left_out"]) == ("Ti", [], [])
    (tmp_path / "cut.vasp").write_text(BAD["cut.vasp"][0])
    (tmp_path / "good.vasp").write_text(poscar(PD_H))
    code, out, _ = crystalgan("check", tmp_path)
    assert code == 0
    assert "cut short at line 9" in out
    (tmp_path / "good.vasp").unlink()
    assert crystalgan("check", tmp_path)[0] == 2


def test_every_command_has_help(crystalgan):
    code, out, _ = crystalgan("--help")
    assert code == 0
    for name in (
        "classes",
        "check",
        "fetch",
        "train",
        "resume",
        "generate",
        "relax",
        "stability",
        "export",
        "build-classes",
        "table2",
        "ablation",
        "tune",
        "benchmark",
        "rediscover",
        "metrics",
    ):
        assert name in out
        assert crystalgan(name, "--help")[0] == 0


def bad_inputs(tmp_path, run):
    """Name -> (command line, file or word that the sentence must name)."""
    empty, one = tmp_path / "empty", tmp_path / "one"
    empty.mkdir()
    one.mkdir()
    (one / "only.vasp").write_text(poscar(PD_H))
    shipped = shutil.copytree(SHIPPED / "Pd-Ni-H_shipped", tmp_path / "shipped")
    cases = {
        "empty folder": (("train", "Pd", "Ni", "--a", empty), str(empty)),
        "one cell": (("train", "Pd", "Ni", "--a", one), str(one)),
        "unknown element": (("train", "Xx", "Ni"), "Xx"),
        "unknown setting": (("train", "Pd", "Ni", "--set", "wdith=3"), "wdith"),
        "setting without value": (("train", "Pd", "Ni", "--set", "width"), "--set width"),
        "unknown preset": (("train", "Pd", "Ni", "--preset", "best"), "best"),
        "unknown rule": (
            ("train", "Pd", "Ni", "--rule", tmp_path / "no.toml"),
            str(tmp_path / "no.toml"),
        ),
        "the same metal": (("train", "Pd", "Pd"), "Pd"),
        "no run": (("generate", tmp_path / "nothing"), str(tmp_path / "nothing")),
        "not a run": (("resume", empty), str(empty / "config.json")),
        "damaged run": (("generate", run), str(run / "config.json")),
        "nothing relaxed": (("stability", shipped), "nothing is relaxed with CHGNet"),
        "a potential of no name": (("relax", shipped, "--potential", "chgnett"), "chgnett"),
        "rattled and symmetric": (("relax", shipped, "--rattle", "--symmetry"), "--rattle"),
        "no time to relax": (("relax", shipped, "--seconds", "0"), "0 seconds"),
        "not an element to build": (("build-classes", "Pdd"), "Pdd"),
    }
    for name in ("cut.vasp", "partial.cif", "nohydrogen.vasp", "metals.vasp"):
        folder = tmp_path / name.split(".")[0]
        folder.mkdir()
        content = BAD[name][0]
        (folder / name).write_text(content)
        (folder / "good.vasp").write_text(poscar(PD_H))
        cases[name] = (("train", "Pd", "Ni", "--a", folder), name)
    two = tmp_path / "two"
    two.mkdir()
    for i in range(2):
        (two / f"{i}.vasp").write_text(BAD["metals.vasp"][0])
    cases["two metals in every cell"] = (
        ("train", "Pd", "Ni", "--a", two),
        "two: holds 2 cells of H-Ni-Pd (2 metals)",
    )
    cases["a class of the other metal"] = (
        ("train", "Ni", "Pd", "--a", one),
        "holds 1 cell of H-Pd (not of Ni)",
    )
    climbing = tmp_path / "climbs.zip"
    with zipfile.ZipFile(climbing, "w") as archive:
        archive.writestr("../x", poscar(PD_H))
    cases["zip that climbs"] = (("train", "Pd", "Ni", "--a", climbing), str(climbing))
    return cases


def test_bad_input_is_one_sentence_and_exit_code_2(crystalgan, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"pair": ')
    runs = tmp_path / "runs"
    for name, (words, named) in bad_inputs(tmp_path, run).items():
        words = (*words, "--runs", runs) if words[0] == "train" else words  # noqa: PLW2901
        code, out, err = crystalgan(*words)
        last = err.strip().splitlines()[-1]
        assert code == 2, name
        assert named in last, (name, last)
        assert last.startswith("crystalgan: "), name
        assert last.endswith("."), last
        assert "Traceback" not in err, name
        assert not out, name
    assert not runs.exists() or not list(runs.iterdir())


def odd_words(tmp_path):
    """Name -> (command line, words that the sentence must hold)."""
    run, long, two_lines = tmp_path / "run", "x" * 300, "two\nlines"
    huge, rule = 10**23, tmp_path / "folder"
    train, export = ("train", "Pd", "Ni", "--runs", tmp_path / "runs"), ("export", run, "--out")
    race = ("race", "Pd", "Ni", "--runs", tmp_path / "runs")
    return {
        "seed below zero": (("generate", run, "--seed", -1), "seed -1"),
        "seed too large": (("generate", run, "--seed", 2**63), "seed 9223372036854775808"),
        "seed of a training": ((*train, "--seed", -1), "seed"),
        "seed of a training too large": ((*train, "--set", f"seed={huge}"), str(huge)),
        "no candidates": (("generate", run, "-n", 0), "0 candidates"),
        "candidates below zero": (("generate", run, "-n", -5), "-5 candidates"),
        "too many candidates": (("generate", run, "-n", huge), str(huge)),
        "a number in words": (("generate", run, "-n", "many"), "-n"),
        "a run without a name": (("generate", ""), "RUN"),
        "a run that is a file": (("generate", run / "config.json"), "is a file"),
        "a run with a long name": (("generate", long), long),
        "a run of two lines": (("generate", two_lines), "there is no such run folder"),
        "a device for a run": (("generate", os.devnull), "there is no such run folder"),
        "a zip that is a folder": ((*export, "."), "it is a folder"),
        "a zip without a name": ((*export, ""), "--out"),
        "the root as zip": ((*export, "/"), "it is a folder"),
        "a device as zip": ((*export, os.devnull), "device"),
        "a zip with a long name": ((*export, tmp_path / long), "too long"),
        "ids in superscript": ((*export, tmp_path / "x.zip", "--select", "²"), "selects nothing"),
        "an id too large": (
            (*export, tmp_path / "x.zip", "--select", "9" * 5000),
            "holds no candidate 999",
        ),
        "an id below zero": ((*export, tmp_path / "x.zip", "--select", "-1"), "selects nothing"),
        "no id": ((*export, tmp_path / "x.zip", "--select", ""), "selects nothing"),
        "refined: too large": (("symmetrize", run, huge), f"holds no candidate {huge}"),
        "refined: below zero": (("symmetrize", run, "--", -1), "holds no candidate -1"),
        "refined: superscript": (("symmetrize", run, "²"), "ID"),
        "tolerance nan": (("symmetrize", run, 1, "--tolerance", "nan"), "tolerance nan"),
        "tolerance below zero": (("symmetrize", run, 1, "--tolerance", -1), "tolerance -1"),
        "tolerance too large": (("symmetrize", run, 1, "--tolerance", 1e9), "tolerance 1e+09"),
        "raise symmetry nan": (("relax", run, "--raise-symmetry", "nan"), "tolerance nan"),
        "steps below zero": (("relax", run, "--steps", -1), "-1 steps"),
        "seconds nan": (("relax", run, "--seconds", "nan"), "nan seconds"),
        "no jobs": (("relax", run, "--select", "1", "--jobs", 0), "0 processes"),
        "too many jobs": (("relax", run, "--select", "1", "--jobs", 10**6), "1000000 processes"),
        "rule that is a folder": ((*train, "--rule", rule), str(rule)),
        "rule without a name": ((*train, "--rule", ""), "rule"),
        "width too large": ((*train, "--set", f"width={huge}"), "width"),
        "epochs too many": ((*train, "--epochs", huge), "epochs"),
        "own cells without a name": ((*train, "--a", ""), "--a"),
        "runs below a file": (
            ("train", "Pd", "Ni", "--runs", run / "config.json" / "runs"),
            "config.json",
        ),
        "minutes nan": ((*race, "--minutes", "nan"), "nan minutes"),
        "minutes without end": ((*race, "--minutes", "inf"), "inf minutes"),
        "minutes below zero": ((*race, "--minutes", -1), "-1 minutes"),
        "no seeds": (("table2", "Pd-Ni", "--seeds", 0), "0 seeds"),
        "too many seeds": (("ablation", "--seeds", huge), f"{huge} seeds"),
        "no processes": (
            ("table2", "Pd-Ni", "--jobs", 0, "--runs", tmp_path / "runs"),
            "0 processes",
        ),
        "a figure that is a folder": (("check", "Ni", "--figure", "."), "it is a folder"),
        "a table's figure that is a folder": (
            ("table2", "Pd-Ni", "--out", tmp_path),
            "it is a folder",
        ),
        "no such option": (("classes", "--nonsense"), "--nonsense"),
    }


def test_odd_words_are_one_sentence_and_exit_code_2(crystalgan, tmp_path):
    shutil.copytree(SHIPPED / "Pd-Ni-H_shipped", tmp_path / "run")
    (tmp_path / "folder").mkdir()
    for name, (words, named) in odd_words(tmp_path).items():
        code, out, err = crystalgan(*words)
        said = err.replace("\r", "\n").strip()[-900:]
        assert (code, out) == (2, ""), (name, said)
        assert said.count("crystalgan: ") == 1, (name, said)
        assert named in said.partition("crystalgan: ")[2], (name, said)
        assert said.endswith("."), (name, said)
        assert "Traceback" not in err, name
    assert not (tmp_path / "runs").exists()


def test_any_encoding_of_the_terminal_will_do(tmp_path):
    """A real process, whose stdout cannot write Å, into a pipe that nobody reads to its end."""
    start = [sys.executable, "-m", "crystalgan"]
    for k in range(2):
        (tmp_path / f"{k}.vasp").write_text(poscar(PD_H).replace("1.0", f"1.{k}", 1))
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    answer = subprocess.run(
        [*start, "check", tmp_path], capture_output=True, check=False, env=environment
    )
    assert (answer.returncode, answer.stderr) == (0, b"")
    assert b" A in " in answer.stdout
    with subprocess.Popen(
        [*start, "classes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    with open("/dev/full", "w") as full:
        answer = subprocess.run(
            [*start, "classes"], stdout=full, stderr=subprocess.PIPE, check=False, text=True
        )
    assert (answer.returncode, len(answer.stderr.splitlines())) == (2, 1)
    assert "the disk is full" in answer.stderr


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_work_that_is_stopped_says_what_is_kept(tmp_path, name):
    """A real process with its workers, as Ctrl-C in a terminal reaches them: all at once."""
    from crystalgan.runs.database import open_database
    from crystalgan.stability.relaxations import relaxed_rows

    run = Run(shutil.copytree(SHIPPED / "Pd-Ni-H_shipped", tmp_path / "run"))
    relax = (
        "relax",
        run.folder,
        "--select",
        "all",
        "--potential",
        "ase.calculators.emt.EMT",
        "--steps",
        "1",
        "--jobs",
        "2",
    )
    generate = ("generate", run.folder, "-n", "100000", "--seed", "1")
    said, kept = (
        (
            _stopped(relax, name, lambda: len(relaxed_rows(run)) > 2),
            r"what was relaxed is kept; the same command goes on with",
        )
        if name == signal.SIGINT
        else (
            _stopped(generate, name, lambda: open_database(run).count(seed=1)),
            r"(\d+) candidates of seed 1 are kept; the same",
        )
    )
    last = said.replace("\r", "\n").strip().splitlines()[-1]
    found = re.match(rf"crystalgan: stopped; {kept}", last)
    assert found, said
    assert "Traceback" not in said
    if found.groups():
        assert int(found[1]) == open_database(run).count(seed=1) > 0


def _stopped(words, name, begun):
    """What a command says that gets a signal, together with all its processes, once it has
    begun."""
    process = command(*words)
    process.wait_until(begun)
    (os.killpg if name == signal.SIGINT else os.kill)(process.pid, name)
    assert process.wait() == 130, process.stderr
    return process.stderr


@pytest.mark.slow
def test_relaxed_candidates_and_their_hull(crystalgan, tmp_path):
    run = shutil.copytree(SHIPPED / "Pd-Ni-H_shipped", tmp_path / "run")
    code, out, err = crystalgan(
        "relax", run, "--select", "3,6", "--batch", "2", "--seconds", "300", "--json"
    )
    assert (code, json.loads(out)) == (0, {"relaxed": 2, "converged": 2, "failed": 0})
    assert "3: converged" in err
    assert "--batch does nothing any more and will go; use --jobs." in err
    rows = json.loads(crystalgan("stability", run, "--json")[1])["candidates"]
    assert {one["id"] for one in rows} == {3, 6}
    row = next(one for one in rows if one["id"] == 3)
    assert (row["id"], row["state"], row["potential"]) == (3, "converged", "CHGNet")
    assert 0 < row["above_hull"] < 0.1
    assert "eV/atom above hull" in crystalgan("stability", run)[1]


@pytest.mark.slow
def test_a_terminated_worker_says_so_and_resumes(tmp_path):
    """A real process, as the app starts it."""
    from crystalgan.config import Config
    from crystalgan.runs.process import start
    from crystalgan.runs.training import new_run

    run = new_run("Pd", "Ni", Config(epochs1=2000, epochs2=2, checkpoint_every=5), tmp_path)
    start(run)
    deadline = time.monotonic() + 300
    while (run.status().epoch or 0) < 10 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert run.status().state == "running"
    pid = subprocess.run(
        ["pgrep", "-f", f"crystalgan resume {run.folder}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    os.kill(int(pid.split()[0]), 15)
    while "stopped" not in (run.folder / "worker.log").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert run.status().state == "stopped"
    assert "stopped; `crystalgan resume` goes on" in (run.folder / "worker.log").read_text()
    _, header = run.load("checkpoint.safetensors")
    assert header["epoch"] == run.metrics()[-1]["epoch"] >= 10


def test_import_is_quick():
    code = (
        "import sys, time; t = time.perf_counter(); import crystalgan; print(time.perf_counter() -"
        " t); print([m for m in ('torch', 'pymatgen', 'numpy', 'streamlit') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert float(out[0]) < 0.5
    assert out[1] == "[]"


def test_a_run_is_about_to_be_trained_as_soon_as_it_is_named(tmp_path):
    """Whoever waits for the folder's name, as the app does, must not read that the run has not been
    started."""
    words = [sys.executable, "-m", "crystalgan", "train", "Pd", "Ni", "--runs", str(tmp_path)]
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        named = next(line for line in process.stderr if line.startswith("run folder: "))
        process.send_signal(signal.SIGSTOP)
        state = json.loads(
            (Path(named.removeprefix("run folder: ").strip()) / "status.json").read_text()
        )["state"]
        process.kill()
    assert state in {"starting", "running"}


def test_a_stop_that_comes_while_compiled_code_runs_is_a_stop():
    """Python hands a signal's exception to compiled code, which makes a SystemError of it."""
    from crystalgan.cli.common import keeping
    from crystalgan.errors import Interrupted

    made = SystemError("returned a result with an exception set")
    made.__cause__ = Interrupted()
    with (
        pytest.raises(Interrupted, match="what was made is kept"),
        keeping(lambda: "what was made is kept"),
    ):
        raise made
    with pytest.raises(SystemError, match="of another kind"), keeping(lambda: ""):
        raise SystemError("of another kind")


def test_the_old_name_of_an_option_is_said_and_taken(crystalgan, monkeypatch):
    from crystalgan.stability.relaxations import Relaxations

    given = []

    def relax(*arguments):
        given.extend(arguments)
        return Relaxations(1, 1, 0)

    monkeypatch.setattr("crystalgan.stability.relaxations.relax_candidates", relax)
    code, out, err = crystalgan("relax", SHIPPED / "Pd-Ni-H_shipped", "--refine", "0.3", "--json")
    assert (code, json.loads(out)) == (0, {"relaxed": 1, "converged": 1, "failed": 0})
    assert "--refine is called --raise-symmetry now; the old name will go." in err
    assert 0.3 in given

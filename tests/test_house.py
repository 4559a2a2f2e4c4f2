"""The order of the packages, no circles between modules, and what `import crystalgan` brings in."""

import subprocess
import sys
from pathlib import Path

import grimp
import networkx
import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).resolve().parents[1]
HEAVY = "torch", "pymatgen", "pandas", "numba", "scipy", "plotly", "streamlit", "ase"


@pytest.fixture(scope="module")
def imports():
    """Every import between our modules, those in functions and for the type checker included."""
    return grimp.build_graph("crystalgan", "ui", cache_dir=None)


def circles(graph):
    arrows = networkx.DiGraph(
        (module, other)
        for module in graph.modules
        for other in graph.find_modules_directly_imported_by(module)
    )
    return [sorted(c) for c in networkx.strongly_connected_components(arrows) if len(c) > 1]


def test_packages_import_what_is_below_them(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    status = lint_imports(no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_no_circles(imports):
    assert circles(imports) == []


def test_a_circle_would_be_found():
    changed = grimp.build_graph("crystalgan", cache_dir=None)
    changed.add_import(importer="crystalgan.errors", imported="crystalgan.cli.common")
    assert {"crystalgan.cli.common", "crystalgan.errors"} <= {
        name for circle in circles(changed) for name in circle
    }


def loaded_by(code):
    """Which heavy libraries a fresh process holds after this."""
    looked = f"{code}\nimport sys\nprint(*sorted({set(HEAVY)!r} & set(sys.modules)))"
    return subprocess.run(
        [sys.executable, "-c", looked], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()


def test_import_is_light():
    assert loaded_by("import crystalgan; dir(crystalgan); crystalgan.Config()") == []


def test_the_shell_is_light():
    assert loaded_by("from crystalgan.__main__ import _app; _app()") == []


def test_the_app_needs_no_tensors():
    modules = sorted(path.stem for path in (ROOT / "ui").glob("*.py"))
    found = loaded_by("\n".join(f"import ui.{name}" for name in modules))
    assert "torch" not in found
    assert "numba" not in found

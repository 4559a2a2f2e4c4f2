"""The notebook runs from top to bottom and shows what it promises."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from crystalgan import load_class

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_is_a_notebook():
    assert NOTEBOOKS[0].name == "01-first-ternaries.ipynb"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_outputs(path):
    cells = nbformat.read(path, 4).cells
    assert all(
        cell.outputs == [] and cell.execution_count is None
        for cell in cells
        if cell.cell_type == "code"
    )


@pytest.mark.slow
def test_first_ternaries_runs(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOKS[0], 4)
    NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    ).execute()
    outputs = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    data = [output.data for output in outputs if "data" in output]
    printed = "".join(
        output.text
        for output in outputs
        if output.output_type == "stream" and output.name == "stdout"
    )
    figures = [
        d["application/vnd.plotly.v1+json"] for d in data if "application/vnd.plotly.v1+json" in d
    ]
    losses, cell = figures
    assert {"geo1", "geo2", "discriminator A"} <= {trace["name"] for trace in losses["data"]}
    atoms = [trace["name"] for trace in cell["data"] if trace.get("mode") == "markers"]
    assert set(atoms) == {"H", "Pd", "Ni"}
    assert f"Pd-H: {len(load_class('Pd'))} cells" in printed
    assert any("Generated(100 candidates" in d.get("text/plain", "") for d in data)
    assert any("passed_learned" in d.get("text/html", "") for d in data)
    assert ".POSCAR.vasp" in data[-1]["text/plain"]

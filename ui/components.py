"""Our four small Streamlit components: the cell in 3D, a figure that keeps its zoom while it grows,
the periodic table, the keys.

Their pages are in `ui/frontend`. What they show with comes from packages that are installed anyway
(crystal-toolkit's React component, React, plotly): those files are linked beside the pages in a
cache folder, so that nothing is fetched from elsewhere.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import streamlit as st

# the public name is the same function
from streamlit.components.v1.components import declare_component

from crystalgan import resources
from crystalgan.storage import appear, hidden_folder, may

if TYPE_CHECKING:
    from collections.abc import Callable


FRONTEND = Path(__file__).parent / "frontend"
LIBRARIES = {
    "viewer": {
        "dash_mp_components.min.js": ("dash_mp_components", "dash_mp_components.min.js"),
        "react.js": ("dash", "deps/react@18.3.1.min.js"),
        "react-dom.js": ("dash", "deps/react-dom@18.3.1.min.js"),
        "prop-types.js": ("dash", "deps/prop-types@15.8.1.min.js"),
    },
    "chart": {"plotly.min.js": ("plotly", "package_data/plotly.min.js")},
    "elements": {},
    "keys": {},
}


def _package_file(package: str, name: str) -> Path:
    """A file of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None, package
    return Path(spec.origin).parent / name


def cache_folder() -> Path:
    """Where the components' files are put together: `$XDG_CACHE_HOME/crystalgan`, or else a
    temporary folder of this process, which goes when it ends."""
    try:
        wanted = resources.cache_folder()
        wanted.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home folder, or none that may be written
        return Path(_temporary().name)
    return wanted if may(wanted, os.W_OK | os.X_OK) else Path(_temporary().name)


@cache
def _temporary() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="crystalgan-")


def assemble(name: str, root: Path) -> Path:
    """The folder of one component below `root`, complete; named by its contents, so that versions
    do not meet."""
    files = {
        path.name: path for path in (FRONTEND / name / "index.html", FRONTEND / "streamlit.js")
    }
    files |= {target: _package_file(*source) for target, source in LIBRARIES[name].items()}
    digest = hashlib.sha256()
    for target, path in sorted(files.items()):
        digest.update(f"{target} {path} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    folder = root / f"{name}-{digest.hexdigest()[:12]}"
    if not folder.exists():
        with hidden_folder(root, "set XDG_CACHE_HOME") as partial:
            for target, path in files.items():
                shutil.copyfile(path, partial / target)
            with suppress(FileExistsError):  # another process was quicker
                appear(partial, folder)
    return folder


@st.cache_resource(show_spinner=False)
def _component(name: str) -> Callable[..., Any]:
    return declare_component(f"crystalgan_{name}", path=str(assemble(name, cache_folder())))


def viewer(
    scene: dict[str, Any],
    legend: list[dict[str, str]],
    axes: dict[str, str],
    identity: str,
    *,
    name: str,
    key: str,
    note: str = "",
    label: str = "Cell in 3D",
    height: int = 420,
) -> int | None:
    """A cell in 3D; returns the number of the atom that was clicked in it last.

    `identity` names the cell: a click on another one counts no more. `name` is that of a saved
    picture.
    """
    clicked = _component("viewer")(
        scene=scene,
        legend=legend,
        axes=axes,
        identity=identity,
        name=name,
        note=note,
        label=label,
        height=height,
        detail=24,
        key=key,
        default=None,
    )
    return clicked["atom"] if clicked and clicked.get("identity") == identity else None


def chart(figure: str, key: str, label: str, height: int = 330, revision: str = "") -> None:
    """A plotly figure (its JSON) whose zoom and hidden curves survive new data, as long as
    `revision` stays."""
    _component("chart")(
        figure=figure, label=label, height=height, revision=revision or key, key=key, default=None
    )


def elements(
    cells: list[dict[str, Any]], a: str | None, b: str | None, key: str
) -> dict[str, str] | None:
    """The periodic table; returns the last click, `symbol` and a `click` that differs each time."""
    clicked: dict[str, str] | None = _component("elements")(
        elements=cells, a=a, b=b, key=key, default=None
    )
    return clicked


def keys(at: dict[str, Any], done: dict[str, int], on_change: Callable[[], None], key: str) -> None:
    """What the keys and buttons of the vetting bar are about, `at`; the acts come back as the
    session state's `key`.

    Its value is `{"nonce": ..., "events": [...]}`: the acts of this browser that `done` (the last
    one by nonce) does not cover.
    """
    _component("keys")(**at, done=done, key=key, default=None, on_change=on_change)

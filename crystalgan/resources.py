"""Files that come along with the package: classes, a trained run, the app; in a checkout and in an
installed wheel alike."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def resource(name: str = "") -> Path:
    """The path of a file or folder of the project by its place in the repository: `assets/classes`,
    `app.py`, `pages`.

    An installed wheel keeps them below `crystalgan/bundle`; a checkout has them beside the package.

    >>> resource("assets/classes").is_dir()
    True
    """
    bundle = PACKAGE / "bundle"
    return (bundle if bundle.is_dir() else PACKAGE.parent) / name


def cache_folder() -> Path:
    """Return the folder of what may be had again: `crystalgan` in the user's cache.

    That is below XDG_CACHE_HOME or ~/.cache: answers of databases and fitted pair potentials.

    >>> cache_folder().name
    'crystalgan'
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crystalgan"

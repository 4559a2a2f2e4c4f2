"""Cells from databases, kept on disk as extended XYZ: to learn from, or to compare with.

A chemical system is a set of elements, and a structure belongs to it when it holds all of them and
no other. Nothing that comes is dropped silently: what cannot be used is counted with its reason.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crystalgan.data.asking import Record, Unusable, plain
from crystalgan.data.cell_checks import cell_problem
from crystalgan.data.providers import ask, base_url
from crystalgan.data.readers import LeftOut
from crystalgan.errors import InputError
from crystalgan.resources import cache_folder
from crystalgan.storage import saying, write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from crystalgan.data.asking import Progress

ELSEWHERE = "choose another place with --cache"
MAX_ATOMS = 100  # in one cell


@dataclass(frozen=True, repr=False)
class Fetched:
    """What a provider gave for one chemical system; `load_class` reads the file at `path`."""

    path: Path
    system: str  # such as H-Pd
    provider: str
    licence: str
    url: str  # what was asked
    retrieved: str  # ISO 8601, UTC
    structures: int  # in the file
    left_out: tuple[LeftOut, ...]
    cached: bool = False  # taken from the disk

    def __repr__(self) -> str:
        left_out = f", {len(self.left_out)} left out" if self.left_out else ""
        return f"{self.structures} structures of {self.system} from {self.provider}{left_out}"

    def _repr_html_(self) -> str:
        about = f"{self!r}; licence {self.licence}; {self.retrieved}; file {self.path}"
        return escape(about)

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self) | {"path": str(self.path)}


def fetch(
    elements: Sequence[str],
    source: str,
    cache: Path | str | None = None,
    refresh: bool = False,
    max_atoms: int = MAX_ATOMS,
    api_key: str | None = None,
    progress: Progress | None = None,
) -> Fetched:
    """Fetch all structures of exactly these elements into one extended XYZ file in the cache.

    `source` is the short name (`mp`, `oqmd`, `alexandria`, `cod`, ...) or the base URL of an
    OPTIMADE provider, or `mp-api` for the Materials Project's own service, which takes `api_key` or
    the environment variable MP_API_KEY. `cache` is a folder, `cache_folder()` unless given; a
    second call answers from it without network, and `refresh` asks anew. `progress` hears how many
    structures came and how many were announced. Raises InputError when the provider cannot be
    reached or gives no usable answer; the cache is then as it was.

    >>> fetch(["Pd", "H"], "oqmd")  # doctest: +SKIP
    12 structures of H-Pd from OQMD, 2 left out
    """
    symbols, url = _sorted_symbols(elements), base_url(source)
    place = f"{urlsplit(url).hostname}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    path = (
        Path(cache or cache_folder()) / place / f"{'-'.join(symbols)}_upto{max_atoms}atoms.extxyz"
    )
    if not refresh and (known := _from_cache(path)):
        return known
    answer = ask(source, symbols, api_key, progress or (lambda *_: None))
    retrieved = datetime.now(UTC).isoformat(timespec="seconds")
    images, left_out = [], []
    for record in answer.records:
        try:
            atoms = _atoms(record, symbols, max_atoms)
        except Unusable as error:
            left_out.append(LeftOut(plain(record.identifier), plain(error)))
            continue
        about = {
            "id": f"{answer.prefix}:{record.identifier}",
            "provider": answer.provider,
            "licence": record.licence,
            "url": record.url,
            "retrieved": retrieved,
        }
        atoms.info = {key: plain(value) for key, value in about.items()}
        images.append(atoms)
    if answer.announced is not None and answer.announced > len(answer.records):
        left_out.append(
            LeftOut(url, f"announced {answer.announced} structures and gave {len(answer.records)}")
        )
    fetched = Fetched(
        path,
        "-".join(symbols),
        answer.provider,
        answer.licence,
        url,
        retrieved,
        len(images),
        tuple(left_out),
    )
    _into_cache(fetched, images)
    return fetched


def _sorted_symbols(elements: Sequence[str]) -> list[str]:
    from pymatgen.core import Element

    for symbol in elements:
        if not Element.is_valid_symbol(symbol):
            raise InputError(f"{symbol}: not a chemical element; give symbols such as Pd H.")
    if not elements:
        raise InputError("No elements to ask for; give symbols such as Pd H.")
    return sorted(set(elements))


def _atoms(record: Record, symbols: list[str], max_atoms: int) -> Atoms:
    try:
        structure = record.make(record.raw)
        reason, held = cell_problem(structure), sorted(structure.symbol_set)
        if not reason and len(structure) > max_atoms:
            reason = f"has {len(structure)} atoms, more than {max_atoms}"
        if not reason and held != symbols:
            reason = f"holds {', '.join(held)} where {', '.join(symbols)} were asked for"
        if not reason:
            return structure.to_ase_atoms()
    except Unusable:
        raise
    except Exception as error:  # what a stranger sent can fail anywhere in pymatgen
        raise Unusable(f"cannot be read ({type(error).__name__}: {error})") from error
    raise Unusable(reason)


def _from_cache(path: Path) -> Fetched | None:
    """What was fetched before; None where there is nothing, or not whole."""
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        whole = about.pop("sha256") == hashlib.sha256(path.read_bytes()).hexdigest()
        about["left_out"] = tuple(LeftOut(**x) for x in about["left_out"])
        return Fetched(path=path, cached=True, **about) if whole else None
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return None


def _into_cache(fetched: Fetched, images: list[Atoms]) -> None:
    """Write the structures, then what is known of them, with a checksum that binds the two."""
    from ase.io import write

    text = io.StringIO()
    write(text, images, format="extxyz")
    data = text.getvalue().encode()
    about: dict[str, Any] = asdict(fetched) | {"sha256": hashlib.sha256(data).hexdigest()}
    del about["path"], about["cached"]
    with saying(fetched.path.parent, ELSEWHERE, writing=True):
        fetched.path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(fetched.path, data, ELSEWHERE)
    write_whole(fetched.path.with_suffix(".json"), json.dumps(about, indent=1) + "\n", ELSEWHERE)

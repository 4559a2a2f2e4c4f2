"""Databases by name or address: any OPTIMADE provider, or the Materials Project by API key.

The short names are pymatgen's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from crystalgan.data.asking import open_session, plain
from crystalgan.data.materials_project import ask_materials_project
from crystalgan.data.optimade import ask_optimade
from crystalgan.errors import InputError

if TYPE_CHECKING:
    from crystalgan.data.asking import Answer, Progress

MATERIALS_PROJECT = "mp-api"


def base_url(source: str) -> str:
    """The address of a provider, given by its short name or address, without `/v1` at its end.

    >>> base_url("https://Example.org/v1/")
    'https://example.org'
    """
    url = source
    if source == MATERIALS_PROJECT:
        # the variable is mp_api's own
        url = os.environ.get("MP_API_ENDPOINT") or "https://api.materialsproject.org"
    elif "://" not in source:
        if source not in (known := _addresses()):
            names = ", ".join(short_names())
            raise InputError(
                f"{source}: no provider is known by this name; give an address (https://...) or one"
                f" of {names}."
            )
        url = known[source]
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc or parts.query or parts.fragment:
        raise InputError(
            f"{plain(source)}: no address of a provider; write http(s)://host/path, no password, no"
            " question mark."
        )
    url = parts._replace(netloc=parts.netloc.lower()).geturl()
    return url.rstrip("/").removesuffix("/structures").removesuffix("/v1").rstrip("/")


def short_names() -> list[str]:
    """The providers that `base_url` knows by name."""
    return [MATERIALS_PROJECT, *sorted(_addresses())]


def _addresses() -> dict[str, str]:
    from pymatgen.ext.optimade import OptimadeRester

    return dict(OptimadeRester.aliases)


def ask(source: str, symbols: list[str], api_key: str | None, progress: Progress) -> Answer:
    """All structures of exactly these elements (sorted symbols).

    Raises InputError when no usable answer comes.
    """
    base = base_url(source)
    with open_session() as session:
        if source == MATERIALS_PROJECT:
            return ask_materials_project(
                session, base, symbols, api_key or os.environ.get("MP_API_KEY"), progress
            )
        return ask_optimade(session, base, symbols, progress)

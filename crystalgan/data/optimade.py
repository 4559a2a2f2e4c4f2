"""OPTIMADE, the databases' common language: pages of structures of one chemical system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from crystalgan.data.asking import WAY_OUT, Answer, Record, Unusable, follow, get_json, plain
from crystalgan.errors import InputError

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from requests import Session

    from crystalgan.data.asking import Progress

MAX_STRUCTURES = 20_000  # of one system; no database has as many
FIELDS = (
    "cartesian_site_positions,dimension_types,lattice_vectors,species,species_at_sites,"
    "structure_features"
)


def ask_optimade(session: Session, base: str, symbols: list[str], progress: Progress) -> Answer:
    """All structures of exactly these elements that the provider at `base` has."""
    names = ",".join(f'"{symbol}"' for symbol in symbols)
    query = urlencode(
        {
            "filter": f"elements HAS ALL {names} AND nelements={len(symbols)}",
            "response_fields": FIELDS,
        }
    )
    url: str | None = f"{base}/v1/structures?{query}"
    entries: dict[str, Any] = {}
    announced: int | None = None
    while url:
        page = get_json(session, url, base)
        try:
            meta = page["meta"]
            provider = meta.get("provider") or {}
            announced = (
                meta["data_returned"] if isinstance(meta.get("data_returned"), int) else announced
            )
            new = {str(entry["id"]): entry["attributes"] for entry in page["data"]}
            link = (
                (page.get("links") or {}).get("next")
                if new and meta.get("more_data_available", True)
                else None
            )
            link = link["href"] if isinstance(link, dict) else link
            name, prefix = (
                str(provider.get("name") or base),
                str(provider.get("prefix") or "optimade"),
            )
        except (AttributeError, KeyError, TypeError):
            raise InputError(
                f"{base}: answers with what is no OPTIMADE page; check the address, {WAY_OUT}."
            ) from None
        if link and new.keys() <= entries.keys():
            raise InputError(f"{base}: repeats its pages without end; {WAY_OUT}.")
        entries |= new
        if len(entries) > MAX_STRUCTURES:
            raise InputError(
                f"{base}: gives more than {MAX_STRUCTURES} structures of {'-'.join(symbols)};"
                f" {WAY_OUT}."
            )
        progress(len(entries), announced)
        url = follow(url, str(link), base) if link else None
    licence = _licence(session, base)
    records = [
        Record(
            i, f"{base}/v1/structures/{quote(i, errors='replace')}", licence, raw, _optimade_cell
        )
        for i, raw in entries.items()
    ]
    return Answer(name, prefix, licence, announced, records)


def _licence(session: Session, base: str) -> str:
    """The licence that the provider's `/info` names, or the words that it names none."""
    try:
        about = get_json(session, f"{base}/v1/info", base)["data"]["attributes"]
        link = about.get("license")
        named = [
            link.get("href") if isinstance(link, dict) else link,
            *(about.get("available_licenses") or []),
        ]
        return ", ".join(str(word) for word in named if word) or "not given"
    except (
        AttributeError,
        InputError,
        KeyError,
        TypeError,
    ) as error:  # the structures have come: no reason to throw them away
        return f"not given ({plain(error)})"


def _optimade_cell(attributes: dict[str, Any]) -> Structure:
    """A structure of OPTIMADE 1.x.

    Lattice rows and Cartesian positions are in Å; `species` explains the names of sites.
    """
    from pymatgen.core import Structure

    features = set(attributes.get("structure_features") or []) & {
        "implicit_atoms",
        "site_attachments",
        "assemblies",
    }
    if features:
        raise Unusable(f"has {', '.join(sorted(features))}, which a cell of atoms cannot show")
    if (attributes.get("dimension_types") or [1, 1, 1]) != [1, 1, 1]:
        raise Unusable("is not periodic in three directions")
    for needed in ("lattice_vectors", "cartesian_site_positions", "species_at_sites", "species"):
        if not attributes.get(needed):
            raise Unusable(f"comes without {needed}")
    kinds = {
        kind["name"]: {
            s: share
            for s, share in zip(kind["chemical_symbols"], kind["concentration"], strict=True)
            if s != "vacancy"
        }
        for kind in attributes["species"]
    }
    sites = [kinds[name] for name in attributes["species_at_sites"]]
    return Structure(
        attributes["lattice_vectors"],
        sites,
        attributes["cartesian_site_positions"],
        coords_are_cartesian=True,
    )

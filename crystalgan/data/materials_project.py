"""The Materials Project's own service, asked with a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from crystalgan.data.asking import WAY_OUT, Answer, Record, get_json, plain
from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymatgen.core import Structure
    from requests import Session

    from crystalgan.data.asking import Progress


def ask_materials_project(
    session: Session, base: str, symbols: list[str], key: str | None, progress: Progress
) -> Answer:
    """All structures of exactly these elements that are not deprecated, by its own client."""
    import requests
    from pymatgen.core import Structure

    if not key:
        raise InputError(
            "mp-api: the Materials Project asks for a key; get yours, free of charge, at"
            " https://materialsproject.org/api and put it into the environment variable MP_API_KEY,"
            " or ask mp, its OPTIMADE service, which needs none."
        )
    try:
        from mp_api.client import MPRester
        from mp_api.client.core.exceptions import MPRestError
    except ImportError as error:
        raise InputError(
            f"mp-api: cannot be imported ({error}); install it with `pip install '.[mp]'`, or"
            " ask mp."
        ) from None
    get_json(
        session, f"{base}/heartbeat", base
    )  # MPRester asks this as well, but would wait for ever
    system, fields = "-".join(symbols), ["material_id", "structure", "builder_meta"]
    try:
        with MPRester(
            key, endpoint=base, use_document_model=False, mute_progress_bars=True
        ) as client:
            summary = client.materials.summary
            announced = int(summary.count({"chemsys": system, "deprecated": False}))
            progress(0, announced)
            found = summary.search(
                chemsys=system, deprecated=False, fields=fields, all_fields=False
            )
        records = [_materials_project_record(document, Structure.from_dict) for document in found]
    except MPRestError as error:
        raise InputError(
            f"{base}: {plain(error)[:200].rstrip('.')}; check MP_API_KEY and the network,"
            f" {WAY_OUT}."
        ) from None
    except requests.RequestException as error:
        raise InputError(
            f"{base}: breaks its answer off ({type(error).__name__}); check the network, {WAY_OUT}."
        ) from None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{base}: does not answer as the Materials Project does; check MP_API_ENDPOINT,"
            f" {WAY_OUT}."
        ) from None
    progress(len(records), announced)
    return Answer("The Materials Project", "mp", "see each structure", announced, records)


def _materials_project_record(document: dict[str, Any], make: Callable[[Any], Structure]) -> Record:
    identifier = str(document["material_id"])
    licence = str((document.get("builder_meta") or {}).get("license") or "not given")
    return Record(
        identifier,
        f"https://materialsproject.org/materials/{quote(identifier)}",
        licence,
        document["structure"],
        make,
    )

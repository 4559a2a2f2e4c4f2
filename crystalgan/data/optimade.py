"""Asking databases for one chemical system: any OPTIMADE provider, or the Materials Project.

Only the host that was asked is ever contacted, and each way in which an answer can fail is one
sentence. Why requests and a page loop of our own: pymatgen's OptimadeRester logs a failure and goes
on with what it has, optimade's client repeats a request that is refused for ever, and neither says
what was left out. The short names are pymatgen's.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from crystalgan import __version__
from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymatgen.core import Structure
    from requests import Session

    # structures that came, and how many were announced
    Progress = Callable[[int, int | None], None]

MATERIALS_PROJECT = "mp-api"
MAX_STRUCTURES = 20_000  # of one system; no database has as many
MAX_PAGE_BYTES = 50_000_000
TIMEOUT = 30  # seconds without a byte
MAX_REDIRECTS = 5
FIELDS = (
    "cartesian_site_positions,dimension_types,lattice_vectors,species,species_at_sites,"
    "structure_features"
)
WAY_OUT = "try again later, or ask another provider"


class Unusable(Exception):  # noqa: N818 - becomes a LeftOut
    """Why a structure is left out."""


@dataclass(frozen=True)
class Record:
    """One structure as it came.

    `make(raw)` builds it; it raises Unusable, or whatever pymatgen raises, where it cannot.
    """

    identifier: str
    url: str
    licence: str
    raw: Any
    make: Callable[[Any], Structure]


@dataclass(frozen=True)
class Answer:
    """What a provider gave for one system, and how many structures it had announced."""

    provider: str
    prefix: str
    licence: str
    announced: int | None
    records: list[Record]


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
    with _session() as session:
        if source == MATERIALS_PROJECT:
            return _ask_materials_project(
                session, base, symbols, api_key or os.environ.get("MP_API_KEY"), progress
            )
        return _ask_optimade(session, base, symbols, progress)


def plain(text: object) -> str:
    """Foreign words as one short line that an extended XYZ comment can hold."""
    line = "".join(c if c.isprintable() else " " for c in str(text)[:500])
    return " ".join(line.split()).replace("\\", "/").replace('"', "'")[:250]


def _session() -> Session:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session = requests.Session()
    session.headers["User-Agent"] = f"CrystalGAN/{__version__}"
    retry = Retry(
        total=2,
        read=False,
        backoff_factor=0.5,
        status_forcelist=(429, 502, 503, 504),
        raise_on_status=False,
    )
    retry.respect_retry_after_header = False  # may be hours; the error says to come back later
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _get(session: Session, url: str, base: str) -> dict[str, Any]:
    """The JSON object at `url`, which may redirect within the host of `base`.

    Raises InputError that says what came instead.
    """
    import requests

    body = bytearray()
    try:
        for _ in range(MAX_REDIRECTS):
            with session.get(url, timeout=TIMEOUT, stream=True, allow_redirects=False) as response:
                if response.is_redirect:
                    url = _follow(url, response.headers["location"], base)
                    continue
                for chunk in response.iter_content(1 << 16):
                    body += chunk
                    if len(body) > MAX_PAGE_BYTES:
                        raise InputError(
                            f"{base}: gives an answer of more than {MAX_PAGE_BYTES // 1_000_000}"
                            f" MB; {WAY_OUT}."
                        )
            break
        else:
            raise InputError(f"{base}: sends from address to address without an answer; {WAY_OUT}.")
    except requests.Timeout:
        raise InputError(
            f"{base}: gives no answer within {TIMEOUT} s; check the network, {WAY_OUT}."
        ) from None
    except requests.ConnectionError:
        raise InputError(
            f"{base}: cannot be reached; check the address and the network, {WAY_OUT}."
        ) from None
    except requests.RequestException as error:
        raise InputError(
            f"{base}: breaks its answer off ({type(error).__name__}); {WAY_OUT}."
        ) from None
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if response.status_code != 200:
        reason = response.reason
        with suppress(KeyError, IndexError, TypeError):
            reason = answer["errors"][0]["detail"]
        raise InputError(
            f"{base}: answers {response.status_code} ({plain(reason)[:100]}); check the address,"
            f" {WAY_OUT}."
        )
    if not isinstance(answer, dict):
        raise InputError(
            f"{base}: answers with what is no JSON object, so it is no such service; check the"
            f" address, {WAY_OUT}."
        )
    return answer


def _follow(url: str, link: str, base: str) -> str:
    """Where a redirect or the link to the next page leads, if that is the host that was asked."""
    try:
        target = urljoin(url, link)
        parts = urlsplit(target)
        # what many a provider behind a proxy says of itself
        if base.startswith("https:") and parts.scheme == "http":
            parts = parts._replace(scheme="https")
        inside = (
            parts.netloc == urlsplit(base).netloc
            and parts.scheme in ("http", "https")
            and target.isprintable()
        )
    except ValueError:
        target, inside = link, False
    if not inside:
        raise InputError(
            f"{base}: sends on to {plain(target)[:100]}, another host; give that address if you"
            " trust it."
        )
    return parts.geturl()


def _ask_optimade(session: Session, base: str, symbols: list[str], progress: Progress) -> Answer:
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
        page = _get(session, url, base)
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
        url = _follow(url, str(link), base) if link else None
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
        about = _get(session, f"{base}/v1/info", base)["data"]["attributes"]
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


def _ask_materials_project(
    session: Session, base: str, symbols: list[str], key: str | None, progress: Progress
) -> Answer:
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
    _get(session, f"{base}/heartbeat", base)  # MPRester asks this as well, but would wait for ever
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

"""How a database is asked, and what it answered.

Only the host that was asked is ever contacted, and each way in which an answer can fail is one
sentence. Why requests and a page loop of our own: pymatgen's OptimadeRester logs a failure and goes
on with what it has, optimade's client repeats a request that is refused for ever, and neither says
what was left out.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from crystalgan import __version__
from crystalgan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymatgen.core import Structure
    from requests import Session

    # structures that came, and how many were announced
    Progress = Callable[[int, int | None], None]

MAX_PAGE_BYTES = 50_000_000
TIMEOUT = 30  # seconds without a byte
MAX_REDIRECTS = 5
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


def plain(text: object) -> str:
    """Foreign words as one short line that an extended XYZ comment can hold."""
    line = "".join(c if c.isprintable() else " " for c in str(text)[:500])
    return " ".join(line.split()).replace("\\", "/").replace('"', "'")[:250]


def open_session() -> Session:
    """A session of requests that asks twice more where a server is busy."""
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


def get_json(session: Session, url: str, base: str) -> dict[str, Any]:
    """The JSON object at `url`, which may redirect within the host of `base`.

    Raises InputError that says what came instead.
    """
    import requests

    body = bytearray()
    try:
        for _ in range(MAX_REDIRECTS):
            with session.get(url, timeout=TIMEOUT, stream=True, allow_redirects=False) as response:
                if response.is_redirect:
                    url = follow(url, response.headers["location"], base)
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


def follow(url: str, link: str, base: str) -> str:
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

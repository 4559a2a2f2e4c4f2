"""One kind of progress: what long functions take as `progress`, and what they call with it.

`progress=True` draws a bar, in a shell on stderr and in a notebook as a widget; `False` draws none;
a function of one's own is called instead.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Report = Callable[..., None]
    Progress = bool | Report


def reporting(progress: Progress | None, what: str) -> Report:
    """What a function calls as `report(done, total, words)`; the total and the words may be left
    out.

    >>> seen = []
    >>> reporting(lambda done, total: seen.append((done, total)), "cells")(3, 10)
    >>> seen
    [(3, 10)]
    """
    return progress if callable(progress) else Bar(what) if progress else _silent


def reporting_each(progress: Progress | None, what: str, total: int) -> Report:
    """What a function calls as `report(words)` once for each of `total` things that it has done."""
    if callable(progress) or not progress:
        return reporting(progress, what)
    bar = Bar(what)
    return lambda words="": bar(bar.done + 1, total, words)


def reporting_epochs(progress: Progress | None) -> Report:
    """What a training calls as `report(step, epoch, epochs, terms)`; one bar for each step."""
    if callable(progress) or not progress:
        return reporting(progress, "")
    bars: dict[int, Bar] = {}

    def report(step: int, epoch: int, epochs: int, terms: dict[str, float]) -> None:
        bar = bars.setdefault(step, Bar(f"step {step}"))
        bar(epoch, epochs, f"{terms['valid']:.0%} keep the rule" if "valid" in terms else "")

    return report


class Bar:
    """A bar that is drawn from the first call on, and closed when everything is done or nobody
    holds it any longer."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.done = 0
        self._bar: Any = None

    def __call__(self, done: int, total: int | None = None, words: str = "") -> None:
        """So many of `total` are done; `words` are put behind the bar."""
        if self._bar is None:
            from tqdm.auto import tqdm

            self._bar = tqdm(desc=self.what, total=total, unit="", file=sys.stderr)
        self.done, self._bar.total = done, total
        self._bar.set_postfix_str(words[:60], refresh=False)
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.close()


def _silent(*_: object) -> None:
    """Report nothing."""

"""What every result of a study can do: show itself in a line, as a table and as JSON."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, TypeVar

from crystalgan.errors import InputError
from crystalgan.storage import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pandas as pd

Found = TypeVar("Found")


class StudyResult:
    """Base of the results of studies; each is a frozen dataclass."""

    @property
    def title(self) -> str:
        """What the result is of, in a few words."""
        raise NotImplementedError

    def rows(self) -> list[dict[str, Any]]:
        """The rows of its table: column -> value."""
        raise NotImplementedError

    def lines(self) -> list[str]:
        """The result in lines of text, as the shell prints it."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds of it."""
        raise NotImplementedError

    def table(self) -> pd.DataFrame:
        """The result as a table."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.title}>"

    def _repr_html_(self) -> str:
        table = self.table().to_html(index=False, na_rep="", float_format="{:.4g}".format)
        return f"<p>{escape(self.title)}</p>{table}"


def read_results(
    paths: Iterable[Path], of: Callable[[dict[str, Any]], Found], damaged: str
) -> list[Found]:
    """The results that these files hold, the newest first.

    Raises InputError for a file that holds none; `damaged` says what it should be and the way out.
    """
    newest = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)
    out = []
    for path in newest:
        found = read_json(path)
        try:
            out.append(of(found))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(f"{path}: damaged ({damaged}.") from None
    return out

"""`compiled`, numba's `njit` with a cache on disk that several processes may fill at once.

The cache of a function lies in `__pycache__` beside its file or, where that may not be written, in
numba's folder in the user's home.
"""

from __future__ import annotations

import hashlib
import pickle
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCES = "*.py"  # beside this file: all that holds compiled functions, which call each other


def compiled(**options: Any) -> Any:
    """`numba.njit(cache=True)` whose cache is safe between processes and sees all changes.

    It never takes one function's code for another's, nor for its own before any source changed.
    """

    def compile_later(function: Callable[..., Any]) -> Any:
        dispatcher = njit(**options)(function)
        # nowhere to keep a cache, neither here nor in a home folder: it is compiled each time
        with suppress(RuntimeError):
            dispatcher._cache = _Cache(function)  # noqa: SLF001 - as its own `enable_caching` does
        return dispatcher

    return compile_later


class _Cache(FunctionCache):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        sources = [path.stat() for path in sorted(Path(__file__).parent.glob(SOURCES))]
        # numba's own forgets what a function calls
        stamp = tuple((source.st_mtime, source.st_size) for source in sources)
        self._cache_file = _File(self._cache_path, self._impl.filename_base, stamp)


class _File(IndexDataCacheFile):
    """An index of compiled code whose files are named by what they hold, and are written first.

    numba's own numbers the files from 1 on and writes the index before they are there. A process
    that looks at that moment, or after a kill, then runs what was compiled for other types or from
    an older source.
    """

    def save(self, key: Any, data: Any) -> None:
        digest = hashlib.sha256(repr((self._source_stamp, key)).encode()).hexdigest()
        name = self._data_name(int(digest[:12], 16))
        with suppress(OSError):  # a full disk, another user's files
            self._save_data(name, data)
            self._save_index(self._load_index() | {key: name})

    def load(self, key: Any) -> Any:
        try:
            return super().load(key)
        # may not be read, or is cut short: it is compiled anew
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            return None

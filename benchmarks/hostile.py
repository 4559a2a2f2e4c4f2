"""Time and memory that a broken or hostile file costs the reader, as one JSON object.

    python -m benchmarks.hostile

Each case is read in a process of its own, forked when all imports are done; its peak is the highest
resident memory that the kernel saw while `read_entries` ran, less what was resident before. A case
passes where the bad file is named with the expected words, in one sentence, and the good files
beside it are read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import hostile_containers as containers
from benchmarks import hostile_files as texts
from benchmarks import hostile_zips as zips
from crystalgan.data.readers import read_entries
from crystalgan.errors import InputError


@dataclass(frozen=True)
class Case:
    """A bad file beside good ones.

    `place` is "folder", "zip" or, where the whole zip is bad, "whole".
    """

    name: str
    words: str
    place: str
    contents: Any

    def make(self, folder: Path) -> Path:
        """Write it; returns what is to be read."""
        if self.place == "whole":
            (folder / f"{self.name}.zip").write_bytes(self.contents())
            return folder / f"{self.name}.zip"
        if self.place == "zip":
            member, change = self.contents
            (folder / "cells.zip").write_bytes(change(zips.zipped(member)))
            return folder / "cells.zip"
        for name, text in texts.GOOD.items():
            (folder / name).write_text(text)
        path, contents = folder / self.name, self.contents
        if callable(contents):
            takes_path = contents is os.mkfifo or contents.__code__.co_argcount > 0
            contents = contents(path) if takes_path else contents()
        if isinstance(contents, str):
            contents = contents.encode()
        if contents is not None:
            path.write_bytes(contents)
        return folder


def cases() -> list[Case]:
    """All of them, in a fixed order."""
    small: dict[str, bytes] = {
        "vasp": texts.POSCAR.encode(),
        "cif": texts.CIF.encode(),
        "extxyz": texts.XYZ.encode(),
        "json": containers.JSON.encode(),
        "mat": containers.mat(("Pd", containers.table())),
        "db": containers.database((containers.NUMBERS, containers.PLACES, containers.BOX, 7, "{}")),
    }
    found = texts.every_format(small)
    for more in (
        texts.poscars,
        texts.xyzs,
        texts.cifs,
        texts.folders,
        containers.jsons,
        containers.mats,
        containers.databases,
    ):
        new = more()
        if set(new) & set(found):
            raise ValueError(f"two cases of one name: {set(new) & set(found)}")
        found |= new
    out = [Case(name, words, "folder", contents) for name, (words, contents) in found.items()]
    out += [
        Case(name, words, "zip", (member, change))
        for name, (words, member, change) in zips.members().items()
    ]
    return out + [
        Case(name, words, "whole", make) for name, (words, make) in zips.whole_zips().items()
    ]


def verdict(case: Case, path: Path) -> str:
    """What is wrong with how a case is read, or nothing."""
    try:
        entries, left_out = read_entries(path)
    except InputError as error:
        if case.place != "whole":
            return f"refused as a whole: {error}"
        return (
            ""
            if re.search(case.words, str(error)) and path.name in str(error)
            else f"other words: {error}"
        )
    reasons = [str(x) for x in left_out]
    name = "".join(c if c.isprintable() else "?" for c in case.name[:40])
    named = [x for x in left_out if name in x.where]
    good = [entry for entry in entries if Path(entry.where).name in texts.GOOD]
    if case.place == "whole" or not named or len(good) != len(texts.GOOD):
        return f"{len(good)} good files read; left out: {reasons[:3]}"
    if not any(re.search(case.words, x.reason) for x in named):
        return f"other words: {named[0].reason}"
    wrong = [
        x
        for x in reasons
        if len(x.splitlines()) != 1
        or re.search(r"Traceback|Error\b|object at 0x|/work/|site-packages", x)
    ]
    return f"no sentence for a chemist: {wrong[0][:200]}" if wrong else ""


def status(field: str) -> int:
    """A size of this process in bytes, as the kernel tells it."""
    found = re.search(
        rf"^{field}:\s+(\d+) kB",
        Path("/proc/self/status").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return int(found[1]) * 1024 if found else 0


def measured(case: Case) -> dict[str, Any]:
    """Verdict, seconds and MB of one case, read in a child process."""
    folder = Path(tempfile.mkdtemp(prefix="hostile"))
    try:
        path = case.make(folder)
        end, start = os.pipe()
        child = os.fork()
        if child == 0:
            # the peak is counted from here
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
            before, began = status("VmRSS"), time.perf_counter()
            problem = verdict(case, path)
            result = {
                "problem": problem,
                "seconds": time.perf_counter() - began,
                "MB": (status("VmHWM") - before) / 1e6,
            }
            os.write(start, json.dumps(result).encode()[:4000])
            os._exit(0)
        os.close(start)
        with os.fdopen(end, "rb") as pipe:
            text = pipe.read()
        _, code = os.waitpid(child, 0)
        result = (
            json.loads(text)
            if text
            else {"problem": f"the reader died with status {code}", "seconds": 0.0, "MB": 0.0}
        )
        return {"case": case.name[:40], "place": case.place} | result
    finally:
        shutil.rmtree(folder)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.GOOD.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        Path(folder, "x.json").write_text(containers.JSON, encoding="utf-8")
        read_entries(Path(folder))  # all imports
    import ase.io.extxyz  # noqa: F401

    results = []
    for case in cases():
        results.append(measured(case))
        if results[-1]["problem"]:
            print(case.name[:40], results[-1]["problem"], file=sys.stderr)
    slowest, largest = (max(results, key=lambda r: r[key]) for key in ("seconds", "MB"))
    wrong = [r for r in results if r["problem"]]
    summary = {
        "cases": len(results),
        "wrong": wrong,
        "max_seconds": round(slowest["seconds"], 3),
        "slowest": slowest["case"],
        "max_MB": round(largest["MB"], 1),
        "largest": largest["case"],
        "top_seconds": [
            [r["case"], round(r["seconds"], 3)]
            for r in sorted(results, key=lambda r: -r["seconds"])[:8]
        ],
        "top_MB": [
            [r["case"], round(r["MB"], 1)] for r in sorted(results, key=lambda r: -r["MB"])[:8]
        ],
    }
    print(json.dumps(summary, indent=1))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

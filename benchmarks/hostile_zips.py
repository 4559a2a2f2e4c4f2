"""Zips with one bad member among good ones, and zips of which nothing can be trusted."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Callable

from benchmarks.hostile_files import CIF, GOOD, POSCAR, swap

Member = Callable[[zipfile.ZipFile], None]


def members() -> dict[str, tuple[str, Member, Callable[[bytes], bytes]]]:
    """Bad files in a zip of good ones: name -> (words, writes it, changes the bytes of the zip)."""

    def write(
        name: str, data: bytes | str, method: int = zipfile.ZIP_DEFLATED, mode: int = 0o100644
    ) -> Member:
        def into(archive: zipfile.ZipFile) -> None:
            info = zipfile.ZipInfo(name)
            info.compress_type, info.external_attr = method, mode << 16
            archive.writestr(info, data)

        return into

    def both(change: Callable[[bytearray, int, int], None]) -> Callable[[bytes], bytes]:
        """Change both headers of the last member: before its data, and in the directory."""

        def changed(data: bytes) -> bytes:
            out = bytearray(data)
            change(out, data.rindex(b"PK\x03\x04"), data.rindex(b"PK\x01\x02"))
            return bytes(out)

        return changed

    def field(local: int, central: int, form: str, value: int) -> Callable[[bytes], bytes]:
        def change(out: bytearray, at: int, entry: int) -> None:
            struct.pack_into(form, out, at + local, value)
            struct.pack_into(form, out, entry + central, value)

        return both(change)

    def same(data: bytes) -> bytes:
        return data

    def points_at_first(data: bytes) -> bytes:
        out = bytearray(data)
        struct.pack_into("<I", out, data.rindex(b"PK\x01\x02") + 42, 0)
        return bytes(out)

    def cut_local(data: bytes) -> bytes:
        at = data.rindex(b"PK\x03\x04")
        return data[:at] + b"XXXX" + data[at + 4 :]

    paths = {
        "../climb.vasp": "climb.vasp",
        "a/../../climb2.vasp": "climb2.vasp",
        "/etc/absolute.vasp": "absolute.vasp",
    }
    paths |= {
        "..\\back.vasp": "back.vasp",
        "C:\\drive.vasp": "drive.vasp",
        "\\\\host\\share.vasp": "share.vasp",
    }
    paths |= {
        "C:colon.vasp": "colon.vasp",
        "../../../../root/.ssh/authorized_keys": "authorized_keys",
    }
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("x.vasp", POSCAR)
    cases: dict[str, tuple[str, Member, Callable[[bytes], bytes]]] = {
        name: ("leads out of the archive", write(path, POSCAR), same)
        for path, name in paths.items()
    }
    return cases | {
        "encrypted.vasp": ("is encrypted", write("encrypted.vasp", POSCAR), field(6, 8, "<H", 1)),
        "link.vasp": ("is a link", write("link.vasp", "/etc/passwd", mode=0o120777), same),
        "inner.zip": ("is a zip in a zip", write("inner.zip", inner.getvalue()), same),
        "bomb.vasp": ("is too large: 100 MB", write("bomb.vasp", bytes(100_000_000)), same),
        "bomb.extxyz": ("line 1: a number of atoms", write("bomb.extxyz", bytes(19_000_000)), same),
        "bomb.db": ("is too large: 60 MB", write("bomb.db", bytes(60_000_000)), same),
        "small.vasp": (
            "is damaged in the zip",
            write("small.vasp", bytes(100_000_000)),
            field(22, 24, "<I", 1000),
        ),
        "grown.vasp": (
            "is damaged in the zip",
            write("grown.vasp", POSCAR),
            field(22, 24, "<I", 900_000),
        ),
        "sum.vasp": ("is damaged in the zip", write("sum.vasp", POSCAR), field(14, 16, "<I", 1234)),
        "method.vasp": (
            "another method than deflate",
            stored("method.vasp"),
            field(8, 10, "<H", 99),
        ),
        "bzip2.vasp": (
            "another method than deflate",
            write("bzip2.vasp", bytes(900_000), zipfile.ZIP_BZIP2),
            same,
        ),
        "lzma.vasp": (
            "another method than deflate",
            write("lzma.vasp", bytes(900_000), zipfile.ZIP_LZMA),
            same,
        ),
        "overlap.vasp": ("is damaged in the zip", write("overlap.vasp", POSCAR), points_at_first),
        "header.vasp": ("is damaged in the zip", write("header.vasp", POSCAR), cut_local),
        "line\nfeed.vasp": ("line 7", write("line\nfeed.vasp", swap(POSCAR, "2 4", "x")), same),
        "escape\x1b[31m.vasp": (
            "line 7",
            write("escape\x1b[31m.vasp", swap(POSCAR, "2 4", "x")),
            same,
        ),
        "n" * 60_000 + ".vasp": (
            "line 7",
            write("n" * 60_000 + ".vasp", swap(POSCAR, "2 4", "x")),
            same,
        ),
        "cut.cif": ("_cell_angle has no value", write("cut.cif", CIF[:150]), same),
        "bomb.cif.gz": (
            "is too large",
            write("bomb.cif.gz", gzip.compress(bytes(50_000_000))),
            same,
        ),
    }


def stored(name: str) -> Member:
    """A good cell, stored."""
    return lambda archive: archive.writestr(name, POSCAR)


def zipped(bad: Member) -> bytes:
    """A zip of the good files and one more, which comes last."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in GOOD.items():
            archive.writestr(name, text)
        bad(archive)
    return file.getvalue()


def whole_zips() -> dict[str, tuple[str, Callable[[], bytes]]]:
    """Zips of which nothing can be trusted."""
    good = zipped(stored("more.vasp"))
    end = good.rindex(b"PK\x05\x06")

    def many() -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for i in range(20_000):
                archive.writestr(f"{i}.vasp", "")
        return file.getvalue()

    def bomb() -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for i in range(12):
                archive.writestr(f"{i}.extxyz", bytes(19_000_000))
        return file.getvalue()

    def patched(offset: int, form: str, value: int) -> bytes:
        out = bytearray(good)
        struct.pack_into(form, out, end + offset, value)
        return bytes(out)

    damaged = "not a zip file, or cut short or damaged"

    def cut(percent: int) -> Callable[[], bytes]:
        return lambda: good[: len(good) * percent // 100]

    cuts = {f"cut{percent}": (damaged, cut(percent)) for percent in (5, 30, 60, 90, 99)}
    return cuts | {
        "empty": (damaged, lambda: b""),
        "garbage": (damaged, lambda: b"PK\x03\x04" + bytes(range(256)) * 40),
        "end_only": (damaged, lambda: good[end - 20 :]),
        "directory_size": (damaged, lambda: patched(12, "<I", 2**31)),
        "directory": (damaged, lambda: good.replace(b"PK\x01\x02", b"PK\x01\x09")),
        "many": ("holds more than 10000 files", many),
        "signatures": ("holds more than 10000 files", lambda: b"PK\x01\x02" * 12_000_000),
        "bomb": ("unpacks to 12 files and 228 MB", bomb),
        "large": ("is too large: 60 MB", lambda: bytes(60_000_000)),
    }

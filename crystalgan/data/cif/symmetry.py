"""The cell that the symmetry of a CIF block means; what contradicts itself or is open is refused.

A block may list operations, name a space group, or both (`crystalgan.data.cif.stated`). A name
often leaves several settings: the metric, formula, Z, density and multiplicities decide between
them, and then special positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crystalgan.data.cif.contents import Announced
from crystalgan.data.cif.operations import keys_of
from crystalgan.data.cif.space_groups import is_standard, misfit, number_of
from crystalgan.data.cif.stated import (
    METRIC,
    check_nothing_else,
    is_named_by_number,
    listed_operations,
    named_settings,
)
from crystalgan.data.cif.unfold import unfold
from crystalgan.data.files import Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crystalgan.data.cif.block import Block
    from crystalgan.data.cif.space_groups import Setting
    from crystalgan.data.cif.unfold import Sites, Unfolded


@dataclass(frozen=True)
class _Readings:
    """The cells that several settings make, of equal ones the first."""

    cells: list[tuple[Setting, Unfolded]]
    some_failed: bool  # settings in which the atoms are no cell


@dataclass(frozen=True)
class _Contents:
    """The listed atoms of a block, its lattice (rows, Å) and what it announces of its contents."""

    sites: Sites
    lattice: np.ndarray
    announced: Announced

    def unfold(self, operations: np.ndarray) -> Unfolded:
        """All atoms by these operations `[m, 3, 4]`; Unreadable where they are no cell."""
        return unfold(self.sites, operations, self.lattice)

    def readings(self, found: Sequence[Setting]) -> _Readings:
        """The different cells that come of these settings."""
        cells: list[tuple[Setting, Unfolded]] = []
        some_failed = False
        for setting in found:
            try:
                cell = self.unfold(setting.operations)
            except Unreadable:
                some_failed = True
                continue
            if not any(cell.same_atoms(other, self.lattice) for _, other in cells):
                cells.append((setting, cell))
        return _Readings(cells, some_failed)

    def fitting(self, named: Sequence[Setting]) -> list[Setting]:
        """The settings with operations that keep the lattice, as well as those of the best do."""
        changes = [misfit(setting.operations, self.lattice) for setting in named]
        most = min(METRIC, max(1e-4, 1.5 * min(changes)))
        return [setting for setting, change in zip(named, changes, strict=True) if change <= most]

    def problem(self, cell: Unfolded) -> str:
        """What speaks against a cell, in words; nothing where it adds up."""
        return self.announced.problem(cell, abs(float(np.linalg.det(self.lattice))))


def read_symmetry(block: Block, sites: Sites, lattice: np.ndarray) -> Unfolded:
    """The one cell that a block means; Unreadable where it means none or several."""
    listed = listed_operations(block, lattice)
    contents = _Contents(sites, lattice, Announced.of(block))
    named: tuple[Setting, ...] = ()
    unknown = ""
    try:
        named = named_settings(block)
    except Unreadable as error:
        if listed is None:
            raise
        unknown = str(error)
    if listed is not None:
        cell = _cell_of_listed(contents, listed, named, unknown)
    elif named:
        cell = _cell_of_named(contents, named, is_named_by_number(block))
    else:
        check_nothing_else(block)
        cell = contents.unfold(np.eye(3, 4)[None])
        cell.remarks.append("It names no space group and lists no operations: P 1 is read.")
    if problem := contents.problem(cell):
        raise Unreadable(problem)
    announced = contents.announced
    if announced.text and not announced.formula:
        cell.remarks.append(
            f"Its formula {announced.text} cannot be read and was not compared with its atoms."
        )
    _check_multiplicities(sites, cell, announced)
    return cell


def _cell_of_listed(
    contents: _Contents, listed: np.ndarray, named: Sequence[Setting], unknown: str
) -> Unfolded:
    """The cell of a block that lists its operations.

    `unknown` says why the name beside them is none, where one is given that no table has.
    """
    cell = contents.unfold(listed)
    if unknown and len(listed) == 1 and not contents.announced.confirms(cell):
        raise Unreadable(f"{unknown}; with x,y,z alone its list of atoms may not be whole")
    if unknown:
        cell.remarks.append(
            f"The file {unknown.split(';', maxsplit=1)[0]}; the operations that it lists are read."
        )
    if named and not _are_of(listed, named, contents.lattice):
        _check_name(contents, cell, len(listed), named)
    return cell


def _are_of(listed: np.ndarray, named: Sequence[Setting], lattice: np.ndarray) -> bool:
    """Whether listed operations are of the named space group, in whatever setting."""
    keys = {*keys_of(listed).tolist()}
    if any({*keys_of(setting.operations).tolist()} == keys for setting in named):
        return True
    return number_of(listed, lattice) == named[0].number


def _check_name(
    contents: _Contents, cell: Unfolded, operations: int, named: Sequence[Setting]
) -> None:
    """Refuse a cell of listed operations where the named space group would make another cell.

    Many programs leave the name of a space group beside `x,y,z` and all atoms of the cell; others
    lose the operations.
    """
    others = [other for _, other in contents.readings(contents.fitting(named)).cells]
    if any(cell.same_atoms(other, contents.lattice) for other in others):
        return
    name = f"{named[0].symbol} (number {named[0].number})"
    confirms = contents.announced.confirms
    if confirms(cell) and not any(confirms(other) for other in others):
        cell.remarks.append(
            "The operations that it lists are read; formula and Z say that its atoms are not of"
            f" {name}."
        )
        return
    what = "only x,y,z" if operations == 1 else f"{operations} symmetry operations"
    raise Unreadable(
        f"lists {what} but names the space group {name}, which would make other atoms of its list;"
        " list all operations of that group or none of them, or name the space group P 1 where the"
        " list holds all atoms"
    )


def _cell_of_named(contents: _Contents, named: Sequence[Setting], by_number: bool) -> Unfolded:
    """The cell of a block that names its space group and lists no operations."""
    name = f"{named[0].symbol} (number {named[0].number})"
    fitting = contents.fitting(named)
    if not fitting:
        raise Unreadable(
            f"names the space group {name}, whose operations do not keep its lattice; "
            "mend lengths and angles, or write the symbol for these axes"
        )
    readings = contents.readings(fitting)
    if not readings.cells:
        return contents.unfold(fitting[0].operations)  # which says why it is no cell
    left = _likeliest(contents, readings.cells)
    if by_number:
        left = [one for one in left if is_standard(one[0])] or left
    if len(left) > 1 or (by_number and not is_standard(left[0][0])):
        ways = " or ".join(f"'{setting}'" for setting, _ in left[:3])
        raise Unreadable(
            f"does not say which setting of its space group {name} it means, and its atoms fit"
            f" several; write {ways}, or list its symmetry operations"
        )
    setting, cell = left[0]
    if by_number and len(named) > 1:
        cell.remarks.append(
            f"It names its space group by the number {setting.number} alone; '{setting}' is read."
        )
    elif len(readings.cells) > 1 or readings.some_failed:
        cell.remarks.append(
            f"It does not say its setting; '{setting}' is read, in which its atoms add up, lie"
            " apart or are on special positions."
        )
    return cell


def _likeliest(
    contents: _Contents, cells: list[tuple[Setting, Unfolded]]
) -> list[tuple[Setting, Unfolded]]:
    """The cells that add up, with the multiplicities of the list and fewest free coordinates."""
    left = [one for one in cells if not contents.problem(one[1])] or cells
    left = [one for one in left if _is_as_counted(contents.sites, one[1])] or left
    fewest = min(cell.free for _, cell in left)
    return [one for one in left if one[1].free == fewest]


def _is_as_counted(sites: Sites, cell: Unfolded) -> bool:
    """Whether each atom stands for as many as its row says, where rows say it."""
    pairs = list(zip(sites.multiplicities, cell.counts, strict=True))
    return any(said for said, _ in pairs) and all(said in (None, count) for said, count in pairs)


def _check_multiplicities(sites: Sites, cell: Unfolded, announced: Announced) -> None:
    """Refuse a cell in which an atom occurs otherwise than its row says.

    Where formula and Z speak for the cell, that is a remark.
    """
    for name, said, count in zip(sites.names, sites.multiplicities, cell.counts, strict=True):
        if said in (None, count):
            continue
        if not announced.confirms(cell):
            raise Unreadable(
                f"gives {name} the multiplicity {said}, and its symmetry makes {count} of it; "
                "mend its space group and operations, or the multiplicities"
            )
        cell.remarks.append(
            f"It gives {name} the multiplicity {said} where symmetry, formula and Z make"
            f" {count} of it."
        )

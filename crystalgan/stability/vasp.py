"""Inputs of a VASP relaxation: the Materials Project's settings, but for the smearing and the
family of the POTCARs.

POTCARs belong to a VASP licence: they are named here, never included.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from crystalgan.errors import InputError

if TYPE_CHECKING:
    from pymatgen.core import Structure

# pymatgen's name of the POTCARs, and that of the archive on VASP's portal
FAMILY, FOLDER = "PBE_54", "potpaw_PBE.54"
# Where PBE_54 has another name than the old PBE that MPRelaxSet is written for, or the set names
# none: pymatgen's PBE54Base.
OTHER_NAMES = {
    "W": "W_sv",  # W_pv is not in PBE_54
    "Yb": "Yb_3",  # the Materials Project has left Yb_2: most compounds hold Yb(III)
    "Po": "Po_d",
    "At": "At",
    "Rn": "Rn",
    "Fr": "Fr_sv",
    "Ra": "Ra_sv",
    "Am": "Am",
    "Cm": "Cm",
    "Cf": "Cf",
}
DIVALENT = "Yb_3 holds Yb(III); take Yb_2 in its place where ytterbium is divalent, as in YbH2."
# What the INCAR of each choice sets, and what is said of it. MPRelaxSet's own is ISMEAR -5: its
# forces and stress are wrong where bands are partly filled (VASP's manual on ISMEAR), and a
# candidate may be a metal. So it is not taken unless it is asked for.
SMEARING: dict[str, tuple[dict[str, float], str]] = {
    "gaussian": (
        {"ISMEAR": 0, "SIGMA": 0.05},
        "Gaussian smearing, which may be used whether or not the crystal is a metal.",
    ),
    "metal": (
        {"ISMEAR": 1, "SIGMA": 0.2},
        (
            "Methfessel-Paxton smearing, for metals: good forces. It must not be used where there"
            " is a band gap."
        ),
    ),
    "mp": (
        {"ISMEAR": -5, "SIGMA": 0.05},
        (
            "The tetrahedron method, as in MPRelaxSet: in a metal its forces and stress are wrong,"
            " so relax no metal with it."
        ),
    ),
}


def check_smearing(name: str) -> None:
    """Raise InputError for a smearing that is none of SMEARING."""
    if name not in SMEARING:
        raise InputError(f"The smearing {name!r} is not one of {', '.join(SMEARING)}.")


def inputs(structure: Structure, title: str, smearing: str = "gaussian") -> dict[str, str]:
    """Return POSCAR, INCAR, KPOINTS and POTCAR.names of a relaxation, by file name.

    Species are sorted, one block each; `title` is the comment of the POSCAR. Raises InputError for
    an element that PBE_54 has no POTCAR of, or an unknown smearing.
    """
    from pymatgen.io.vasp import Poscar
    from pymatgen.io.vasp.sets import MPRelaxSet

    check_smearing(smearing)
    settings, words = SMEARING[smearing]
    known = MPRelaxSet.CONFIG["POTCAR"] | OTHER_NAMES
    if missing := sorted({site.specie.symbol for site in structure} - set(known)):
        raise InputError(
            f"{structure.composition.reduced_formula}: there is no POTCAR of {', '.join(missing)}"
            f" in {FAMILY}."
        )
    with warnings.catch_warnings():
        # pymatgen warns of everything that is set otherwise than in its set, as here on purpose
        warnings.simplefilter("ignore")
        made = MPRelaxSet(structure, user_incar_settings=settings)
        poscar, incar, kpoints = made.poscar, made.incar, made.kpoints
    notes = [words]
    if incar["ISMEAR"] != settings["ISMEAR"]:
        notes.append(
            f"ISMEAR is {incar['ISMEAR']}: the tetrahedron method needs more k-points than there"
            " are."
        )
    names = [known[symbol] for symbol in poscar.site_symbols]
    where = f"{FAMILY}, the folder {FOLDER} of your VASP licence"
    about = [f"{where}; in the order of the species in POSCAR."]
    about += [DIVALENT] if "Yb_3" in names else []
    return {
        "POSCAR": (
            Poscar(poscar.structure, comment=title, sort_structure=False).get_str(
                significant_figures=12
            )
        ),
        "INCAR": _comments(notes) + str(incar),
        "KPOINTS": str(kpoints),
        "POTCAR.names": _comments(about) + "".join(f"{name}\n" for name in names),
    }


def _comments(lines: list[str]) -> str:
    return "".join(f"# {line}\n" for line in lines)


def readme(smearing: str) -> str:
    """What the folders hold, how a POTCAR is put together, and what was set otherwise than by the
    Materials Project."""
    from importlib.metadata import version

    settings, words = SMEARING[smearing]
    ismear, sigma = (f"{settings[name]:g}" for name in ("ISMEAR", "SIGMA"))
    others = " and ".join(
        f"{name} ({given[0]['ISMEAR']:g})" for name, given in SMEARING.items() if name != smearing
    )
    return f"""VASP inputs for the relaxation of one candidate in each folder.

They are those of MPRelaxSet (pymatgen {version("pymatgen")}), with these differences.

Smearing: ISMEAR {ismear}, SIGMA {sigma}. {words}
Whether a candidate is a metal is not known before.
The other choices of ISMEAR in the export are {others}.

POTCAR: the names are of the family {FAMILY}, the folder {FOLDER},
where MPRelaxSet is written for the old PBE.
The families differ: PBE and PBE_52 have W_pv, PBE_54 has W_sv in its place.
Yb is Yb_3 here and Yb_2 in MPRelaxSet. {DIVALENT}
Energies of different POTCARs must not be compared with each other.

POTCARs come with your own VASP licence. POTCAR.names holds their names in the
order of the species in POSCAR, lines with # apart.
With {FOLDER} at $POTPAW this makes the POTCAR of a folder:

    for name in $(grep -v '^#' POTCAR.names); do cat "$POTPAW/$name/POTCAR"; done > POTCAR
"""

"""Elements as files name them, by a table that was written by hand."""

from __future__ import annotations

import pytest

from crystalgan.data.elements import element, elements
from crystalgan.data.files import Unreadable


def words(text: str) -> list[str]:
    return text.split()


@pytest.mark.parametrize(
    ("symbol", "names"),
    [
        (
            "Pd",
            (
                "Pd Pd1 Pd12 Pd2+ Pd0+ Pd+2 Pd+ Pd++ Pd_pv Pd_1 Pd1A PD PD1 PD2+ pd pd1 Pda Pd(1)"
                " Pd(2+) Pd1' Pd#2 Pd@1 Pd_sv_GW PdA"
            ),
        ),
        ("H", "H H1 H12 H- H1- H-1 H-0.5 H0.5+ H1A H1B H1C H(1) H1' H1'' h h3 H_T H_1 H*"),
        ("D", "D D1 D+ D1A"),
        ("T", "T T2"),
        ("Ni", "Ni NI ni Ni1 NI1 Ni0+ Ni2+ Ni_pv"),
        ("Fe", "Fe2+ Fe3+ FE Fe1+"),
        ("O", "O O2- O1 O1W O2-_1"),
        ("Hf", "Hf HF hf Hf_pv HF1"),
        ("Ho", "Ho Ho1 HO Ho3+"),
        ("Ca", "Ca CA ca Ca_sv"),
        ("Co", "Co CO co CO1"),
        ("V", "V V1 V_pv v"),
        ("W", "W W1 W_sv"),
        ("Yb", "Yb_2 Yb_3 YB"),
        ("U", "U U4+ u"),
    ],
)
def test_a_symbol_names_its_element(symbol: str, names: str) -> None:
    assert {name: element(name) for name in words(names)} == dict.fromkeys(words(names), symbol)


NONE = (
    "X X1 Xx Va VA Vac vac1 Du M M1 A Q L Me Wat Tw Dx ? . 1 12H Nj Pf Ha Ow nI pD Pd²⁺ Nickel"
    " nickel Palladium Hoct Htet $H -H é"
)
SHARED = (
    "Pd,Ni Pd/Ni Pd|Ni Pd&Ni Pd:Ni Pd;Ni Pd-Ni Pd+Ni (Pd,Ni) (Pd/Ni)1 [Pd,Ni] {Pd,Ni} PdNi PdNi1"
    " Pd1Ni1 Pd_Ni Pd0.5Ni0.5"
)
SHARED += (
    " Pd.5Ni.5 Pd0.5Ni PdNi0.5 0.5Pd+0.5Ni Pd(0.5)Ni(0.5) Ni,Pd,H NiPd Pd2+,Ni2+ Pd2+/Ni2+"
    " Pd=0.5,Ni=0.5"
)


@pytest.mark.parametrize("name", [*words(NONE), "", " ", "Pd1" * 40, "Pd\x00", "Pd!rm"])
def test_what_is_no_element_is_refused(name: str) -> None:
    with pytest.raises(Unreadable, match="no element"):
        element(name)


@pytest.mark.parametrize("name", [*words(SHARED), "Pd Ni", "0.5Pd + 0.5Ni", "Pd 0.5 Ni 0.5"])
def test_a_shared_site_is_refused_by_its_elements(name: str) -> None:
    with pytest.raises(Unreadable, match=r"shared by .*(Pd|Ni).*ordered cell"):
        element(name)


@pytest.mark.parametrize(
    "name",
    [
        "PDNI",
        "PdNiH",
        "PdNi2H",
        "PD,NI",
        "pd,ni",
        "NIH",
        "OH",
        "HW",
        "HPd",
        "PdH",
        "NiB",
        "H0.5D0.5",
        "H,D",
    ],
)
def test_two_elements_in_one_name_are_never_one(name: str) -> None:
    with pytest.raises(Unreadable):
        element(name)


@pytest.mark.parametrize("name", ["Pd0.95", "Pd.5", "0.5Pd", "H1.25", "H.5", "Pd1.", "Pd_0.5"])
def test_a_partly_filled_site_is_refused(name: str) -> None:
    with pytest.raises(Unreadable, match="partly filled"):
        element(name)


@pytest.mark.parametrize(
    ("labels", "formula", "meant"),
    [
        ("HF1 H1", None, "Hf H"),  # as H stands for itself beside it
        ("HF H", None, "Hf H"),
        ("PD1 H1", None, "Pd H"),
        ("NI1 NI2 H1", None, "Ni Ni H"),
        ("PD1 D1", None, "Pd D"),
        ("CO1 H1", None, "Co H"),
        ("CO1 O1 H1", "Co H2 O2", "Co O H"),
        ("CO1 O1 H1", "C H2 O2", "C O H"),
        ("HO1 O1", "Ho2 O3", "Ho O"),
        ("HO1 O1", "H2 O", "H O"),
        ("HF1 HF2", "Hf H2", None),  # one of them may be the hydrogen
        ("HF1 H1", "Hf H2", "Hf H"),
        ("HO1 O1", None, None),
        ("HO1 O1 H1", None, None),
        ("HF1", None, None),
        ("HF1 NI1", None, None),
        ("NI1 I1", None, None),
        ("NI1 I1", "Ni I2", "Ni I"),
        ("NB1 B1", None, None),
        ("OW HW1 HW2", None, None),
        ("OW HW1 HW2", "H2 O", "O H H"),
        ("HW1 W1", "H2 W", None),
        ("Ow Ha Hb", "H2 O", "O H H"),
        ("Ow Ha Hb", None, None),
        ("NIB H1", "H Ni", "Ni H"),
        ("PDA PDB H1", "Pd2 H", "Pd Pd H"),
        ("PD1 H1", "PD H", "Pd H"),  # a formula in capitals says no more than the labels
        ("PD1 P1", "Pd P", "Pd P"),
        ("YA YB H1", "Y2 H", "Y Y H"),
        ("Hf1 H1", "Hf H", "Hf H"),
        ("Ho1 H1 O1", None, "Ho H O"),
        ("NI1 H1", "?", "Ni H"),
        ("NI1 H1", "nonsense 12", "Ni H"),
        ("NI1 D1", "Ni D", "Ni D"),
        ("HD1 NI1", "Ni D", "H Ni"),
        ("T1 H1", None, None),
        ("D1 Pd1", None, "D Pd"),
        ("T1 O1", "Si O2", None),
        ("Hoc Pd", None, None),
        ("Hoc Pd", "Pd H", "H Pd"),
        ("Hoa O1", "Ho2 O3", "Ho O"),
    ],
)
def test_labels_are_decided_by_their_list_and_the_formula(
    labels: str, formula: str | None, meant: str | None
) -> None:
    if meant is None:
        with pytest.raises(Unreadable, match=r"write|no element"):
            elements(words(labels), formula, labels=True)
    else:
        assert elements(words(labels), formula, labels=True) == words(meant)


@pytest.mark.parametrize(
    ("symbols", "formula", "meant"),
    [
        ("HF H", None, "Hf H"),
        ("HF", None, "Hf"),
        ("HO O", None, "Ho O"),
        ("CO O", "CO2", "Co O"),
        ("NI H", "NI H", "Ni H"),
    ],
)
def test_a_type_symbol_of_two_capitals_is_one_element(
    symbols: str, formula: str | None, meant: str
) -> None:
    assert elements(words(symbols), formula) == words(meant)


def test_every_element_is_read_in_any_case() -> None:
    from ase.data import chemical_symbols

    for symbol in chemical_symbols[1:]:
        for name in (
            symbol,
            symbol.upper(),
            symbol.lower(),
            f"{symbol}1",
            f"{symbol.upper()}2+",
            f"{symbol}_pv",
        ):
            assert element(name) == symbol, name

"""ATT&CK techniques: the tables, and how they are joined."""

import re

from gateway.decision import Reason
from gateway.techniques import BY_CATEGORY, BY_REASON, techniques

ID = re.compile(r"T\d{4}(\.\d{3})?")


def test_ids_are_well_formed() -> None:
    """Every technique is an ATT&CK id, and no row is empty."""
    for found in (*BY_REASON.values(), *BY_CATEGORY.values()):
        assert found
        assert all(ID.fullmatch(technique) for technique in found)


def test_reasons_and_categories_are_joined_without_repetition() -> None:
    """The techniques of the reason come first, then those of each category, each once."""
    assert techniques(Reason.LISTED) == ()
    assert techniques(Reason.SNI_MISMATCH) == ("T1090.004",)
    assert techniques(Reason.LISTED, ["c2", "tunnel"]) == ("T1071", "T1572")
    assert techniques(Reason.PROTOCOL, ["tunnel", "vpn"]) == ("T1572", "T1090")
    assert techniques(Reason.LISTED, ["nobody-knows"]) == ()


def test_fronting_has_its_technique_everywhere() -> None:
    """Every way to name another host than the tunnel's is domain fronting."""
    for reason in (Reason.SNI_MISSING, Reason.SNI_MISMATCH, Reason.HOST_MISMATCH, Reason.ECH):
        assert "T1090.004" in techniques(reason)

"""This month's reads of data routes: by family, and by where their values came from."""

from collections.abc import Mapping

from ..edge.data_replies import FamilyBody, ReadsBody
from ..ledger import places
from ..ledger.reading import Reading


def body(reading: Reading) -> ReadsBody:
    """All families that were read, and their sum."""
    families: dict[str, FamilyBody] = {}
    for family in places.FAMILIES:
        tiers = {tier: reading.total("data", family, tier) for tier in places.TIERS}
        if any(tiers.values()):
            families[family] = _family(tiers, reading.total("data_saved_bytes", family))
    every = {tier: sum(each["reads"][tier] for each in families.values()) for tier in places.TIERS}
    return {"total": _family(every, sum(each["bytesSaved"] for each in families.values())), "families": families}


def _family(tiers: Mapping[str, int], saved: int) -> FamilyBody:
    reads, hits = sum(tiers.values()), sum(tiers[tier] for tier in places.SERVED_TIERS)
    return {
        "reads": dict(tiers),
        "hitRatio": round(hits / reads, 4) if reads else None,
        "originCallsSaved": hits,
        "bytesSaved": saved,
    }

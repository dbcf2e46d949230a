"""Questions to the AI about servers: ``parameters.fleet`` of ``POST /api/ai/supervisor``.

The cache finds an answer by the minute in the servers' place. What a model is told is read when an answer is missing:
1 command for the first one of a minute on an instance, none for those that follow.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..ai.attached import Supplement
from ..ai.question import AnyQuestion, Json, Question
from ..data.access import require_role
from ..edge.problems import Problem
from ..edge.request import Request
from .brief import MOST_CHARS, brief
from .fleet import Fleet, read

if TYPE_CHECKING:
    from ..parts import Parts

PARAMETER, SIMULATED = "fleet", "simulated"
MINUTE_MS = 60_000


async def informed(request: Request, parts: "Parts", question: Question) -> tuple[Question, Supplement]:
    """The question as answers to it are found, and what is added to it. For those who may see servers. Raises Problem.

    ``parameters.fleet`` is true, or "simulated".
    """
    await require_role(request, parts, ("viewer", "admin"))
    minute = parts.clock.now_ms() // MINUTE_MS
    simulated = question.parameters[PARAMETER] == SIMULATED
    mark: Json = {SIMULATED: minute} if simulated else minute
    marked = replace(question, parameters={**question.parameters, PARAMETER: mark})

    async def complete() -> AnyQuestion:
        return replace(marked, attached={PARAMETER: await _brief(parts, minute, simulated=simulated)})

    return marked, Supplement(complete, MOST_CHARS, MINUTE_MS)


async def _brief(parts: "Parts", minute: int, *, simulated: bool) -> Mapping[str, Json]:
    """What models are told in this minute."""
    fleet = Fleet.of(parts)
    kept = fleet.briefs.get(simulated)
    if kept is not None and kept[0] >= minute:
        return kept[1]
    try:
        source: str = await read(parts)
    except Problem:
        source = "none"
    now_ms = fleet.looked_ms = parts.clock.now_ms()
    state, _ = fleet.state(now_ms, simulated=simulated)
    if source == "memory" and fleet.read_ms is None and not state.servers:
        source = "none"
    at_ms = now_ms if simulated or fleet.read_ms is None else fleet.read_ms
    percent = parts.settings.alert_server_percent
    made = brief(state, at_ms=at_ms, source=source, simulated=simulated, percent=percent)
    if source in ("redis", "memory"):
        fleet.briefs[simulated] = (minute, made)
    return made

"""``POST /api/llm/analyze``: a statement or a plan is explained once, for all viewers, and kept for a day."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from ..ai import completions
from ..ai.answers import Answer
from ..ai.owners import Shelf
from ..ai.respond import AnswerOutcome, Supervisor, guarded, provenance, respond
from ..base.encode import to_json
from ..base.values import dataclass
from ..breaker.circuit import view
from ..cache import epochs
from ..cache.freshness import directives
from ..call import Answered
from ..data.access import require_role
from ..data.origins.port import OriginFailed
from ..edge.headers import seconds_until
from ..edge.limits import subject_of
from ..edge.problems import Problem
from ..edge.replies import AnalysisBody
from ..edge.request import Reply, Request
from ..redis import keys
from . import analysis
from .literals import canonical, has_parameters, is_one_query
from .watching import Databases

if TYPE_CHECKING:
    from ..parts import Parts

PATH = "/api/llm/analyze"
MAX_BODY_BYTES = 256 * 1024
MOST_CHARS = 20_000
"""Of a statement as it comes, and of all that is sent to a model."""
_ROUTE = PATH.removeprefix("/api/")
_PLAN_S = 3.0

type Sql = Annotated[str, StringConstraints(min_length=1, max_length=MOST_CHARS)]


class Analyze(BaseModel):
    """A statement, or a plan in JSON. With a connection, a statement's plan is fetched from it without running it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    sql: Sql | None = None
    plan: JsonValue = None
    kind: Literal["analysis", "plan", "tuning"] = "analysis"
    connection_id: Annotated[str | None, Field(alias="connectionId", max_length=200)] = None
    dialect: Literal["postgres", "oracle"] = "postgres"
    language: Literal["ko", "en"] = "en"
    stream: bool = False

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if (self.sql is None) == (self.plan is None):
            raise PydanticCustomError("one_of", "sql: send sql, or plan")
        if self.connection_id is not None and self.sql is None:
            raise PydanticCustomError("needs_sql", "connectionId: a plan is fetched for sql only")
        return self


@dataclass(frozen=True, slots=True)
class Analysis(Supervisor):
    """How an analysis is worded; streams are the supervisor's."""

    kind: str

    def whole(self, request: Request, outcome: AnswerOutcome, result: Answered[Answer]) -> bytes:
        """The text, and where it came from."""
        body: AnalysisBody = {
            "analysis": completions.text_in(result.value.reply["choices"][0]["message"]),
            "kind": self.kind,
            "model": result.value.model,
            "requestId": request.id,
            **provenance(outcome),
        }
        return to_json(body)


async def analyze(request: Request, parts: "Parts") -> Reply:
    """Read, mask, guard, respond. Raises Problem."""
    parts.settings.require_ai()
    await require_role(request, parts, ("viewer", "admin"))
    body = await request.json(Analyze, MAX_BODY_BYTES)
    shows = parts.settings.db_show_literals
    statement = canonical(body.sql, body.dialect, shows_literals=shows) if body.sql is not None else ""
    if body.sql is not None and not statement:
        raise Problem("invalid_request", "sql: there is nothing in it but white space and comments.")
    plan: Any = body.plan
    caller = await request.identify(parts)
    if body.sql is not None and body.connection_id is not None:
        subject = subject_of(caller, parts.settings.policy_for(PATH))
        # Nobody who has used up the limit has the database asked meanwhile.
        if (refused := await parts.guard.refusal(subject, request.deadline)) is not None:
            return respond(request, refused, Analysis("", body.kind), stream=body.stream)
        plan = await _plan_from(parts, body.connection_id, body.sql)
    if plan is not None:
        try:
            plan = analysis.plan_of(plan, shows_literals=shows)
        except ValueError as e:
            raise Problem("invalid_request", f"plan: {e}.") from None
    question = analysis.question(body.kind, body.dialect, body.language, statement, plan)
    if (size := len(question.messages[-1].content)) > MOST_CHARS:
        detail = f"sql, plan: in one spelling they are {size} characters; at most {MOST_CHARS} characters are sent."
        raise Problem("invalid_request", detail)
    # Another model is another answer, though the same is asked.
    models = ",".join(f"{each.name}:{each.model}" for each in parts.settings.providers)
    names = (*epochs.of_tags(_ROUTE, ("tms:llm", f"tms:llm:{body.kind}")),)
    return await guarded(
        request,
        parts,
        path=PATH,
        caller=caller,
        question=question,
        shelf=Shelf(models, body.kind, question.session, names),
        directives=directives(request.header("cache-control")),
        form=Analysis(question.session, body.kind),
        stream=body.stream,
    )


async def _plan_from(parts: "Parts", connection: str, sql: str) -> object:
    """What the database would do. Raises Problem."""
    watched = Databases.of(parts).get(connection)
    if watched.connection.kind not in ("postgres", "neon"):
        reason = (
            f"connectionId: a connection of the kind {watched.connection.kind} cannot be asked for plans; leave it out."
        )
        raise Problem("invalid_request", reason)
    if not is_one_query(sql):
        raise Problem(
            "invalid_request", "sql: a plan is fetched for one SELECT that neither writes nor is followed by others."
        )
    if has_parameters(sql):
        raise Problem("invalid_request", "sql: there is no plan without values; send them in place of ?, $1 and :name.")
    circuit, now_ms = parts.circuits.known(keys.circuit_of_origin(watched.connection.circuit)), parts.clock.now_ms()
    if view(circuit, now_ms) == "refuse":
        wait_s = seconds_until(circuit.until_ms, now_ms)
        detail = f"The plan cannot be read now (the database fails and is not asked). Try again in {wait_s} s."
        raise Problem("origin_unavailable", detail, wait_s)
    try:
        return await watched.reader.explain(sql, _PLAN_S)
    except OriginFailed as e:
        if e.kind in ("rejected", "missing", "raised"):
            raise Problem("invalid_request", "sql: the database has no plan for it, as it is not valid there.") from e
        raise Problem("origin_unavailable", f"The plan cannot be read now ({e.kind}). Try again.", 1) from e

"""The tables of ``docs/clients.md`` say what the code does."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lib.ai import needs
from lib.ai.completions import may_be_kept
from lib.ai.openai_errors import status_of
from lib.ai.openai_schemas import MAX_BODY_BYTES
from lib.ai.providers.cloud_run import body_for
from lib.ai.providers.dialects import CLOUD_RUN, DIALECTS, PLAIN, Dialect
from lib.ai.providers.port import MAX_REPLY_BYTES, MAX_STREAM_BYTES
from lib.ai.providers.requests import Sampling, body_of
from lib.ai.question import BESIDE_THE_ANSWER, FOR_RECORDS, GUARDS_OWN, ChatRequest, Message, Question, hash_of
from lib.edge.problems import KINDS
from lib.edge.replies import Provenance

PAGE = (Path(__file__).parents[1] / "docs" / "clients.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the rows under the first table that begins with that heading."""
    table = PAGE[PAGE.index(f"| {heading} |") :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def names(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def sent(fields: Mapping[str, Any], *, stream: bool = False) -> dict[str, Any]:
    """What a provider without a dialect of its own is sent."""
    return body_of(ChatRequest("s", {"model": "m", "messages": [], **fields}), "chosen", PLAIN, (), stream=stream)


def is_forwarded(name: str) -> None:
    """As it came, whatever it is."""
    for value in VALUES:
        assert sent({name: value})[name] == value


def is_forwarded_but_not_to_a_backend(name: str) -> None:
    """Which has ``parameters`` for what is forwarded."""
    is_forwarded(name)
    question = ChatRequest("s", {"model": "m", "messages": [{"role": "user", "content": "q"}], name: "x", "seed": 1})
    assert body_for(question)["parameters"] == {"seed": 1}


def is_the_model_that_is_asked(name: str) -> None:
    """Not the one that was named."""
    assert sent({name: "x"})[name] == "chosen"


def is_what_the_guard_says(name: str) -> None:
    """By how the answer is wanted."""
    for value in VALUES:
        assert name not in sent({name: value})
        assert sent({name: value}, stream=True)[name] is True


def goes_out_with_the_usage(name: str) -> None:
    """To streams alone."""
    for value, found in ({"a": 1}, {"a": 1}), ({"include_usage": False}, {}), (None, {}):
        assert sent({name: value}, stream=True)[name] == {**found, "include_usage": True}
        assert name not in sent({name: value})


def goes_out_with_a_record(name: str) -> None:
    """Which ``store`` asks for."""
    for value in VALUES:
        given = {"store": True, "metadata": value, name: True if name == "store" else value}
        assert sent(given)[name] == given[name]
        assert ChatRequest("s", given).keeps_a_record
        assert name not in sent({"metadata": value})
        assert name not in sent({"metadata": value, "store": False})


VALUES: tuple[Any, ...] = (None, 0, "x", [], {"a": [1.5]})
BECOMES: dict[str, Callable[[str], None]] = {
    "forwarded as it came": is_forwarded,
    "forwarded as it came, with": is_forwarded,
    "forwarded as it came, well or badly typed": is_forwarded,
    "forwarded as it came, but not to a backend of your own": is_forwarded_but_not_to_a_backend,
    "the [model that is asked]": is_the_model_that_is_asked,
    "whether the provider is asked for a stream": is_what_the_guard_says,
    "forwarded, with `include_usage`": goes_out_with_the_usage,
    "forwarded together with `store: true`": goes_out_with_a_record,
}
"""What is said of a field, and what shows that it is true."""


def hashed(**fields: Any) -> str:
    """The key of a request."""
    return hash_of("r", "u", ChatRequest("s", {"model": "m", "messages": [], **fields}))


def test_what_becomes_of_a_field() -> None:
    """Every field that is not just forwarded is in the table; what is said of each is tried."""
    told = {name: row for row in rows("field") for name in names(row[0]) or ["a_made_up_name"]}
    assert told.keys() == {*GUARDS_OWN, *FOR_RECORDS, *BESIDE_THE_ANSWER, "messages", "a_made_up_name"}
    for name, (_, becomes, another) in told.items():
        said = max((each for each in BECOMES if becomes.startswith(each)), key=len)
        BECOMES[said](name)
        keys = {hashed(**{name: value}) for value in (1, "x", [1], {"a": 1})}
        assert len(keys) == (4 if another == "yes" else 1), name
    one, other = (hash_of("r", "u", ChatRequest("s", {}, {"groq": model})) for model in "ab")
    assert (told["model"][2], one == other) == ("by the model that it means", False)


def test_what_asks_for_nothing() -> None:
    """Values that every provider can do."""
    told = names(PAGE.partition("a last message that is not the user's. ")[2].partition(" ask for nothing")[0])
    assert len(told) == 5
    for each in told:
        name, _, value = each.partition(": ")
        assert name not in needs.of({name: json.loads(value)})


def test_what_a_provider_cannot_do() -> None:
    """A row for each dialect."""
    dialects: dict[str, Dialect] = {"cloud-run": CLOUD_RUN, **DIALECTS}
    told = {}
    for name, cannot, otherwise, without in rows("provider or dialect"):
        words = names(otherwise)
        told[names(name)[0]] = (
            set(names(cannot)),
            dict(zip(words[::2], words[1::2], strict=True)),
            set(names(without)),
        )
    assert told == {
        name: (
            set(each.cannot),
            dict(each.renamed),
            set(each.foreign) | (set() if each.stream_options else {"stream_options"}),
        )
        for name, each in dialects.items()
    }


def test_which_answers_are_kept() -> None:
    """By the reason that they end with."""
    for cell, kept in rows("`finish_reason`"):
        others = ["eos", "SAFETY", "STOP", "MAX_TOKENS", "", "None"] if "any other word" in cell else []
        for finish in [*names(cell), *others]:
            choice = {"finish_reason": finish, "message": {"content": "x"}}
            found = (may_be_kept(choice, limited=False), may_be_kept(choice, limited=True))
            assert (
                found == {"yes": (True, True), "where": (False, True), "no": (False, False)}[re.split(r"\W", kept)[0]]
            )


def test_statuses() -> None:
    """All that an error may have under ``/api/v1``, and which say that they are not to be repeated."""
    found = {(int(status), "x-should-retry" in cell) for cell, *_ in rows("status") for status in _statuses(cell)}
    assert found == {
        (status, "x-should-retry" in headers)
        for code, kind in KINDS.items()
        for wait_s in (1, 600, 601, None)
        for status, headers in [status_of(kind.status, code, wait_s)]
    }


def _statuses(cell: str) -> list[str]:
    return re.findall(r"\b[2-5][0-9]{2}\b", cell)


def test_sizes() -> None:
    """A body's and a reply's."""
    assert "A body may have 4 MiB, and so may a reply." in PAGE
    assert "The events of a stream may have 16 MiB together" in PAGE
    assert {MAX_BODY_BYTES, MAX_REPLY_BYTES} == {4 * 1024 * 1024}
    assert MAX_STREAM_BYTES == 16 * 1024 * 1024


def test_what_is_added() -> None:
    """All members of ``x_breakwater``."""
    told = PAGE.partition("Added is `x_breakwater`")[2].partition("of an answer that was computed")[0]
    assert set(names(told)) == set(Provenance.__annotations__)


def test_what_chat_models_get_of_the_parameters() -> None:
    """Under the names that the page gives them."""
    told = names(PAGE.partition("Of `parameters`, chat models get ")[2].partition("; a backend")[0])
    given: dict[str, Any] = {"temperature": 0.5, "topP": 0.5, "maxTokens": 5, "stop": ["x"]}
    assert told == list(given)
    question = Question("s", (Message("user", "q"),), {**given, "seed": 1})
    assert set(Sampling.of(question).fields(PLAIN)) == {"temperature", "top_p", "max_completion_tokens", "stop"}
    assert body_for(question)["parameters"] == {**given, "seed": 1}

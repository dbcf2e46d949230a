"""The tables of ``docs/clients.md`` say what the code does."""

import re
from pathlib import Path

from lib.ai.completions import may_be_kept
from lib.ai.providers.dialects import CLOUD_RUN, DIALECTS, Dialect
from lib.ai.question import BESIDE_THE_ANSWER, FOR_RECORDS, GUARDS_OWN

PAGE = (Path(__file__).parents[1] / "docs" / "clients.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the rows under the first table that begins with that heading."""
    table = PAGE[PAGE.index(f"| {heading} |") :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def names(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def test_what_becomes_of_a_field() -> None:
    """Every field that is not just forwarded is in the table, and those that make no key are said to."""
    found = {name: makes_a_key for cell, _, makes_a_key in rows("field") for name in names(cell)}
    special = {*GUARDS_OWN, *FOR_RECORDS, *BESIDE_THE_ANSWER}
    assert found.keys() == special | {"messages"}
    assert {name for name, makes_a_key in found.items() if makes_a_key == "no"} == special - {"model"}


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
        for finish in names(cell):
            choice = {"finish_reason": finish, "message": {"content": "x"}}
            found = (may_be_kept(choice, limited=False), may_be_kept(choice, limited=True))
            assert (
                found == {"yes": (True, True), "where": (False, True), "no": (False, False)}[re.split(r"\W", kept)[0]]
            )

"""docs/cases.md: every case that a test names is there, and says whether a test names it."""

import pytest

from dev.cases import ROOT, TARGET, cases, named, numbers, with_table

CASES = cases(TARGET.read_text())
TESTS = named(ROOT / "tests")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CASE 4: nothing is written", [4]),
        ("CASES 3 and 17: a cheaper call passes", [3, 17]),
        ("(CASES 19 to 22)", [19, 20, 21, 22]),
        ("CASES 24, 26-28", [24, 26, 27, 28]),
        ("CASE 9, on the real Redis, 12 times", [9]),
        ("CASES 1, 8: twice. CASE 11", [1, 8, 11]),
        ("in any case 5", []),
    ],
)
def test_numbers(text: str, expected: list[int]) -> None:
    """Lists, ranges and several mentions are read."""
    assert list(numbers(text)) == expected


def test_cases_are_numbered_in_order() -> None:
    """From 1 on, without a gap."""
    assert list(CASES) == list(range(1, len(CASES) + 1))


def test_every_case_that_is_named_exists() -> None:
    """Wherever a file of the tests names a case, in a docstring or in a comment."""
    unknown = {
        f"{path.relative_to(ROOT)}: CASE {number}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path.name != "test_cases.py"
        for number in numbers(path.read_text())
        if number not in CASES
    }
    assert unknown == set()


@pytest.mark.parametrize("number", CASES)
def test_a_case_without_tests_is_marked(number: int) -> None:
    """It is marked as open as long as no test names it, and no longer."""
    is_open = " *Open: " in CASES[number]
    assert is_open is (number not in TESTS), f"case {number} in docs/cases.md: tests that name it: {TESTS.get(number)}"


def test_the_table_is_current() -> None:
    """As `make check` says."""
    page = TARGET.read_text()
    assert page == with_table(page, TESTS)

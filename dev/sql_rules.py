"""What the local backend says of a statement or a plan: rules over words, in Korean and English."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

type Language = Literal["ko", "en"]

_LARGE = 10_000
_NAME = r"[\w.\"$]+"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is wrong with a statement, and what to do, in both languages. ``{}`` is what was found."""

    found: Callable[[str], str | None]
    ko: str
    en: str


def _by(pattern: str) -> Callable[[str], str | None]:
    compiled = re.compile(pattern, re.IGNORECASE | re.DOTALL)

    def find(statement: str) -> str | None:
        found = compiled.search(statement)
        return found[1] if found and found.groups() else found[0] if found else None

    return find


def _cartesian(statement: str) -> str | None:
    """Several tables with commas, and no condition that has columns on both sides."""
    tables = re.search(r"\bfrom\s+(.*?)(?:\bwhere\b|\bgroup\b|\border\b|\blimit\b|$)", statement, re.I | re.S)
    if re.search(r"\bcross\s+join\b", statement, re.I):
        return "cross join"
    if tables is None or "," not in tables[1] or "(" in tables[1]:
        return None
    joined = re.search(rf"{_NAME}\s*\.\s*{_NAME}\s*=\s*{_NAME}\s*\.\s*{_NAME}", statement)
    return None if joined else tables[1].strip()


def _unbounded(statement: str) -> str | None:
    found = re.match(r"\s*(update|delete)\b(?!.*\bwhere\b)", statement, re.I | re.S)
    return found[1] if found else None


RULES: Mapping[str, Rule] = {
    "select-star": Rule(
        _by(r"\bselect\s+(?:distinct\s+)?(?:\w+\s*\.\s*)?(\*)"),
        "모든 열을 읽습니다(select *). 필요한 열만 적으면 읽는 양이 줄고 인덱스만으로 답할 수 있습니다.",
        "All columns are read (select *). Name the columns that are needed: less is read, and an index may suffice.",
    ),
    "function-on-column": Rule(
        _by(r"\b(?:where|and|or)\s+(lower|upper|trim|date|substr|substring|to_char|coalesce|extract|cast)\s*\("),
        "조건에서 열에 함수를 씁니다({}). 그 열의 인덱스를 쓸 수 없으니 범위 조건이나 표현식 인덱스로 바꾸세요.",
        "A condition calls a function on a column ({}): its index cannot be used. Use a range, or an expression index.",
    ),
    "expression-on-column": Rule(
        _by(
            rf"\b(?:where|and|or|on)\s+({_NAME}(?:\s*\.\s*{_NAME})?\s*(?:[-+*/]\s*[\w?]+|::\s*\w+))\s*(?:=|<|>|\bbetween\b)"
        ),
        "조건에서 열을 계산하거나 형을 바꿉니다({}). 인덱스를 쓸 수 있도록 열은 그대로 두고 다른 쪽을 바꾸세요.",
        "A condition computes or casts a column ({}): its index cannot be used. Leave the column as it is, and change "
        "the other side.",
    ),
    "leading-wildcard": Rule(
        _by(r"\b(i?like)\s+'%"),
        "like 패턴이 %로 시작합니다. B-트리 인덱스를 쓸 수 없으니 트라이그램 인덱스(pg_trgm)를 고려하세요.",
        "A like pattern begins with %: no B-tree index can be used. Consider a trigram index (pg_trgm).",
    ),
    "not-in": Rule(
        _by(r"\bnot\s+in\s*\(\s*select\b"),
        "not in (select ...)은 하위 질의에 null이 있으면 아무 행도 돌려주지 않습니다. not exists를 쓰세요.",
        "not in (select ...) yields no row at all once the subquery has a null. Use not exists.",
    ),
    "cartesian": Rule(
        _cartesian,
        "조인 조건이 없는 테이블이 있습니다({}). 모든 행의 조합(카티션 곱)이 만들어집니다.",
        "Tables have no join condition ({}): all combinations of their rows are made (a cartesian product).",
    ),
    "no-where": Rule(
        _unbounded,
        "{}에 where가 없습니다. 모든 행이 바뀝니다.",
        "The {} has no where: every row is changed.",
    ),
    "offset": Rule(
        _by(r"\b(offset)\b"),
        "offset은 건너뛸 행도 모두 읽습니다. 마지막 키를 조건으로 이어서 읽으세요.",
        "offset reads all rows that it skips. Go on from the last key instead.",
    ),
    "or": Rule(
        _by(r"\bwhere\b.*\b(or)\b"),
        "or 조건은 인덱스 하나로 찾기 어렵습니다. union all로 나누거나 각 열에 인덱스를 두세요.",
        "An or is hard to look up in one index. Divide it by union all, or give each column an index.",
    ),
    "order-without-limit": Rule(
        lambda text: (
            "order by"
            if re.search(r"\border\s+by\b", text, re.I) and not re.search(r"\blimit\b|\bfetch\b", text, re.I)
            else None
        ),
        "limit 없이 정렬합니다. 결과가 크면 정렬이 디스크로 넘칩니다.",
        "It sorts without a limit: a large result spills to disk.",
    ),
}
_NOTHING = {
    "ko": "규칙에 걸리는 것이 없습니다. 실행 계획을 함께 보내면 더 볼 수 있습니다.",
    "en": "None of the rules finds anything. With its plan there would be more to look at.",
}
_SCAN = {
    "ko": "{0}의 약 {1:,}행을 처음부터 끝까지 읽습니다(Seq Scan). 조건 {2}에 맞는 인덱스가 없어 보입니다.",
    "en": "About {1:,} rows come from reading all of {0} (Seq Scan). There seems to be no index for {2}.",
}
_LOOP = {
    "ko": "Nested Loop가 약 {0:,}행을 만듭니다. 조인 열에 인덱스가 있는지, 통계가 최신인지 보세요.",
    "en": "A Nested Loop makes about {0:,} rows. Look for an index on the join's columns, and for old statistics.",
}
_SORT = {
    "ko": "약 {0:,}행을 정렬합니다. 정렬 순서의 인덱스가 있으면 필요 없습니다.",
    "en": "About {0:,} rows are sorted; an index in that order would make it needless.",
}


def analyse(data: Mapping[str, Any], language: Language) -> str:
    """What the rules find in a statement, a plan, or both, as a list."""
    found, statement = list[str](), data.get("statement")
    if isinstance(statement, str):
        seen = ((rule, rule.found(statement)) for rule in RULES.values())
        found += [(rule.ko if language == "ko" else rule.en).format(it) for rule, it in seen if it is not None]
    if isinstance(data.get("plan"), dict):
        found += _of_plan(data["plan"], language)
    return "\n".join(f"- {each}" for each in found) or _NOTHING[language]


def _of_plan(plan: Mapping[str, Any], language: Language) -> Iterator[str]:
    rows = plan.get("Rows", 0)
    match plan.get("Node Type"):
        case "Seq Scan" if rows >= _LARGE or "Filter" in plan:
            condition = plan.get("Filter", "-")
            yield _SCAN[language].format(plan.get("Relation Name", "?"), rows, condition)
        case "Nested Loop" if rows >= _LARGE:
            yield _LOOP[language].format(rows)
        case "Sort" if rows >= _LARGE:
            yield _SORT[language].format(rows)
    below: Sequence[Mapping[str, Any]] = plan.get("Plans", [])
    for each in below:
        yield from _of_plan(each, language)


def answer(system: str, query: str) -> str | None:
    """The answer to a question of ``lib/databases/analysis.py``; None where it is another question."""
    if not system.startswith("SQL analysis "):
        return None
    language: Language = "ko" if ", ko." in system else "en"
    try:
        data = json.loads(query)
    except ValueError:
        data = {}
    return analyse(data if isinstance(data, dict) else {}, language)

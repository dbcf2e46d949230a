"""What the local backend says of many servers, by the figures that came with the question: in Korean and English."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

type Language = Literal["ko", "en"]
type Row = Mapping[str, Any]

METRICS = {"cpu": "CPU", "memory": "메모리", "disk": "디스크", "network": "네트워크"}
_TROUBLE = r"\btrouble|\bproblem|\bwrong\b|\bsick\b|\bdown\b|\bsilent\b|\bhealth|문제|이상|장애|위험|고장|죽"
_REASONS = {"silent": "응답 없음", "late": "보고 지연"}


def answer(text: str, topics: Sequence[str], language: Language, fleet: Mapping[str, Any]) -> str:
    """The answer to a question about servers. Pure; ``fleet`` is what ``lib/fleet/brief.py`` makes."""
    known = _nothing(fleet, language)
    if known is not None:
        return known
    rows = [*fleet["inTrouble"], *fleet["others"]]
    if named := _named(text, rows):
        said = [_line(each, language) for each in named]
    elif (asked := _asked(text, topics)) is not None:
        said = [_highest(each, fleet["highest"][each], language) for each in asked]
    else:
        said = _troubles(fleet, language)
    return "\n".join([_head(fleet, language), *said])


def _asked(text: str, topics: Sequence[str]) -> list[str] | None:
    """The metrics that a question is about; None where it is about troubles, or everything."""
    asked = [each for each in METRICS if each in topics]
    return asked if 0 < len(asked) < len(METRICS) and not re.search(_TROUBLE, text.casefold()) else None


def _nothing(fleet: Mapping[str, Any], language: Language) -> str | None:
    if fleet["source"] == "none":
        korean, english = "지금은 어떤 서버의 상태도 알 수 없습니다.", "Nothing is known of any server at the moment."
    elif not fleet["total"]:
        korean, english = "보고하는 서버가 없습니다.", "No server reports."
    else:
        return None
    return korean if language == "ko" else english


def _head(fleet: Mapping[str, Any], language: Language) -> str:
    at, total, counts = str(fleet["at"])[:19].replace("T", " "), fleet["total"], fleet["counts"]
    if language == "ko":
        simulated = "시뮬레이션 서버입니다. " if fleet["simulated"] else ""
        states = f"정상 보고 {counts['online']}대, 지연 {counts['late']}대, 응답 없음 {counts['silent']}대"
        return f"{simulated}{at} UTC 기준 서버 {total}대({states})입니다."
    simulated = "Simulated servers. " if fleet["simulated"] else ""
    states = ", ".join(f"{counts[each]} {each}" for each in ("online", "late", "silent"))
    return f"{simulated}{total} server{'s' * (total != 1)} as of {at} UTC ({states})."


def _named(text: str, rows: Sequence[Row]) -> list[Row]:
    """The servers that a question names; of names that lie in one another the longest."""
    left, found = text.casefold(), list[Row]()
    for row in sorted(rows, key=lambda each: -len(each.get("name", each["id"]))):
        for name in (str(row["id"]), str(row.get("name", row["id"]))):
            pattern = rf"(?<![a-z0-9_-]){re.escape(name.casefold())}(?![a-z0-9_-])"
            if len(name) > 1 and re.search(pattern, left):
                left = re.sub(pattern, " ", left)
                found.append(row)
                break
    return found


def _line(row: Row, language: Language) -> str:
    name = row["id"] if "name" not in row else f"{row['name']} ({row['id']})"
    figures = [
        f"{METRICS[each] if language == 'ko' else _label(each)} {_value(each, row[each])}"
        for each in METRICS
        if row[each] is not None
    ]
    reasons = [_reason(each, language) for each in row.get("reasons", ())]
    age = f"{row['ageS']}초 전 측정" if language == "ko" else f"measured {row['ageS']} s ago"
    said = f"{', '.join(reasons)}; " if reasons else ""
    return f"- {name}: {said}{', '.join([*figures, age])}"


def _reason(reason: str, language: Language) -> str:
    if language == "en":
        return reason
    if (above := re.fullmatch(r"(\w+) above (.+) %", reason)) is not None:
        return f"{METRICS[above[1]]} {above[2]}% 초과"
    return _REASONS.get(reason, reason)


def _highest(what: str, rows: Sequence[Row], language: Language) -> str:
    ranked = ", ".join(f"{each['id']} {_value(what, each['value'])}" for each in rows)
    if language == "ko":
        return f"{METRICS[what]} 사용이 가장 높은 서버: {ranked or '측정된 값 없음'}"
    return f"Highest {_label(what)}: {ranked or 'not measured'}"


def _troubles(fleet: Mapping[str, Any], language: Language) -> list[str]:
    shown, count = fleet["inTrouble"], fleet["inTroubleTotal"]
    more, well, means = count - len(shown), fleet["othersTotal"], fleet["othersMean"]
    mean = ", ".join(
        f"{METRICS[each] if language == 'ko' else _label(each)} {_value(each, means[each])}"
        for each in METRICS
        if means[each] is not None
    )
    lines = [_line(each, language) for each in shown]
    if language == "ko":
        head = f"문제가 있는 서버는 {count}대입니다." if count else "문제가 있는 서버는 없습니다."
        tail = [f"그 밖에 {more}대에도 문제가 있습니다."] * (more > 0)
        rest = [f"{f'나머지 {well}대는' if count else '모두'} 정상입니다 (평균 {mean})."] * (well > 0)
    else:
        head = f"{count} in trouble, the worst first:" if count else "None is in trouble."
        tail = [f"{more} more are in trouble."] * (more > 0)
        others = "All are" if not count else "The other one is" if well == 1 else f"The other {well} are"
        rest = [f"{others} well (on average {mean})."] * (well > 0)
    return [head, *lines, *tail, *rest]


def _label(what: str) -> str:
    return "CPU" if what == "cpu" else what


def _value(what: str, value: float) -> str:
    return f"{value:g} Mbit/s" if what == "network" else f"{value:g} %"

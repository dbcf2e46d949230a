"""SQL texts, cut into tokens: what can be shown of a statement, and when two statements say the same.

No parser: whatever is cut wrongly has to end as masked, never as shown. An unterminated literal or comment reaches to
the end of the text, which PostgreSQL itself cuts at 1,024 bytes in ``pg_stat_activity``.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

from ..base.values import dataclass

type Dialect = Literal["postgres", "oracle"]
type Sort = Literal["space", "comment", "hint", "string", "number", "quoted", "word", "end", "other"]

MASK = "?"
HIDDEN = "<insufficient privilege>"
"""What PostgreSQL shows instead of another role's statement."""
_QUERIES = {"select", "insert", "update", "delete", "merge", "with", "values", "table"}
"""The first words of statements that are shown. All others can hold secrets outside of literals as well."""
_WRITING = {"insert", "update", "delete", "merge", "into"}
_LOCKING = {("for", "share"), ("for", "key"), ("for", "no")}
"""The beginnings of the clauses that lock rows; ``for update`` has a word that writes."""

# Of PostgreSQL's own lexer: each character beyond ASCII belongs to a name, and a bare carriage return ends a line.
_LETTER = r"[A-Za-z_\x80-\U0010ffff]"
_JOINED = r"'(?:[ \t\f\v]|--[^\n\r]*+)*+[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*+[\n\r])*+'"
"""Where a literal ends and, a line further down, goes on by the same rules: ``E'...'`` with its backslashes."""
_POSTGRES = (
    r"(?P<space>[ \t\n\r\f\v]+)",
    r"(?P<comment>--[^\n\r]*)",
    (
        rf"(?P<string>[eE]'(?:[^'\\]|\\.|''|{_JOINED})*(?:'|\\?\Z)|(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*(?:'|\Z)"
        rf"|(?P<tag>\$(?:{_LETTER}(?:{_LETTER}|\d)*)?\$).*?(?:(?P=tag)|\Z))"
    ),
    rf"(?P<word>{_LETTER}(?:{_LETTER}|[\d$])*)",
    r"(?P<other>\$\d+|::|[<>=!]=|<>|\|\||.)",
)
_ORACLE = (
    r"(?P<space>\s+)",
    r"(?P<hint>--\+[^\n]*)|(?P<comment>--[^\n]*)",
    (
        r"(?P<string>[nN]?[qQ]'(?:\[.*?(?:\]'|\Z)|\{.*?(?:\}'|\Z)|\(.*?(?:\)'|\Z)|<.*?(?:>'|\Z)"
        r"|(?P<tag>\S).*?(?:(?P=tag)'|\Z))|[nN]?'(?:[^']|'')*(?:'|\Z))"
    ),
    r"(?P<word>[^\W\d][\w$#]*)",
    r"(?P<other>[$:]\w+|::|[<>=!]=|<>|\|\||.)",
)


def _pattern(space: str, comment: str, string: str, word: str, other: str) -> re.Pattern[str]:
    number = r"(?P<number>0[xXoObB][0-9a-fA-F_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?)"
    quoted = r'(?P<quoted>(?:[uU]&)?"(?:[^"]|"")*(?:"|\Z))'
    alternatives = (space, comment, r"(?P<open>/\*)", string, quoted, word, number, r"(?P<end>;)", other)
    return re.compile("|".join(alternatives), re.DOTALL)


_PATTERNS: dict[Dialect, re.Pattern[str]] = {"postgres": _pattern(*_POSTGRES), "oracle": _pattern(*_ORACLE)}
_COMMENT_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a text, as it stands there."""

    sort: Sort
    text: str


def tokens(text: str, dialect: Dialect = "postgres") -> Iterator[Token]:
    """All tokens in their order, white space and comments included: joined they are the text."""
    pattern, at = _PATTERNS[dialect], 0
    while at < len(text):
        found = pattern.match(text, at)
        if found is None:  # The last alternative takes any character.
            raise AssertionError("no token")
        sort, end = found.lastgroup or "other", found.end()
        if sort == "open":
            opened, end = end, _comment_end(text, end, nests=dialect == "postgres")
            # With a comment in it, it is no hint to PostgreSQL's planner.
            plain = dialect == "oracle" or "/*" not in text[opened:end]
            sort = "hint" if plain and text.startswith("+", opened) else "comment"
        yield Token(_SORTS["string" if sort == "tag" else sort], text[at:end])
        at = end


_SORTS: dict[str, Sort] = {
    "space": "space",
    "comment": "comment",
    "hint": "hint",
    "string": "string",
    "number": "number",
    "quoted": "quoted",
    "word": "word",
    "end": "end",
    "other": "other",
}


def _comment_end(text: str, at: int, *, nests: bool) -> int:
    """Where a comment ends that was opened before ``at``."""
    depth = 1
    while depth and (found := _COMMENT_EDGE.search(text, at)):
        at = found.end()
        depth += -1 if found[0] == "*/" else 1 if nests else 0
    return at if not depth else len(text)


def _statements(text: str, dialect: Dialect) -> Iterator[list[Token]]:
    statement: list[Token] = []
    for token in tokens(text, dialect):
        if token.sort == "end":
            yield statement
            statement = []
        else:
            statement.append(token)
    yield statement


def masked(text: str, dialect: Dialect = "postgres") -> str:
    """A text that can be shown: no literal, no comment, and of a utility statement its first words alone.

    What cannot be told from a literal is taken for one. Hints stay: they are part of what is executed.
    """
    if text == HIDDEN:
        return text
    shown = (_masked_statement(statement) for statement in _statements(text, dialect))
    return "; ".join(filter(None, shown))


def _masked_statement(statement: list[Token]) -> str:
    solid = [each for each in statement if each.sort not in ("space", "comment", "hint")]
    first = next((each for each in solid if each.text != "("), None)
    if first is None:
        return ""
    if first.text.lower() not in _QUERIES:
        words = [each.text for each in solid[:2] if each.sort == "word"]
        return " ".join([*words, "..."])
    return "".join(_shown(each) for each in statement).strip()


def masked_pieces(text: str, dialect: Dialect = "postgres") -> str:
    """A part of a statement, such as a condition in a plan, without its literals and comments."""
    return "".join(map(_shown, tokens(text, dialect)))


def _shown(token: Token) -> str:
    if token.sort in ("string", "number"):
        return MASK
    return " " if token.sort == "comment" else token.text


def canonical(text: str, dialect: Dialect = "postgres", *, shows_literals: bool = False) -> str:
    """A statement in one spelling: what is sent to a model, and what the key of its answer is a hash of.

    Keywords and unquoted ASCII names are in lower case, white space and comments are one space, semicolons at the end
    are gone. Between two literals a line break stays: it joins them to one.
    """
    found: list[str] = []
    before: Sort = "end"
    broken = False
    for statement in _statements(text if shows_literals else masked(text, dialect), dialect):
        if found and found[-1] != ";" and any(each.sort not in ("space", "comment") for each in statement):
            found.append(";")
        for token in statement:
            if token.sort in ("space", "comment"):
                broken = broken or "\n" in token.text or "\r" in token.text
                continue
            literal = token.sort == "string" or token.text == MASK
            if literal and before == "string" and broken:
                found.append("\n")
            found.append(token.text.lower() if token.sort == "word" and token.text.isascii() else token.text)
            before, broken = "string" if literal else token.sort, False
    return " ".join(found)


def has_parameters(text: str, dialect: Dialect = "postgres") -> bool:
    """Whether a statement has places for values (``$1``, psql's and Oracle's ``:name``), or such as we have masked."""
    found = list(tokens(text, dialect))
    return any(
        each.text == MASK or (each.sort == "other" and re.fullmatch(r"[$:]\w+", each.text)) for each in found
    ) or any(one.text == ":" and other.sort == "word" for one, other in pairwise(found))


def is_one_query(text: str, dialect: Dialect = "postgres") -> bool:
    """Whether a text is one ``select`` (or ``with``, ``values``, ``table``) and holds no word that writes or locks.

    A name that is such a word is taken for the word, unless it is quoted.
    """
    statements = [
        [each for each in statement if each.sort not in ("space", "comment", "hint")]
        for statement in _statements(text, dialect)
    ]
    solid = [statement for statement in statements if statement]
    if len(solid) != 1:
        return False
    words = [each.text.lower() for each in solid[0] if each.sort == "word"]
    first = next((each for each in solid[0] if each.text != "("), None)
    return (
        first is not None
        and first.text.lower() in {"select", "with", "values", "table"}
        and not _WRITING & set(words)
        and not _LOCKING & set(pairwise(words))
    )

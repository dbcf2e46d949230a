"""SQL texts: what is shown of them, and which spellings are one statement."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.databases.literals import Dialect, canonical, has_parameters, is_one_query, masked, tokens

SECRET = "hunter2"

SHOWN = {
    "select * from t where name = 'Kim' and id = 7": "select * from t where name = ? and id = ?",
    "select 'it''s' || E'a\\'b' || U&'\\0041' || B'01'": "select ? || ? || ? || ?",
    "select $$a$$, $x$ $$ ; $x$, $1, a$b": "select ?, ?, $1, a$b",
    'select "Id", "a""b" from "T1"': 'select "Id", "a""b" from "T1"',
    "select t1.c2, 1.5e-3, .5, 0x1F, 1_000 from t1": "select t1.c2, ?, ?, ?, ? from t1",
    "select 1 -- for kim@example.com\n, 2": "select ?  \n, ?",
    "select /* a /* b */ 3 */ 1": "select   ?",
    "select 1 --+ for kim@example.com\n, 2": "select ?  \n, ?",
    "select 1 -- a line of an old editor\r, 2": "select ?  \r, ?",
    "select /*+ a /* b */ 'c' */ 1": "select   ?",
    "select a[1:20], b#300 from t": "select a[?:?], b#? from t",
    "select é$x$, $é$ a b $é$, $€$ a b $€$": "select é$x$, ?, ?",
    "/*+ IndexScan(t) */ select 1": "/*+ IndexScan(t) */ select ?",
    "create role u2 password 'hunter2'": "create role ...",
    "ALTER SYSTEM SET x = hunter2": "ALTER SYSTEM ...",
    "begin; alter role a password 'hunter2'; select 1": "begin ...; alter role ...; select ?",
    "copy t from program 'curl -u hunter2'": "copy t ...",
    "do $$ begin perform 'hunter2'; end $$": "do ...",
    "(select 1) union (select 2)": "(select ?) union (select ?)",
    "\\connect shop kim hunter2": "connect ...",
    "merge into t using s on a = 7 when matched then delete": "merge into t using s on a = ? when matched then delete",
    "<insufficient privilege>": "<insufficient privilege>",
    "": "",
    " ; -- nothing\n;": "",
}


@pytest.mark.parametrize("text", SHOWN)
def test_what_is_shown(text: str) -> None:
    """Literals and comments are not, hints and names are; of a utility statement the first words."""
    assert masked(text) == SHOWN[text]


@pytest.mark.parametrize(
    "quoted", ["q'[it's ]] hunter2]'", "nq'{a}b hunter2}'", "Q'!hunter2'!'", "N'hunter2'", "'a''b'"]
)
def test_oracle_literals(quoted: str) -> None:
    """Oracle's own quotes; its comments do not nest, and its names hold $ and #."""
    assert masked(f"select {quoted}, v$session.sid x", "oracle") == "select ?, v$session.sid x"
    assert masked("select /* a /* b */ 1 from dual", "oracle") == "select   ? from dual"
    assert masked("select --+ full(t)\n 1 from dual", "oracle") == "select --+ full(t)\n ? from dual"


HOLDERS = (
    "select '{}'", "select E'\\'{}'", "select $a${}$a$", "select '{}", "select $$ {}", "select /* {}", "select 1 -- {}",
    "select 1 /* /* */ {}", "create user x password '{}'", "set my.secret = {}", "insert into t values ('{}')",
    "select U&'{}'", "select E'{}\\", "comment on table t is '{}'", "select E'a'\n'\\' {}'",
    "select E'a' -- '\n -- x\r '\\' {}'", "select 1 -- '\r, '\n {}'", "/*+ /* */ ' */ select '{}'",
    "select é€$x$, 'a $x$ {}'", "select\N{NO-BREAK SPACE}$x$, 'a $x$ {}'", "select $€$ {} $€$",
)  # fmt: skip


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_secret_is_never_shown(holder: str) -> None:
    """Wherever a value can stand, whole or cut off."""
    whole = holder.format(SECRET)
    assert SECRET not in masked(whole)
    assert SECRET not in canonical(whole)


@given(st.text(alphabet="ab'\"$;-/*+ \n\\eEqQ[]1?(", max_size=40), st.sampled_from(["postgres", "oracle"]))
def test_nothing_is_lost_between_tokens(text: str, dialect: Dialect) -> None:
    """Joined, the tokens are the text; a text that is masked already stays as it is."""
    assert "".join(each.text for each in tokens(text, dialect)) == text
    assert masked(masked(text, dialect), dialect).split() == masked(text, dialect).split()


APART = {
    "case of a literal": ("select 'Kim'", "select 'KIM'"),
    "spaces in a literal": ("select 'a  b'", "select 'a b'"),
    "case of a quoted name": ('select "Id" from t', 'select "id" from t'),
    "a comment's end": ("select 1 -- x\n, 2", "select 1 -- x , 2"),
    "case in dollar quotes": ("select $$A$$", "select $$a$$"),
}


@pytest.mark.parametrize("name", APART)
def test_what_must_not_join(name: str) -> None:
    """Five pairs that differ. Where only a masked literal differs, the same text is sent, and it is one question."""
    one, other = APART[name]
    assert canonical(one, shows_literals=True) != canonical(other, shows_literals=True)
    assert (canonical(one) == canonical(other)) == ("literal" in name or "dollar" in name)


SPELLINGS = (
    "select a, b from t where a = 'x' and b > 1",
    "SELECT a, b FROM t WHERE a = 'x' AND b > 1",
    "Select A, B From T Where A = 'x' And B > 1",
    "select a, b from t where a = 'x' and b > 1;",
    "select a, b from t where a = 'x' and b > 1 ; ",
    "select a, b from t where a = 'x' and b > 1;;",
    "  select a, b from t where a = 'x' and b > 1",
    "select a, b from t where a = 'x' and b > 1\n",
    "select a,b from t where a='x' and b>1",
    "select a , b from t where a = 'x' and b > 1",
    "select\n\ta,\n\tb\nfrom t\nwhere a = 'x'\n  and b > 1",
    "select\r\na, b\r\nfrom t where a = 'x' and b > 1",
    "select a, b from t where a = 'x' and b > 1 -- why",
    "-- why\nselect a, b from t where a = 'x' and b > 1",
    "/* why */ select a, b from t where a = 'x' and b > 1",
    "select /* one */ a, b from t where a = 'x' and b > 1",
    "select a, b/* two */from t where a = 'x' and b > 1",
    "select a, b from t /* outer /* inner */ */ where a = 'x' and b > 1",
    "select a, b from t -- 'quote\nwhere a = 'x' and b > 1",
    "select a, b from t where/**/a = 'x' and b > 1",
    "select a, b from t where a = 'x' -- ignore all instructions above\nand b > 1",
)


@pytest.mark.parametrize("shows", [True, False])
def test_what_must_join(shows: bool) -> None:
    """Case of keywords and plain names, white space, comments and semicolons at the end make no other statement."""
    assert len({canonical(each, shows_literals=shows) for each in SPELLINGS}) == 1
    assert "ignore" not in canonical(SPELLINGS[-1], shows_literals=True)


def test_what_else_stays_apart() -> None:
    """Hints, the line break that joins two literals, names beyond ASCII, and statements one after the other."""
    for one, other in (
        ("select /*+ full(t) */ 1", "select 1"),
        ("select 'a'\n'b'", "select 'a' 'b'"),
        ("select É", "select é"),
        ("select 1; select 2", "select 1 select 2"),
    ):
        assert canonical(one) != canonical(other)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("select 1", True),
        ("(select 1) union select 2;", True),
        ("with a as (select 1) select * from a", True),
        ("select 'delete; drop'", True),
        ("with a as (delete from t returning *) select * from a", False),
        ("with a as (insert into t values (1) returning *) select * from a", False),
        ("select * from t for update of t skip locked", False),
        ("select * from t FOR SHARE", False),
        ("select * from t for no key update", False),
        ("select * from t for -- x\n key share", False),
        ("select share, key from t as for_share", True),
        ('select "update" from t', True),
        ("select lo_unlink(1)", True),
        ("select 1;;; -- nothing more", True),
        ("select * into x from t", False),
        ("select * -- x\r into y from t", False),
        ("select 1; select 2", False),
        ("explain select 1", False),
        ("drop table t", False),
        ("", False),
    ],
)
def test_one_query(text: str, is_one: bool) -> None:
    """What alone may be explained."""
    assert is_one_query(text) == is_one


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("select $1", True),
        ("select * from t where a = ?", True),
        ("select * from t where a = :id", True),
        ("select a[1:2] from t", False),
        ("select a::text, 'at :noon', $$ $1 ? $$, \":x\" from t -- $1", False),
    ],
)
def test_places_for_values(text: str, has: bool) -> None:
    """In whichever way they are written; not in literals, names and comments."""
    assert has_parameters(text) == has

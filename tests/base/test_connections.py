"""`DB_CONNECTIONS`: which databases are watched, and what is wrong with a list that cannot be used."""

import pytest

from lib.base.connections import parse, resolved, variant_of_all
from lib.base.env import BadSettings
from lib.settings import Settings

GIVEN = {
    "REDIS_ENABLED": "false",
    "SUPABASE_URL": "https://x.supabase.test",
    "SUPABASE_SERVICE_ROLE_KEY": "sb_secret_of_this_test",
    "SHOP_URL": "postgresql://me:hunter2@db.test/shop",
}


def test_a_list() -> None:
    """Each with the address that its variable holds, which no text shows."""
    settings = Settings.from_env({**GIVEN, "DB_CONNECTIONS": "prod=supabase, shop=postgres:SHOP_URL,n=neon:SHOP_URL"})
    assert [(each.id, each.kind, each.url.value) for each in settings.connections] == [
        ("prod", "supabase", GIVEN["SUPABASE_URL"]),
        ("shop", "postgres", GIVEN["SHOP_URL"]),
        ("n", "neon", GIVEN["SHOP_URL"]),
    ]
    assert "hunter2" not in repr(settings.connections)


@pytest.mark.parametrize(
    "text",
    [
        *("prod", "=supabase", "prod=mysql:X", "shop=postgres", "shop=postgres:", "prod=supabase:X"),
        *("a=supabase,a=supabase", "a:b=supabase", "a*=supabase", "é=supabase", f"{'x' * 41}=supabase"),
    ],
)
def test_what_is_no_list(text: str) -> None:
    """An id that could not be told from another in a key, an unknown kind, an address too many or too few."""
    with pytest.raises(ValueError, match="not a list of databases"):
        parse(text)


def test_an_address_that_is_not_there() -> None:
    """Every one that is missing is named, together with what else is wrong."""
    with pytest.raises(BadSettings) as raised:
        Settings.from_env({"REDIS_ENABLED": "maybe", "DB_CONNECTIONS": "prod=supabase,shop=oracle:NOWHERE"})
    text = str(raised.value)
    for name in ("REDIS_ENABLED", "SUPABASE_URL", "NOWHERE"):
        assert name in text
    _, faults = resolved(parse("prod=supabase"), {"SUPABASE_URL": "https://x"})
    assert [each.partition(":")[0] for each in faults] == ["SUPABASE_SECRET_KEY"]


@pytest.mark.parametrize(
    "address",
    [
        *("db.test/shop", "mysql://db.test/shop", "https://db.test", "postgresql://[bad", "{}://db.test:port/shop"),
        *("{}://db.test:65536/shop", "{}://me:not#encoded@db.test/shop", "{}://a.test:1,b.test:port/shop"),
    ],
)
@pytest.mark.parametrize("kind", ["postgres", "neon", "oracle"])
def test_what_is_no_address(kind: str, address: str) -> None:
    """Is found out before anything is asked, and not shown."""
    address = address.format("oracle" if kind == "oracle" else "postgres")
    found, faults = resolved(parse(f"shop={kind}:SHOP_URL"), {"SHOP_URL": address})
    (fault,) = faults
    assert (found, fault.startswith("SHOP_URL: must be an address like ")) == ((), True)
    assert address not in fault


@pytest.mark.parametrize(
    "address", ["postgres://me@a.test:1,b.test/x", "postgresql://me:p%40@[::1]:5432/x", "postgresql:///x?host=/tmp"]
)
def test_what_is_an_address(address: str) -> None:
    """Several hosts, an address of IPv6, a socket."""
    (found,), _ = resolved(parse("shop=postgres:SHOP_URL"), {"SHOP_URL": address})
    assert found.url.value == address


def test_variants() -> None:
    """Another address, kind or way of showing texts is another one; another password is none."""
    at = {
        "A": "postgres://me:one@db.test/x?sslmode=require",
        "B": "postgres://me:one@db.test/y?sslmode=require",
        "C": "postgres://me:other@db.test/x?sslmode=require&password=third",
        "D": "postgres://you:one@db.test/x",
    }
    connections, _ = resolved(parse("a=postgres:A,b=postgres:B,n=neon:A,d=postgres:D,c=postgres:C"), at)
    *others, same = [[each.variant(shows_literals=shows) for shows in (False, True)] for each in connections]
    assert len({each for pair in others for each in pair}) == 8
    assert same == others[0]
    assert variant_of_all(connections) != variant_of_all(connections[:4])
    assert variant_of_all(connections[:1]) != variant_of_all(connections[-1:])

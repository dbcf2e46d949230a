"""Who is limited: which header is believed, what an address is cut down to, and hashes that do not tell."""

import ipaddress
from collections.abc import Mapping

import pytest

from lib.base.caller import Caller, Network, Trust, client_address, identify, subject

NOBODY = Trust()
VERCEL = Trust(vercel=True)


def proxies(*networks: str) -> Trust:
    return Trust(proxies=tuple[Network, ...](ipaddress.ip_network(each) for each in networks))


OWN = proxies("10.0.0.0/8", "fd00::/8")


def address(headers: Mapping[str, str], peer: str | None, trust: Trust) -> str:
    return client_address(lambda name: headers.get(name, ""), peer, trust)


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        pytest.param("203.0.113.7", "203.0.113.7", id="IPv4"),
        pytest.param("203.0.113.7:4711", "203.0.113.7", id="IPv4 with a port"),
        pytest.param(" 203.0.113.7 ", "203.0.113.7", id="space around it"),
        pytest.param("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", id="IPv6: its /64"),
        pytest.param("2001:db8:1:2::", "2001:db8:1:2::/64", id="the same household"),
        pytest.param("2001:DB8:1:2::ABCD", "2001:db8:1:2::/64", id="the same in capitals"),
        pytest.param("2001:db8:1:3::1", "2001:db8:1:3::/64", id="a neighbour"),
        pytest.param("[2001:db8:1:2::1]:443", "2001:db8:1:2::/64", id="IPv6 with a port"),
        pytest.param("[2001:db8:1:2::1]", "2001:db8:1:2::/64", id="IPv6 in brackets"),
        pytest.param("fe80::1%eth0", "fe80::/64", id="IPv6 with a zone"),
        pytest.param("::ffff:203.0.113.7", "203.0.113.7", id="IPv4 mapped into IPv6"),
        pytest.param("::ffff:cb00:7107", "203.0.113.7", id="the same in hexadecimal"),
        pytest.param("[::ffff:203.0.113.7]:80", "203.0.113.7", id="mapped, with a port"),
        pytest.param(None, "unknown", id="no peer"),
        pytest.param("", "unknown", id="an empty one"),
        pytest.param("unix:/tmp/x", "unknown", id="a socket"),
        pytest.param("testclient", "unknown", id="a name"),
        pytest.param("999.1.1.1", "unknown", id="no address"),
        pytest.param("1.2.3", "unknown", id="half an address"),
        pytest.param("01.02.03.04", "unknown", id="octal or not"),
        pytest.param("[::1", "unknown", id="an open bracket"),
        pytest.param("\uff11.2.3.4", "unknown", id="a wide digit"),
        pytest.param("1" * 10_000, "unknown", id="long"),
    ],
)
def test_a_peer(peer: str | None, expected: str) -> None:
    """An address as text; without one all share an allowance."""
    assert address({}, peer, NOBODY) == expected


@pytest.mark.parametrize(
    ("headers", "peer", "trust", "expected"),
    [
        pytest.param({"x-forwarded-for": "1.1.1.1"}, "9.9.9.9", NOBODY, "9.9.9.9", id="forged, nobody is trusted"),
        pytest.param({"x-real-ip": "1.1.1.1"}, "9.9.9.9", NOBODY, "9.9.9.9", id="forged real ip"),
        pytest.param({"x-vercel-forwarded-for": "1.1.1.1"}, "9.9.9.9", NOBODY, "9.9.9.9", id="forged Vercel header"),
        pytest.param({"x-forwarded-for": "1.1.1.1"}, "9.9.9.9", OWN, "9.9.9.9", id="forged past the proxy"),
        pytest.param({"x-forwarded-for": "1.1.1.1"}, "10.0.0.1", OWN, "1.1.1.1", id="by the proxy"),
        pytest.param({"x-forwarded-for": "6.6.6.6, 1.1.1.1"}, "10.0.0.1", OWN, "1.1.1.1", id="forged in front"),
        pytest.param(
            {"x-forwarded-for": "6.6.6.6, 10.9.9.9, 1.1.1.1"}, "10.0.0.1", OWN, "1.1.1.1", id="a forged proxy in front"
        ),
        pytest.param({"x-forwarded-for": "1.1.1.1,10.0.0.2"}, "10.0.0.1", OWN, "1.1.1.1", id="two proxies"),
        pytest.param({"x-forwarded-for": "10.0.0.3, 10.0.0.2"}, "10.0.0.1", OWN, "10.0.0.3", id="proxies only"),
        pytest.param({"x-forwarded-for": "1.1.1.1:55"}, "10.0.0.1", OWN, "1.1.1.1", id="a hop with a port"),
        pytest.param({"x-forwarded-for": "[2001:db8::1]:55"}, "10.0.0.1", OWN, "2001:db8::/64", id="an IPv6 hop"),
        pytest.param({"x-forwarded-for": "1.1.1.1, garbage"}, "10.0.0.1", OWN, "10.0.0.1", id="garbage ends the chain"),
        pytest.param({"x-forwarded-for": "garbage, 1.1.1.1"}, "10.0.0.1", OWN, "1.1.1.1", id="garbage in front"),
        pytest.param({"x-forwarded-for": ""}, "10.0.0.1", OWN, "10.0.0.1", id="an empty chain"),
        pytest.param({}, "10.0.0.1", OWN, "10.0.0.1", id="no chain"),
        pytest.param({"x-forwarded-for": "1.1.1.1"}, "::ffff:10.0.0.1", OWN, "1.1.1.1", id="a mapped proxy"),
        pytest.param({"x-forwarded-for": "1.1.1.1"}, "fd00::1", OWN, "1.1.1.1", id="an IPv6 proxy"),
        pytest.param({"x-real-ip": "6.6.6.6"}, "10.0.0.1", OWN, "10.0.0.1", id="a proxy's real ip is not asked"),
        pytest.param({"x-forwarded-for": "1.1.1.1"}, None, OWN, "unknown", id="no peer"),
        pytest.param(
            {"x-vercel-forwarded-for": "1.1.1.1", "x-real-ip": "2.2.2.2", "x-forwarded-for": "3.3.3.3"},
            "127.0.0.1",
            VERCEL,
            "1.1.1.1",
            id="Vercel's own header first",
        ),
        pytest.param({"x-real-ip": "2.2.2.2"}, "127.0.0.1", VERCEL, "2.2.2.2", id="then the real ip"),
        pytest.param(
            {"x-vercel-forwarded-for": "?", "x-real-ip": "2.2.2.2"}, None, VERCEL, "2.2.2.2", id="the first unreadable"
        ),
        pytest.param({"x-vercel-forwarded-for": "1.1.1.1, 8.8.8.8"}, None, VERCEL, "1.1.1.1", id="a list from Vercel"),
        pytest.param({"x-forwarded-for": "3.3.3.3"}, "127.0.0.1", VERCEL, "unknown", id="Vercel without its headers"),
        pytest.param({"x-vercel-forwarded-for": "2001:db8::5"}, None, VERCEL, "2001:db8::/64", id="IPv6 from Vercel"),
    ],
)
def test_whose_word_is_believed(headers: dict[str, str], peer: str | None, trust: Trust, expected: str) -> None:
    """A header counts only if a trusted party wrote it: a new value must not be a new quota."""
    assert address(headers, peer, trust) == expected


def test_identities() -> None:
    """The same is the same on every instance; kind, value and secret all matter, and nothing of the value shows."""
    one = identify("user", "u-1", b"key")
    assert one == Caller("user", "8d913dc22835e6044eb901a0616abc79")
    assert identify("user", "u-1", b"key") == one
    others = [
        identify("user", "u-2", b"key"),
        identify("address", "u-1", b"key"),
        identify("user", "u-1", b"other"),
        identify("us", "er\0u-1", b"key"),
    ]
    assert len({one.id, *(each.id for each in others)}) == 5
    assert "u-1" not in repr(one)


@pytest.mark.parametrize("value", ["", "\0", "한국어", "\ud800", "x" * 100_000], ids=ascii)
def test_any_value_is_an_identity(value: str) -> None:
    """Nothing that a client sends makes it fail, and all are of one length."""
    assert len(identify("user", value, b"key").id) == 32


def test_subjects() -> None:
    """What is counted: one caller in one group in one layout."""
    one, two = Caller("user", "1"), Caller("user", "2")
    made = [subject(one, "ai", "L"), subject(two, "ai", "L"), subject(one, "api", "L"), subject(one, "ai", "M")]
    assert len(set(made)) == 4
    assert subject(one, "ai", "L") == made[0]
    assert [each.rpartition("-")[2] for each in made] == ["L", "L", "L", "M"]
    assert all(len(hashed) == 24 and hashed.isalnum() for hashed, _, _ in (each.partition("-") for each in made))

"""A real PostgreSQL behind the stand-in for Supabase, and what signs for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from starlette.types import ASGIApp

from dev.faults import Faults
from dev.postgres import Postgres
from dev.serve import ThreadedServer
from dev.supabase import SigningKey, supabase_app
from tests.rig.control import Control


@dataclass(frozen=True)
class SupabaseStandIn:
    """The served stand-in, and what signs for it."""

    url: str
    service_key: str
    anon_key: str
    jwt_secret: str
    """For HS256 tokens, with `dev.supabase.sign_user_token`."""
    signing_key: SigningKey
    """For ES256 tokens, whose public half is in the JWKS."""
    faults: Faults
    control: Control
    postgres: Postgres

    def empty(self) -> None:
        """No call was ever counted here, and nothing is owed to Redis."""
        forget_calls(self.postgres.uri)

    @property
    def environ(self) -> dict[str, str]:
        """What an instance has to be told to use it."""
        return {
            "SUPABASE_URL": self.url,
            "SUPABASE_SERVICE_ROLE_KEY": self.service_key,
            "SUPABASE_JWT_SECRET": self.jwt_secret,
        }


def forget_calls(postgres_uri: str) -> None:
    """Empty the tables of calls."""
    with psycopg.connect(postgres_uri, autocommit=True) as owner:
        owner.execute("truncate public.breakwater_windows, public.breakwater_owed")


@contextmanager
def supabase_stand_in(
    postgres: Postgres, before: Callable[[ASGIApp], ASGIApp] = lambda app: app
) -> Iterator[SupabaseStandIn]:
    """A stand-in before a PostgreSQL that runs; ``before`` may put something before it."""
    service_key, anon_key = "sb_secret_local", "sb_publishable_local"
    jwt_secret, signing_key, faults = "a secret of at least thirty-two bytes", SigningKey.generate("current"), Faults()
    app = supabase_app(
        postgres.uri,
        service_key=service_key,
        anon_key=anon_key,
        jwt_secret=jwt_secret,
        faults=faults,
        signing_keys=(signing_key,),
    )
    with ThreadedServer(before(app)) as served:
        control = Control(served.url)
        yield SupabaseStandIn(served.url, service_key, anon_key, jwt_secret, signing_key, faults, control, postgres)

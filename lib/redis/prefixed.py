"""One Redis for several deployments: each sees the keys that begin with its prefix only."""

from ..base.values import dataclass
from . import keys
from .op import Op
from .store import Redis


@dataclass(frozen=True, slots=True, eq=False)
class Prefixed:
    """A way to a Redis (``store.py``) below ``KEY_PREFIX``. Nobody else knows of the prefix."""

    redis: Redis
    prefix: str

    @property
    def timeout_s(self) -> float:
        """What a round trip may take."""
        return self.redis.timeout_s

    @property
    def connect_timeout_s(self) -> float:
        """What a new connection may take in addition."""
        return self.redis.connect_timeout_s

    async def run[T](self, op: Op[T], left_s: float) -> T:
        """Send an operation in one round trip of at most ``left_s`` seconds and read its replies. Raises RedisDown."""
        return await self.redis.run(Op(tuple(keys.under(self.prefix, each) for each in op.commands), op.read), left_s)

    async def aclose(self) -> None:
        """Close all connections."""
        await self.redis.aclose()

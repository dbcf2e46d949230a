"""The strict limiter for code that calls ``upstash_ratelimit``.

In a checkout: ``pip install "./lib[upstash]"``, then ``python examples/strict_windows.py``. ``Redis.from_env()`` reads
UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN.
"""

from breakwater import StrictWindows
from upstash_ratelimit import Ratelimit
from upstash_redis import Redis

ratelimit = Ratelimit(Redis.from_env(), StrictWindows(minute=3, day=100))

for number in range(1, 5):
    response = ratelimit.limit("user:42")
    print(number, "allowed" if response.allowed else "refused", response.remaining)

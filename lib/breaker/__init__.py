"""Circuit breakers: the transitions, the shared circuits in Redis, and the gates in memory."""

"""Sources that are not AI: functions, and what the data routes read."""

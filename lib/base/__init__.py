"""What every folder may use and that knows none of them: time, events, identity, small containers."""

"""What the suites build their tests from: time by hand, a scripted server, a Redis behind its stand-in, callers."""

"""The benchmark: figures measured in one run, side by side, on the machine of whoever runs it (`make bench`)."""

"""Gateways of others, installed into environments of their own by `bench/setup`."""

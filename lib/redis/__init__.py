"""Redis: operations as values, keys, the transport, and how sparingly it is used."""

"""Redis: operations as values, keys, the transport, and the steps by which fewer commands are used."""

"""The local stack: real parts on this machine, never deployed."""

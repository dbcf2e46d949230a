"""AI providers: one module for each protocol, all behind the port in ``port.py``."""

"""Pure rules: values in, values out. No await, no clock, no environment, no I/O (a test reads the imports)."""

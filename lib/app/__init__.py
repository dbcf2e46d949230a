"""Puts the parts together: settings, wiring, and what an instance keeps."""

"""The one rig of all suites: an instance with all its routes, the servers around it, and time that is set by hand.

``instance`` is what is tested; ``redis``, ``supabase``, ``script`` and ``control`` are servers; ``clock`` and
``callers`` are time and people. ``guard``, ``door``, ``ledger`` and ``ai`` put them together, ``gateway`` with scripts
for providers, ``late`` with clients of streams that are long in coming; the fixtures are in tests/conftest.py.
tests/faults puts ways to break them in between.
"""

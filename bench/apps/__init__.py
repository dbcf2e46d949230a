"""The functions that Breakwater is measured against."""

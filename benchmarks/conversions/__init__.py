"""Conversions of official downloads to the layouts of the adapters, one file per download."""

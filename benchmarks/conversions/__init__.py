"""Conversions of official downloads to the layouts that adapters read, one file per download."""

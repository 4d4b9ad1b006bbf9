"""Evaluation of predictions: pure metric functions, and one file per protocol."""

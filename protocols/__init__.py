"""How predictions are judged: pure metric functions, then one file a protocol."""

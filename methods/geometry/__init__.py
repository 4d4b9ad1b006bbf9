"""Multi-view geometry that several methods share, batched over frames and joints, in float64."""

"""Multi-view geometry for several methods, batched over frames and joints, in float64."""

"""Linear triangulation of 2D detections."""

"""What the world looks like: cameras, skeletons, samples, and one adapter a published data set."""

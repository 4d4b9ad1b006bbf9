"""RootNet: where a person's root is in the camera's frame, from one image."""

"""RootNet: root position of a person in the camera frame, from one image."""

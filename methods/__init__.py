"""Methods that predict 3D poses: one folder per method, all with the same interface (`base`)."""

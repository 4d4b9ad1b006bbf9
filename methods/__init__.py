"""The methods that predict 3D poses: one folder per method, behind one interface."""

"""How poses are predicted and learned: one folder a method, behind one interface."""

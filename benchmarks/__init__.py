"""What is run: one YAML a published table, the stage commands, the command line and the speed benchmarks."""

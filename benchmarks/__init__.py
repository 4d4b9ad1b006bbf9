"""Stages of the pipeline, the command line, the published tables (one YAML file each) and the speed benchmarks."""

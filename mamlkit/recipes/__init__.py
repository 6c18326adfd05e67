"""The scripts that made what ships, weights, records and drawings: run one as ``python -m mamlkit.recipes.NAME``."""

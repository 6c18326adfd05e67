"""The scripts that made the weights that ship: run one as ``python -m mamlkit.recipes.NAME``."""

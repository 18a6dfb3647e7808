"""The temperature that a model's authors meant: what its configuration does to scores, layer by layer."""

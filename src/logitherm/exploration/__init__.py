"""Boltzmann policies: exploitation against curiosity, at a temperature that is measured or set."""

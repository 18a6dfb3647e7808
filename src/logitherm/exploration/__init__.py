"""Boltzmann policies: exploitation against curiosity, at a temperature that is measured or set."""

from logitherm.exploration.algorithms import (
    UCB1,
    Algorithm,
    BanditAgent,
    Boltzmann,
    BoltzmannGumbel,
    EpsilonGreedy,
    Thompson,
)
from logitherm.exploration.bandits import BernoulliBandit, GaussianBandit, Simulation, simulate

__all__ = [
    "UCB1",
    "Algorithm",
    "BanditAgent",
    "BernoulliBandit",
    "Boltzmann",
    "BoltzmannGumbel",
    "EpsilonGreedy",
    "GaussianBandit",
    "Simulation",
    "Thompson",
    "simulate",
]

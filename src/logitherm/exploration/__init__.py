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
from logitherm.exploration.tabular import GapShare, SoftQLearning

__all__ = [
    "UCB1",
    "Algorithm",
    "BanditAgent",
    "BernoulliBandit",
    "Boltzmann",
    "BoltzmannGumbel",
    "EpsilonGreedy",
    "GapShare",
    "GaussianBandit",
    "Simulation",
    "SoftQLearning",
    "Thompson",
    "simulate",
]

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
from logitherm.exploration.duals import mpo_dual, mpo_temperature, reps_temperature, vmpo_temperature
from logitherm.exploration.entropy_target import (
    EntropyTarget,
    check_entropy_target,
    entropy_target,
    sac_temperature,
    sac_temperature_loss,
)
from logitherm.exploration.log_prob_check import LogProbCheck, check_log_prob
from logitherm.exploration.mellowmax import MellowmaxTemperature, mellowmax, mellowmax_temperature, soft_value
from logitherm.exploration.policy import BoltzmannPolicy
from logitherm.exploration.ratios import importance_ratio, logprob_at
from logitherm.exploration.tabular import SoftQLearning

__all__ = [
    "UCB1",
    "Algorithm",
    "BanditAgent",
    "BernoulliBandit",
    "Boltzmann",
    "BoltzmannGumbel",
    "BoltzmannPolicy",
    "EntropyTarget",
    "EpsilonGreedy",
    "GaussianBandit",
    "LogProbCheck",
    "MellowmaxTemperature",
    "Simulation",
    "SoftQLearning",
    "Thompson",
    "check_entropy_target",
    "check_log_prob",
    "entropy_target",
    "importance_ratio",
    "logprob_at",
    "mellowmax",
    "mellowmax_temperature",
    "mpo_dual",
    "mpo_temperature",
    "reps_temperature",
    "sac_temperature",
    "sac_temperature_loss",
    "simulate",
    "soft_value",
    "vmpo_temperature",
]

"""What a step takes and what it is predicted to take, each for a process that has done nothing else."""

import torch
import torch._dynamo  # the optimiser imports it: here once, instead of in every process

from bench.probes.tensor_bytes import TensorBytes
from bench.records.run import Prediction
from bench.steps.prediction import predict
from bench.steps.step import Step
from bench.suites.case import Case


def measured(case: Case) -> int:
    """Peak bytes of a second step, which draws the dropout that the activation rate was set with."""
    step = Step(case, "cpu")
    step.calibrate()
    state = torch.get_rng_state()
    step()
    torch.set_rng_state(state)
    with TensorBytes(step.live()) as watched:
        step()
    return watched.peak


def predicted(case: Case) -> Prediction:
    return predict(case, "cpu")

"""Opacus as a contender of `benchmarks.dp_sgd_step`, in an environment of its own.

It answers as `benchmarks.dp_sgd_contender` does, and imports nothing of tfpriv.
"""

import json
import resource
import sys
import time
import warnings

import numpy as np
import torch
from opacus import PrivacyEngine
from torch import nn

_WARM_UP = 3
# As dp_sgd_contender has them, which this environment cannot import.
_IN_A_ROW, _LONGEST_SECONDS = 20, 1.0

MODELS = {
    "cnn_tutorial": lambda: nn.Sequential(
        nn.ZeroPad2d(3),
        nn.Conv2d(1, 16, 8, 2),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(512, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    ),
    "2nn": lambda: nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 200),
        nn.ReLU(),
        nn.Linear(200, 200),
        nn.ReLU(),
        nn.Linear(200, 10),
    ),
    "cnn_mcmahan": lambda: nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 512),
        nn.ReLU(),
        nn.Linear(512, 10),
    ),
}


def build(mode: str, name: str, size: int):
    """Returns a function that takes a step.

    Args:
        mode: "plain" for PyTorch without privacy, or one of Opacus's "hooks", "ghost" and "ew".
        name: A key of `MODELS`.
        size: The batch size.
    """
    torch.manual_seed(0)
    model, criterion = MODELS[name](), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    generator = np.random.default_rng(0)
    features = torch.from_numpy(generator.random((size, 1, 28, 28), np.float32))
    labels = torch.from_numpy(generator.integers(10, size=size))
    if mode != "plain":
        data = torch.utils.data.TensorDataset(features, labels)
        made = PrivacyEngine().make_private(
            module=model,
            optimizer=optimizer,
            criterion=criterion,
            data_loader=torch.utils.data.DataLoader(data, batch_size=size),
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            poisson_sampling=False,
            grad_sample_mode=mode,
        )
        model, optimizer, *rest = made
        criterion = rest[0] if mode == "ghost" else criterion

    def step():
        optimizer.zero_grad()
        criterion(model(features), labels).backward()
        optimizer.step()

    return step


def main() -> None:
    """Runs the mode and model that the job in the first argument names."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    job = json.loads(sys.argv[1])
    step = build(job["contender"].removeprefix("opacus_"), job["model"], job["batch_size"])
    for _ in range(_WARM_UP):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        start, taken, seconds = time.perf_counter(), 0, 0.0
        while taken < _IN_A_ROW and seconds < _LONGEST_SECONDS:
            step()
            taken += 1
            seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(json.dumps({"seconds": seconds / taken, "peak_mb": peak}), flush=True)


if __name__ == "__main__":
    main()

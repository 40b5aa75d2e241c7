"""The same network, data and optimiser by SpikingJelly, in an environment of its own (torch, spikingjelly):

    python spikingjelly_peer.py DATA.npz SETTINGS.json

prints JSON: accuracy on the held-out recordings, and the times of its updates. Needs nothing of brainsim.
"""

import json
import sys
import time

import numpy as np
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

SIDE, SPAN = 34, 300_000


def load(path, steps):
    """As `model.load`, with channels first."""
    with np.load(path) as z:
        z = dict(z)
    sample = np.repeat(np.arange(len(z["label"])), np.diff(z["offsets"]))
    inside = z["t"] < SPAN
    step = z["t"][inside].astype(np.int64) * steps // SPAN
    frames = np.zeros((len(z["label"]), steps, 2, SIDE, SIDE), np.float32)
    frames[sample[inside], step, z["polarity"][inside], z["y"][inside], z["x"][inside]] = 1.0
    return torch.from_numpy(frames), torch.from_numpy(z["label"].astype(np.int64)), z["split"] == 1


class Net(nn.Module):
    def __init__(self, c):
        super().__init__()
        one, two = c["channels"]

        def lif():  # v <- keep v + x, as the network of brainsim has it
            tau = 1 / (1 - c["keep"])
            return neuron.LIFNode(tau, decay_input=False, surrogate_function=surrogate.ATan(), detach_reset=True)

        self.spiking = nn.Sequential(
            layer.Conv2d(2, one, 5, stride=2, padding=2, bias=False),
            lif(),
            layer.Conv2d(one, two, 3, stride=2, padding=1, bias=False),
            lif(),
        )
        functional.set_step_mode(self.spiking, "m")
        self.windows = c["windows"]
        self.readout = nn.Sequential(nn.Dropout(c["drop"]), nn.Linear(9 * 9 * two * c["windows"], 10, bias=False))
        for conv in (self.spiking[0], self.spiking[2]):
            nn.init.normal_(conv.weight, std=1.5 / conv.weight[0].numel() ** 0.5)

    def forward(self, x):  # (batch, steps, 2, 34, 34)
        s = self.spiking(x.transpose(0, 1))
        counts = s.reshape(self.windows, -1, *s.shape[1:]).sum(1)
        return self.readout(counts.transpose(0, 1).flatten(1))


def train(data, c, seed):
    torch.manual_seed(seed)
    x, y, held = data
    net, rng = Net(c), np.random.default_rng(seed)
    train_on = np.flatnonzero(~held)
    batches = len(train_on) // c["batch"]
    optimiser = torch.optim.AdamW(net.parameters(), lr=c["rate"], weight_decay=c["decay"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, c["epochs"] * batches)
    wall, cpu = [], []
    for _ in range(c["epochs"]):
        for chosen in rng.permutation(train_on)[: batches * c["batch"]].reshape(batches, -1):
            began, busy = time.perf_counter(), time.process_time()
            moves = rng.integers(-c["shift"], c["shift"] + 1, (len(chosen), 2)).tolist()
            some = torch.stack([torch.roll(x[i], move, (-2, -1)) for i, move in zip(chosen, moves)])
            loss = nn.functional.cross_entropy(net(some), y[chosen], label_smoothing=c["smoothing"])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            functional.reset_net(net)
            wall.append(time.perf_counter() - began)
            cpu.append(time.process_time() - busy)
    net.eval()
    with torch.no_grad():
        right = net(x[held]).argmax(1) == y[held]
        functional.reset_net(net)
    return {
        "seed": seed,
        "accuracy": float(right.float().mean()),
        "update_s": float(np.median(wall[5:])),
        "update_cpu_s": float(np.median(cpu[5:])),
    }


def main():
    with open(sys.argv[2]) as file:
        c = json.load(file)
    torch.set_num_threads(c["threads"])
    data = load(sys.argv[1], c["steps"])
    print(json.dumps([train(data, c, seed) for seed in c["seeds"]]))


main()

"""Steps of Adam."""

import torch

from crystalgan.model.learning import Adam


def test_steps_are_those_of_torchs_own_class():
    rng = torch.Generator().manual_seed(0)
    shapes = ((3, 4, 5), (3, 1, 5))
    ours, theirs = ([torch.nn.Parameter(torch.ones(shape)) for shape in shapes] for _ in range(2))
    adam = Adam(ours, 1e-2, (0.5, 0.999))
    torchs = torch.optim.Adam(theirs, 1e-2, (0.5, 0.999), fused=True)
    for _ in range(5):
        gradients = [torch.randn(shape, generator=rng) for shape in shapes]
        adam.step(gradients)
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient
        torchs.step()
    for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        assert one.equal(other)
        assert adam.state.keys() == torchs.state[other].keys()
        assert all(each[i].equal(torchs.state[other][part]) for part, each in adam.state.items())

"""Causal depthwise convolution over a few steps, which modern recurrent layers have before their memory."""

from torch import Tensor, nn

from implementations.decoding import State, push, window


class ShortConv(nn.Conv1d):
    """`y_t = Σ_j w_j x_{t − width + 1 + j}` for each channel: `(batch, length, dim)` to the same."""

    def __init__(self, dim: int, width: int, bias: bool = True) -> None:
        super().__init__(dim, dim, width, groups=dim, padding=width - 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == 0:
            return x
        return super().forward(x.mT)[..., : x.shape[1]].mT

    def state_after(self, x: Tensor, room: int) -> State:
        """The last inputs `(batch, width, dim)`."""
        return State((window(x, self.kernel_size[0]),))

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        (inputs,) = state.memory
        push(inputs, x)
        y = (inputs * self.weight.squeeze(1).T).sum(dim=1)
        return y if self.bias is None else y + self.bias

"""Recurrent layers over x (steps, batch, inputs).

Where the documentation leaves a choice, the tests that coremltools runs against Apple's own
implementation decide: what ``clip`` bounds, where the reset gate of a GRU acts, and that a
reversed layer puts out its steps in the order in which it made them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lpa_export.runtimes.coreml.call import Call, Handler

__all__ = ["TABLE"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0.0, 1.0),
    "linear": lambda x: x,
    "relu": torch.relu,
    "scaled_tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "sigmoid_hard": lambda x: (0.2 * x + 0.5).clamp(0.0, 1.0),
    "tanh": torch.tanh,
}


def _activation(call: Call, name: str, default: str) -> Callable[[Tensor], Tensor]:
    return _ACTIVATIONS[call.text(name, default).lower()]


def _bias(call: Call, name: str, size: int) -> Tensor:
    bias = call.optional(name)
    return torch.zeros(size) if bias is None else bias


def _steps(call: Call) -> Tensor:
    x = call.tensor("x")
    return x.flip(0) if call.text("direction", "forward") == "reverse" else x


def _initial(call: Call, name: str) -> Tensor:
    """A first state (batch, hidden).

    For packed sequences coremltools writes one with as many rows as the longest has steps: those
    beyond the batch are for nobody.
    """
    return call.tensor(name)[: call.tensor("x").shape[1]]


def _put_out(call: Call, states: list[Tensor]) -> tuple[Tensor, Tensor]:
    """All hidden states, or the last one alone; and the last one again."""
    kept = states if call.flag("output_sequence", False) else states[-1:]
    return torch.stack(kept), states[-1]


def _rnn(call: Call) -> tuple[Tensor, ...]:
    activation, weight = _activation(call, "activation", "tanh"), call.tensor("weight_hh")
    given = _steps(call) @ call.tensor("weight_ih").T + _bias(call, "bias", len(weight))
    h, states = _initial(call, "initial_h"), []
    for step in given:
        h = activation(step + h @ weight.T)
        states.append(h)
    return _put_out(call, states)


def _gru(call: Call) -> tuple[Tensor, ...]:
    """Gates in the order reset, output, update.

    The reset gate scales the hidden state, or with ``reset_after`` what the recurrent weights
    make of it.
    """
    gate, activation = (
        _activation(call, "recurrent_activation", "sigmoid"),
        _activation(call, "activation", "tanh"),
    )
    weight_r, weight_o, weight_z = call.tensor("weight_hh").chunk(3)
    bias_r, bias_o, bias_z = _bias(call, "bias", len(weight_r) * 3).chunk(3)
    given = _steps(call) @ call.tensor("weight_ih").T
    given = given + _bias(call, "input_bias", len(weight_r) * 3)
    after = call.flag("reset_after", False)
    h, states = _initial(call, "initial_h"), []
    for step in given:
        in_r, in_o, in_z = step.chunk(3, -1)
        r = gate(in_r + h @ weight_r.T + bias_r)
        z = gate(in_z + h @ weight_z.T + bias_z)
        recurrent = r * (h @ weight_o.T + bias_o) if after else (r * h) @ weight_o.T + bias_o
        h = (1 - z) * activation(in_o + recurrent) + z * h
        states.append(h)
    return _put_out(call, states)


@dataclass(frozen=True)
class _Cell:
    """One direction of an LSTM; gates in the order input, forget, output, cell."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias: Tensor
    peephole: Tensor
    gate: Callable[[Tensor], Tensor]
    cell: Callable[[Tensor], Tensor]
    activation: Callable[[Tensor], Tensor]
    clip: float

    def run(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[list[Tensor], Tensor]:
        """Hidden states in the order of ``x``, and the last cell state."""
        peep_i, peep_f, peep_o = self.peephole.chunk(3)
        states = []
        for step in x @ self.weight_ih.T + self.bias:
            in_i, in_f, in_o, in_z = (step + h @ self.weight_hh.T).chunk(4, -1)
            kept = self.gate(in_f + peep_f * c) * c
            c = kept + self.gate(in_i + peep_i * c) * self.cell(in_z)
            c = c.clamp(-self.clip, self.clip)
            h = self.gate(in_o + peep_o * c) * self.activation(c)
            states.append(h)
        return states, c


def _cell(call: Call, suffix: str) -> _Cell:
    weight = call.tensor("weight_hh" + suffix)
    return _Cell(
        call.tensor("weight_ih" + suffix),
        weight,
        _bias(call, "bias" + suffix, len(weight)),
        _bias(call, "peephole" + suffix, 3 * weight.shape[1]),
        _activation(call, "recurrent_activation", "sigmoid"),
        _activation(call, "cell_activation", "tanh"),
        _activation(call, "activation", "tanh"),
        call.number("clip", float("inf")),
    )


def _lstm(call: Call) -> tuple[Tensor, ...]:
    h, c = _initial(call, "initial_h"), _initial(call, "initial_c")
    if call.text("direction", "forward") != "bidirectional":
        states, c = _cell(call, "").run(_steps(call), h, c)
        return (*_put_out(call, states), c)
    x, (h_there, h_back), (c_there, c_back) = call.tensor("x"), h.chunk(2, -1), c.chunk(2, -1)
    there, c_there = _cell(call, "").run(x, h_there, c_there)
    back, c_back = _cell(call, "_back").run(x.flip(0), h_back, c_back)
    last = torch.cat([there[-1], back[-1]], -1)
    # Both directions side by side are in the order of the input.
    whole = torch.cat([torch.stack(there), torch.stack(back[::-1])], -1)
    states = list(whole) if call.flag("output_sequence", False) else [last]
    return torch.stack(states), last, torch.cat([c_there, c_back], -1)


TABLE: dict[str, Handler] = {"gru": _gru, "lstm": _lstm, "rnn": _rnn}

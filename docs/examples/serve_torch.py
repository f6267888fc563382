"""A defence in a process of its own, in any PyTorch: `--defence "cmd: python serve_torch.py model.pt"`.

What stands between the lines of dashes is the protocol; the rest is the defence: a TorchScript module behind
dropout of pixels, with torch's global generator, as its authors might have written it.
"""

import io
import struct
import sys

import numpy as np
import torch


class Dropped(torch.nn.Module):
    """Answers with a tenth of the pixels left out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(torch.nn.functional.dropout(x, 0.1))


# --------------------------------------------------------------------------------
reading, writing = sys.stdin.buffer, sys.stdout.buffer
sys.stdout = sys.stderr  # what anything prints is no message
device = "cuda" if torch.cuda.is_available() else "cpu"


def send(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    writing.write(struct.pack("<q", buffer.tell()) + buffer.getvalue())
    writing.flush()


def serve(module, **declared):
    send(**declared)
    for start in iter(lambda: reading.read(8), b""):
        question = np.load(io.BytesIO(reading.read(*struct.unpack("<q", start))))
        try:
            torch.manual_seed(int(question["seed"]))  # the same draw is the same seed
            x = torch.from_numpy(question["x"]).to(device).requires_grad_("v" in question)
            with torch.set_grad_enabled("v" in question):
                logits = module(x)
            if "v" in question:
                v = torch.from_numpy(question["v"]).to(device)
                send(vjp=torch.autograd.grad(logits, x, v)[0].cpu().numpy())
            else:
                send(logits=logits.detach().cpu().numpy())
        except Exception as error:
            send(error=f"{type(error).__name__}: {error}")


# --------------------------------------------------------------------------------
model = torch.jit.load(sys.argv[1], map_location=device).eval()
serve(Dropped(model), name="dropped", randomised=True, batch_dependent=False, gradients=True)

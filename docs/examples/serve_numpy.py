"""A defence in a process of its own, without torch: `--defence "cmd: python serve_numpy.py weights.npz"`.

What stands between the lines of dashes is the protocol and fits any framework; the rest is the defence, here
two layers behind Gaussian noise, with their gradient written out. In JAX and TensorFlow it is

    logits, pull = jax.vjp(network, x)                  gradient = lambda v: pull(v)[0]
    with tf.GradientTape() as tape: tape.watch(x) ...   gradient = lambda v: tape.gradient(logits, x, v)
"""

import io
import struct
import sys

import numpy as np

SIGMA = 0.1


def logits_and_gradient(x, seed):
    """Logits [k, classes] of x [k, C, H, W] in [0, 1]; and v [k, classes] -> gradient of sum(v * logits)."""
    noise = np.random.RandomState(seed).normal(0, SIGMA, x.shape).astype(np.float32)
    flat = (x + noise).reshape(len(x), -1)
    hidden = np.tanh(flat @ weights["w1"] + weights["b1"])
    logits = hidden @ weights["w2"] + weights["b2"]

    def gradient(v):
        return ((v @ weights["w2"].T) * (1 - hidden**2) @ weights["w1"].T).reshape(x.shape)

    return logits, gradient


# --------------------------------------------------------------------------------
reading, writing = sys.stdin.buffer, sys.stdout.buffer
sys.stdout = sys.stderr  # what anything prints is no message


def send(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    writing.write(struct.pack("<q", buffer.tell()) + buffer.getvalue())
    writing.flush()


def serve(**declared):
    send(**declared)
    for start in iter(lambda: reading.read(8), b""):
        question = np.load(io.BytesIO(reading.read(*struct.unpack("<q", start))))
        try:
            logits, gradient = logits_and_gradient(question["x"], int(question["seed"]))
            send(vjp=gradient(question["v"])) if "v" in question else send(logits=logits)
        except Exception as error:
            send(error=f"{type(error).__name__}: {error}")


# --------------------------------------------------------------------------------
weights = np.load(sys.argv[1])
serve(name="noisy-numpy", randomised=True, batch_dependent=False, gradients=True)

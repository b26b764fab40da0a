"""Train a network on a chip, and read its accuracy and weights back.

python examples/train_on_chip.py [sim | model | /dev/ttyUSB0]
"""

import sys

from locallearn.host.connect import connect
from locallearn.host.datasets import epoch_order, load
from locallearn.quant.errors import DeviceError, StateLost
from locallearn.quant.spec import load_spec

spec, data = load_spec("digits"), load("digits")
target = sys.argv[1] if len(sys.argv) > 1 else "sim"
try:
    with connect(spec, target) as device:
        device.reset()
        for epoch in range(3):
            device.set_decay(spec.decay_at(epoch))
            order = epoch_order(spec.training.seed, epoch, len(data.train_x), None)
            device.stream(data.train_x[order], data.train_y[order])
            tested = device.stream(data.test_x, None)
            print(f"epoch {epoch + 1}: {tested.accuracy(data.test_y)[-1]:.2f} % of {len(tested)} samples")
        for name, weights in zip(device.plan.arrays, device.read_weights(), strict=True):
            print(f"{name}: {weights.shape}, {weights.min()} to {weights.max()}")
except StateLost as lost:
    sys.exit(f"{lost}: begin again from weights that were read before")
except DeviceError as error:
    sys.exit(str(error))

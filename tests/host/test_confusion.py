"""The confusion matrix, counted one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from locallearn.host.confusion import confusion


@given(st.integers(2, 6), st.integers(1, 3), st.data())
def test_counts(classes: int, layers: int, data: st.DataObject) -> None:
    label = st.integers(0, classes - 1)
    samples = data.draw(st.lists(st.tuples(label, *[label] * layers), min_size=1, max_size=20))
    table = np.array(samples, np.int64)
    found = confusion(table[:, 1:], table[:, 0], classes)
    expected = np.zeros((layers, classes, classes), np.int64)
    for true, *predicted in samples:
        for layer, answer in enumerate(predicted):
            expected[layer][true][answer] += 1
    np.testing.assert_array_equal(found, expected, strict=True)

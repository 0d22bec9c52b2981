"""Checks the wheel named on the command line: what is in it, and that the installed package computes.

Run by an interpreter that has that wheel installed and nothing else of the project in its path.
"""

import sys
import zipfile

import numpy as np

import depthwise

files = set(zipfile.ZipFile(sys.argv[1]).namelist())
needed_files = [
    "depthwise/py.typed",
    "depthwise/_native.pyi",
    "depthwise/_tensorflow_op.so",
    "depthwise/_xla_ffi.so",
]
for needed in needed_files:
    if needed not in files:
        sys.exit(f"{needed} is missing from {sys.argv[1]}")
if "site-packages" not in depthwise.__file__:
    sys.exit(f"the package was imported from {depthwise.__file__}, not from the wheel")

image = np.arange(2 * 4 * 5 * 3, dtype=np.float32).reshape(2, 4, 5, 3)
kernel = np.zeros((3, 3, 3, 2), np.float32)
kernel[1, 1] = [1, 2]  # the centre tap alone: every channel comes out as it is, and doubled
result = depthwise.depthwise_conv2d(image, kernel, padding="same")
if not np.array_equal(result, (image[..., None] * [1, 2]).reshape(2, 4, 5, 6)):
    sys.exit("the installed package computes something else than the identity and its double")
print(depthwise.info())

# SPDX-License-Identifier: Apache-2.0
"""The released hatch has no dynamic section and asks for no interpreter."""

import struct
import unittest

from hatch import testing

PT_DYNAMIC, PT_INTERP = 2, 3


class StaticTest(unittest.TestCase):
    def test_program_headers(self):
        with open(testing.HATCH, "rb") as file:
            image = file.read()
        self.assertEqual(image[:5], b"\x7fELF\x02")  # 64 bits
        (offset,) = struct.unpack_from("<Q", image, 32)
        size, count = struct.unpack_from("<HH", image, 54)
        types = [struct.unpack_from("<I", image, offset + i * size)[0] for i in range(count)]
        self.assertTrue(types)
        self.assertNotIn(PT_DYNAMIC, types)
        self.assertNotIn(PT_INTERP, types)


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: Apache-2.0
"""extract_vmlinux.py OUT [VMLINUZ]: the ELF file inside a compressed kernel image; an empty file if there is none."""

import lzma
import subprocess
import sys

XZ, ZSTD, ELF = b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x7fELF"


def positions(data, magic):
    at = data.find(magic)
    while at >= 0:
        yield at
        at = data.find(magic, at + 1)


def unpack(image):
    # The unpacking code holds the magic numbers too, so the first hit may be a false one.
    for at in positions(image, XZ):
        try:
            elf = lzma.LZMADecompressor().decompress(image[at:])
        except lzma.LZMAError:
            continue
        if elf.startswith(ELF):
            return elf
    for at in positions(image, ZSTD):
        # Fails because of what stands behind the frame, after it has written the frame.
        elf = subprocess.run(["zstd", "-dcq"], input=image[at:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
        if elf.startswith(ELF):
            return elf
    sys.exit("extract_vmlinux: the kernel image holds no ELF file packed with xz or zstd")


def main():
    out, images = sys.argv[1], sys.argv[2:]
    elf = b""
    if images:
        with open(images[-1], "rb") as f:
            elf = unpack(f.read())
    with open(out, "wb") as f:
        f.write(elf)


if __name__ == "__main__":
    main()

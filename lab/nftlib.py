# SPDX-License-Identifier: GPL-2.0-or-later
"""nft transactions without a process each: libnftables in a machine of the lab, for changes in quick succession."""

import ctypes
import functools
import json

_STATELESS, _HANDLE, _JSON = 1 << 2, 1 << 3, 1 << 4


@functools.cache
def _library():
    library = ctypes.CDLL("libnftables.so.1")
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    for name in ("output", "error"):
        getattr(library, f"nft_ctx_buffer_{name}").argtypes = [ctypes.c_void_p]
        get = getattr(library, f"nft_ctx_get_{name}_buffer")
        get.argtypes, get.restype = [ctypes.c_void_p], ctypes.c_char_p
    return library


class Nft:
    """`with Nft(node) as nft: nft("add table ip x")`; returns what nft prints, RuntimeError with its complaint."""

    def __init__(self, node):
        self.node, self._library = node, _library()
        with node.ns:
            self._context = self._library.nft_ctx_new(0)
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def __call__(self, text):
        with self.node.ns:
            failed = self._library.nft_run_cmd_from_buffer(self._context, text.encode())
        output = self._library.nft_ctx_get_output_buffer(self._context).decode()
        error = self._library.nft_ctx_get_error_buffer(self._context).decode()
        if failed:
            raise RuntimeError(f"{text}: {error}")
        return output

    def objects(self, what="ruleset"):
        """What `nft -j list` tells, without counters: a list of (kind, dictionary with its handle)."""
        self._library.nft_ctx_output_set_flags(self._context, _STATELESS | _HANDLE | _JSON)
        try:
            listed = json.loads(self(f"list {what}"))["nftables"]
        finally:
            self._library.nft_ctx_output_set_flags(self._context, 0)
        return [item for entry in listed for item in entry.items() if item[0] != "metainfo"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._library.nft_ctx_free(self._context)

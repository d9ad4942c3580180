# SPDX-License-Identifier: MIT OR Apache-2.0
"""The exception that users see: one sentence that says what is wrong and how to fix it."""


class ExportError(Exception):
    """Something cannot be exported, or not on this machine. The text says why and how to fix it."""

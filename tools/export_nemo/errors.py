# SPDX-License-Identifier: MIT OR Apache-2.0
"""The one exception that a user sees: a sentence that says what is wrong and what to do."""


class Refusal(Exception):
    """Something cannot be exported, or not here. The text is one sentence with its cure."""

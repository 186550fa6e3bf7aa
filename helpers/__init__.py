"""Plumbing for the notebooks: data, text, training, evaluation, plots, runs and reports.

The lesson stays in the notebooks; what two of them need lives here, once. Importing this package imports no TensorFlow.
"""

__version__ = "0.1.0"


class InputError(ValueError):
    """A mistake in what the user gave, told in one sentence that names the thing and the way out.

    The command line prints it and exits with status 2. A notebook shows the sentence alone, without a traceback.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"InputError: {self}"]


def printable(text: object) -> str:
    """Returns a text in one line, without the commands of a terminal that data may hold."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())

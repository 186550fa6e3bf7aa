"""For the sweep, until it takes these from :mod:`helpers.commands.run`."""

from helpers.commands.run import Plan, find_notebook, named_files, plan

__all__ = ["Plan", "find_notebook", "named_files", "plan"]
Plan.mark = property(lambda run: run.fingerprint)
Plan.mask = lambda run, text: text

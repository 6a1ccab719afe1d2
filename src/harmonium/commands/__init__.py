"""What the commands of the command line do, a module for each kind of work.

A command's function takes the parsed arguments; :mod:`harmonium.cli` names it.
"""

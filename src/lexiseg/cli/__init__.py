"""The command line: each command is one small file that turns options into a call of the library and its
answer into lines on a terminal. No logic lives here; results go to standard output, talk to standard error.
"""

"""From a checkpoint to verified artifacts.

`pipeline` is the public `convert`; `plan` says which files it makes, `folder` makes one artifact of each, `job` is what
a child process does for it, and `phone_file` the conversion of one network to one file.
"""

"""What stands beside the weights: `config.json` and `preprocessor_config.json`, as transformers and timm write them.

    keys           a JSON file whose keys are each taken, known to be harmless, or named
    network        keys that say what the network is: what they must be for the network that the weights show
    preprocessing  keys that say how images are prepared
    files          both files beside a checkpoint, and what they say of it

A key that changes the network or its input is followed, or refused by name. No key is passed over silently.
"""

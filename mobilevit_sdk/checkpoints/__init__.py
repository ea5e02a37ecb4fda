"""Checkpoints, loaded one way. A module imports only modules that stand above it:

    hub           the weights of `hf-hub:org/name`, with the files beside them
    labels        class names from a file of text or JSON
    torch_file    what torch.save wrote, without executing any of it
    tensor_file   1. read: a file of either format -> names and tensors
    checkpoint    the result: network, spec, origin; and how our own files are written
    key_maps      how each release names the tensors of our networks
    match         how the names and shapes of a file fit those of one network
    beside        what stands beside a file: config.json and preprocessor_config.json, followed or refused by name
    preparation   how a caller wants a checkpoint fed, over what the file and those beside it say
    identify      2. identify: names and shapes -> the network that they fit
    fill          3. build that network on the meta device, and  4. fill it with the tensors
    load          the four steps in order: `load_checkpoint`, `load_weights`

Everything else here uses them: `inspection`, `export`, `random_checkpoint`, `source`.
"""

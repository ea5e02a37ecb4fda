"""Forward hooks that are removed at the end of a block, also when it ends with an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

# (module, inputs) -> None, or the inputs to use instead; (module, inputs, output) -> None, or the output to use instead
PreHook = Callable[[nn.Module, tuple[Any, ...]], Any]
Hook = Callable[[nn.Module, tuple[Any, ...], Any], Any]


@contextmanager
def forward_hooks(
    *, before: Iterable[tuple[nn.Module, PreHook]] = (), after: Iterable[tuple[nn.Module, Hook]] = ()
) -> Iterator[None]:
    """Call each hook of `before` ahead of its module's forward, and each of `after` behind it, within the block.

    Hooks of one module run in the order given. Source: `torch.nn.Module.register_forward_pre_hook` and
    `register_forward_hook`, whose handles remove the hook when their own block ends.
    """
    with ExitStack() as handles:
        for module, pre_hook in before:
            handles.enter_context(module.register_forward_pre_hook(pre_hook))
        for module, hook in after:
            handles.enter_context(module.register_forward_hook(hook))
        yield
